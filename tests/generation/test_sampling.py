"""What is written behind prompts: the same cached or not, alone or beside others."""

import pytest
import torch

from research_eval.generation import Decoding
from research_eval.generation.sampling import Batch, Draws, choose, write_on
from research_eval.registry import MODELS_MAP
from research_eval.spec import Past
from research_eval.testing.subject import Subject

PROMPTS = [[3, 1, 4, 1, 5], [2, 7], [1, 8, 2]]
CACHING = ["dense", "gnn_moe", "hgnn_moe", "moe"]


def network_of(model, **params):
    subject = Subject.of(MODELS_MAP[model], "language_modeling", num_layers=2, **params)
    return subject.network().eval()


def written(network, prompts, how, *, places=None, cached=True):
    batch = Batch(prompts=prompts, places=places or range(len(prompts)))
    rows = [[] for _ in prompts]
    for step in write_on(network, batch, how, cached=cached):
        for row, token in step.items():
            rows[row].append(token)
    return rows


@pytest.mark.parametrize("positions", ["learned", "rope", "none"])
@pytest.mark.parametrize("model", CACHING)
def test_rows_read_piece_by_piece_are_read_as_a_whole(model, positions):
    network = network_of(model, positions=positions)
    ids_BL = torch.randint(1, 8, (3, 8))
    past = Past(8)
    with torch.no_grad():
        whole_BLV = network.logits(ids_BL, None)
        for start, end in [(0, 3), (3, 4), (4, 7), (7, 8)]:
            found_BV = network.next_logits(ids_BL[:, start:end], past)
            torch.testing.assert_close(found_BV, whole_BLV[:, end - 1], rtol=1e-4, atol=1e-5)


def test_bodies_say_whether_they_can():
    assert [name for name in sorted(MODELS_MAP) if network_of(name).takes_past()] == CACHING


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("model", sorted(MODELS_MAP))
def test_cached_and_uncached_write_the_same(model, temperature):
    network = network_of(model)
    how = Decoding(max_new_tokens=3, temperature=temperature)
    with_cache = written(network, PROMPTS, how)
    assert with_cache == written(network, PROMPTS, how, cached=False)
    assert [len(row) for row in with_cache] == [3, 3, 3]


@pytest.mark.parametrize("model", ["moe", "goe"])
def test_a_prompt_is_continued_as_if_it_were_alone(model):
    network, how = network_of(model), Decoding(max_new_tokens=3)
    together = written(network, PROMPTS, how)
    alone = [
        written(network, [prompt], how, places=[place])[0] for place, prompt in enumerate(PROMPTS)
    ]
    assert together == alone


def test_the_seed_decides():
    network = network_of("dense")
    first, again, other = (
        written(network, PROMPTS, Decoding(max_new_tokens=4, seed=seed)) for seed in (0, 0, 1)
    )
    assert first == again != other


def test_writing_ends_with_the_positions():
    network = network_of("dense", max_positions=12)
    rows = written(network, [[1] * 12, [1] * 10], Decoding(max_new_tokens=5))
    assert [len(row) for row in rows] == [1, 3]  # what follows the last position can be said


def test_rows_that_are_done_get_no_more():
    network, batch = network_of("dense"), Batch(prompts=[[1], [2]], places=[0, 1])
    steps = []
    for step in write_on(network, batch, Decoding(max_new_tokens=3)):
        steps.append(sorted(step))
        batch.done.add(0)
    assert steps == [[0, 1], [1], [1]]


LOGITS_BV = torch.tensor([[0.5, 0.2, 0.25, 0.05]]).log()


def drawn(how):
    """Return the share of each token among evenly spread draws."""
    uniform_B = (torch.arange(1000) + 0.5) / 1000
    tokens_B = choose(LOGITS_BV.expand(1000, -1), uniform_B, how)
    return (torch.bincount(tokens_B, minlength=4) / 1000).tolist()


@pytest.mark.parametrize(
    ("how", "shares"),
    [
        ({}, [0.5, 0.2, 0.25, 0.05]),
        ({"temperature": 0.5}, [0.25 / 0.355, 0.04 / 0.355, 0.0625 / 0.355, 0.0025 / 0.355]),
        ({"top_k": 2}, [2 / 3, 0, 1 / 3, 0]),
        ({"top_k": 9}, [0.5, 0.2, 0.25, 0.05]),
        ({"top_p": 0.6}, [2 / 3, 0, 1 / 3, 0]),
        ({"top_p": 0.4}, [1, 0, 0, 0]),
        ({"temperature": 0}, [1, 0, 0, 0]),
        ({"top_k": 1}, [1, 0, 0, 0]),
    ],
    ids=str,
)
def test_tokens_are_drawn_as_asked(how, shares):
    assert drawn(Decoding(**how)) == pytest.approx(shares, abs=2e-3)


def test_a_stream_moves_only_where_its_number_is_wanted():
    waiting, going = Draws(0, [0, 1]), Draws(0, [1])
    waiting.next([True, False])
    assert waiting.next([True, True])[1] == going.next([True])[0]
