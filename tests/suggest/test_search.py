"""Where points come from, and which of them are proposed."""

import itertools
import math
from typing import Annotated, ClassVar

import numpy as np
import pytest

from research_eval.hpo.space import Space
from research_eval.knobs import AtMost, Choice, Divides, LogUniform, Params, Uniform
from research_eval.repair import check, mend
from research_eval.suggest import moves
from research_eval.suggest.axes import Encoding, Point
from research_eval.suggest.evidence import Outcome, Tried, seed_noise, targets
from research_eval.suggest.portfolio import Portfolio
from research_eval.suggest.surrogate import MOST, _kept
from research_eval.suggest.warm_tpe import warm_tpe


class Knobs(Params):
    lr: Annotated[float, LogUniform(1e-4, 1e-1)] = 1e-3
    dropout: Annotated[float, Uniform(0.0, 0.3, step=0.05)] = 0.0
    layers: Annotated[int, Uniform(1, 4)] = 2
    width: Annotated[int, Choice(32, 64, 96)] = 64
    heads: Annotated[int, Choice(2, 3, 4)] = 2
    top_k: Annotated[int, Choice(1, 2, 4)] = 2
    experts: Annotated[int, Choice(2, 4, 8)] = 4
    norm: Annotated[str, Choice("pre", "post", "none")] = "pre"

    constraints: ClassVar = (Divides("heads", "width"), AtMost("top_k", "experts"))


INTEGERS = frozenset({"layers", "width", "heads", "top_k", "experts"})
SPACE = {"moe": Space(Knobs.knobs(), INTEGERS)}
AXES = Encoding(SPACE).axes["moe"]


def legal(point):
    return Point(point.arm, mend(Knobs, point.params))


def loss(point):
    p = point.params
    return (
        math.log10(p["lr"] / 3e-3) ** 2 + abs(p["layers"] - 3) * 0.2 + (p["norm"] != "post") * 0.5
    )


def tried(point, *losses, outcome=Outcome.COMPLETED, run="r", seconds=None):
    return Tried(point, outcome, losses, seconds, run)


def history(n, seed=0):
    rng = np.random.default_rng(seed)
    points = {p.key(): p for p in (legal(moves.anywhere("moe", AXES, rng)) for _ in range(n))}
    return [tried(point, loss(point), run=f"r{i}") for i, point in enumerate(points.values())]


def search(known, **more):
    return Portfolio(SPACE, legal, known, **more)


# ------------------------------------------------------------------------------------------ axes


@pytest.mark.parametrize("path", [path for path, axis in AXES.items() if axis.is_ordered])
def test_a_place_means_the_value_that_has_it(path):
    axis = AXES[path]
    for value in axis.values or (1e-4, 3e-3, 1e-1):
        assert axis.at(axis.position(value)) == pytest.approx(value)
    assert 0 <= axis.position(-5) <= axis.position(1e9) <= 1


def test_a_logarithmic_range_is_even_in_the_logarithm():
    assert AXES["lr"].position(10**-2.5) == pytest.approx(0.5)


def test_options_without_order_are_equally_far_from_each_other():
    encoding = Encoding(SPACE)
    point = Point("moe", Knobs().model_dump())
    rows = encoding.rows([Point("moe", {**point.params, "norm": n}) for n in AXES["norm"].values])
    away = [np.linalg.norm(a - b) for a, b in itertools.combinations(rows, 2)]
    assert away == pytest.approx([1.0] * 3)


def test_arms_share_what_they_declare_alike_and_nothing_else():
    lr, own = LogUniform(1e-4, 1e-1), Uniform(0.0, 1.0)
    encoding = Encoding({"a": Space({"lr": lr}), "b": Space({"lr": lr, "own": own})})
    rows = encoding.rows([Point("a", {"lr": 1e-4}), Point("b", {"lr": 1e-4, "own": 0.5})])
    differs = rows[0] != rows[1]
    assert differs.sum() == 2  # the arm alone: what "a" lacks is in the middle
    assert len(encoding.groups) == 4


# ----------------------------------------------------------------------------------------- moves


def test_a_variation_stays_in_range_and_moves_by_a_step_at_least():
    rng = np.random.default_rng(0)
    start = Point("moe", {"layers": 2, "width": 96, "dropout": 0.3, "lr": 1e-1})
    axes = {path: AXES[path] for path in start.params}
    moved = [moves.near(start, axes, rng, 0.01).params for _ in range(200)]
    assert {p["layers"] for p in moved} == {1, 2, 3}
    assert {p["width"] for p in moved} == {64, 96}
    assert {p["dropout"] for p in moved} == {0.25, 0.3}
    assert all(1e-4 <= p["lr"] <= 1e-1 for p in moved)
    assert len({p["lr"] for p in moved}) > 100


def test_a_variation_crosses_decades_where_the_range_is_logarithmic():
    rng = np.random.default_rng(0)
    axes = {"lr": AXES["lr"]}
    found = [moves.near(Point("moe", {"lr": 1e-3}), axes, rng, 0.5).params["lr"] for _ in range(99)]
    assert min(found) < 3e-4
    assert max(found) > 3e-2


# -------------------------------------------------------------------------------------- evidence


def test_what_diverged_and_what_was_pruned_cannot_hide_the_others():
    point = Point("moe", Knobs().model_dump())
    good = [tried(point, float(i)) for i in range(10)]
    bad = [
        tried(point, 1e9),
        tried(point, outcome=Outcome.DIVERGED),
        tried(point, 0.0, outcome=Outcome.PRUNED),
        tried(point, outcome=Outcome.UNKNOWN),
    ]
    found = targets([*good, *bad])
    assert len(found.losses) == 13
    assert found.losses[:9] == pytest.approx(range(9))
    assert found.losses[9] == found.losses[10] == found.losses[11] == 9.0
    assert found.losses[12] == 5.0  # it was ahead of nobody who went on


def test_nothing_completed_means_nothing_is_known():
    point = Point("moe", Knobs().model_dump())
    assert not targets([tried(point, outcome=Outcome.DIVERGED)]).tried
    unknown = search([tried(point, outcome=Outcome.UNKNOWN)])
    assert {p.source for p in unknown.auto(3)} == {"spread"}


def test_noise_is_pooled_over_configurations():
    point = Point("moe", Knobs().model_dump())
    assert seed_noise([tried(point, 1.0)]) is None
    found = seed_noise([tried(point, 1.0, 3.0), tried(point, 5.0, 5.0, 5.0), tried(point, 7.0)])
    assert found == pytest.approx(math.sqrt(2 / 3))


# -------------------------------------------------------------------------------------- proposals

WAYS = {
    "auto": lambda s: s.auto(6),
    "model": lambda s: s.model(6),
    "random": lambda s: s.random(6),
    "spread": lambda s: s.spread(6),
    "perturb": lambda s: s.perturb(6, 2),
    "tpe": lambda s: warm_tpe(s, 6, 0),
}


@pytest.mark.parametrize("way", WAYS)
def test_proposals_are_legal_new_and_the_same_again(way):
    known = history(25)
    first, again = ([*WAYS[way](search(known, seed=3))] for _ in range(2))
    assert [p.point for p in first] == [p.point for p in again]
    assert len(first) == 6
    assert not any(check(Knobs, p.point.params) for p in first)
    new = [p.point.key() for p in first if p.source != "replicate"]
    assert len(set(new)) == len(new)
    assert not set(new) & {each.point.key() for each in known}


@pytest.mark.parametrize("way", ["auto", "random", "spread", "perturb"])
def test_another_seed_gives_other_proposals(way):
    known = history(25)
    first, other = ([p.point for p in WAYS[way](search(known, seed=s))] for s in (1, 2))
    assert first != other


def test_the_model_finds_what_chance_does_not():
    def after(way, rounds=4):
        known = history(15, seed=5)
        for turn in range(rounds):
            for proposal in WAYS[way](search(known, seed=turn)):
                if proposal.source != "replicate":
                    known.append(tried(proposal.point, loss(proposal.point)))
        return min(each.loss for each in known)

    assert after("auto") < 0.25 * after("random")


def test_a_parent_is_of_the_same_architecture():
    own = {name: Uniform(0.0, 1.0) for name in ("b1", "b2", "b3")}
    spaces = {"a": Space({"x": Uniform(0.0, 1.0)}), "b": Space(own)}
    far = tried(Point("b", dict.fromkeys(own, 0.0)), 1.0, run="rb")
    known = [tried(Point("a", {"x": 0.5}), 0.5, run="ra"), far]
    found = Portfolio(spaces, lambda p: p, known)
    near_the_other = found.propose_first([Point("b", dict.fromkeys(own, 1.0))], "random")
    assert near_the_other.parent is far
    assert near_the_other.distance == pytest.approx(math.sqrt(3))
    assert (
        Portfolio(spaces, lambda p: p, known[:1]).propose_first([far.point], "tpe").parent is None
    )


def test_a_space_that_is_used_up_gives_fewer():
    space = {"a": Space({"norm": Choice("pre", "post", "none")})}
    known = [tried(Point("a", {"norm": "pre"}), 1.0), tried(Point("a", {"norm": "post"}), 2.0)]
    found = [*Portfolio(space, lambda p: p, known).random(5)]
    assert [p.point.params for p in found] == [{"norm": "none"}]


def test_what_runs_now_is_not_proposed_and_is_believed():
    known = history(20)
    best = next(iter(search(known).model(1)))
    running = tried(best.point, outcome=Outcome.UNKNOWN)
    after = next(iter(search([*known, running]).model(1)))
    assert after.point.key() != best.point.key()


def test_ties_are_no_trouble():
    known = [tried(each.point, 1.0) for each in history(15)]
    assert len([*search(known).auto(6)]) == 6


def test_few_runs_fill_the_space_and_vary_the_best():
    found = [*search(history(3)).auto(6)]
    assert [p.source for p in found] == ["spread"] * 4 + ["perturb"] * 2


def test_a_batch_hedges():
    found = [p.source for p in search(history(30)).auto(6)]
    assert found[-2:] == ["exploit", "explore"]


def test_another_seed_where_the_best_two_cannot_be_told_apart():
    space = {"a": Space({"x": Uniform(0.0, 1.0)})}
    points = [Point("a", {"x": x}) for x in np.linspace(0, 1, 60)]
    rng = np.random.default_rng(0)
    known = [tried(p, *(p.params["x"] + 0.5 + rng.normal(0, 0.2, 2))) for p in points[2:]]
    known += [tried(points[0], 0.5, 0.2), tried(points[1], 0.31)]
    found = [*Portfolio(space, lambda p: p, known).model(1)]
    assert [p.source for p in found] == ["replicate"]
    assert found[0].point == points[1]  # it has fewer seeds


def test_no_other_seed_where_the_best_is_clear():
    assert "replicate" not in {p.source for p in search(history(20)).model(4)}


def test_a_budget_is_kept():
    known = [
        tried(each.point, each.loss, seconds=10.0 * each.point.params["layers"])
        for each in history(40)
    ]
    found = [*search(known, budget=60.0).auto(6)]
    assert found
    assert sum(p.seconds for p in found) <= 60.0
    assert sum(p.seconds for p in search(known).auto(6)) > sum(p.seconds for p in found)


def test_expectations_are_of_the_loss_in_its_own_unit():
    known = [tried(each.point, 100 + 10 * each.loss) for each in history(40)]
    for proposal in search(known).model(3):
        assert 95 < proposal.mean < 120
        assert 0 <= proposal.probability <= 1


def test_of_many_runs_the_best_and_the_latest_are_learnt_from():
    point = Point("moe", Knobs().model_dump())
    known = targets([tried(point, float(i)) for i in range(1000)])
    kept = _kept(known)
    assert len(kept) == MOST
    assert set(kept) == {*range(MOST // 2), *range(1000 - MOST // 2, 1000)}
