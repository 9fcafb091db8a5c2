"""`runs show --experts`: what the store holds of experts, as tables and as JSON."""

import numpy as np
import pytest

from research_eval.records import NewRun, RunStatus
from research_eval.store import Store

HALF = 0.5


@pytest.fixture
def recorded():
    """Return a function that records a run with arrays and scores."""

    def record(arrays, scores=None, steps=(10,)):
        new = NewRun(
            experiment_id="aaaaaaaaaaaa",
            run_type="json",
            experiment_name="with experts",
            full_config_json="{}",
            env_details_json="{}",
        )
        with Store.open("experiment_results.db", create=True) as store:
            writer = store.start(new)
            for step in steps:
                for (name, layer), values in arrays.items():
                    writer.log_array(name, np.asarray(values), layer=layer, step=step)
                writer.log({"val_loss": 0.5, **(scores or {})}, step=step)
            writer.flag("dead_experts", "layer 0: expert 2 had no token")
            writer.finish(RunStatus.COMPLETED)

    return record


def lines(said):
    assert said.code == 0, said.err
    return [" ".join(line.split()) for line in said.out.splitlines()]


def test_load_is_shown_with_partners_groups_and_measures(cli, recorded):
    recorded(
        {
            ("load_share", 0): [0.5, 0.375, 0.125, 0.0],
            ("coactivation", 0): [[8, 6, 2, 0], [6, 6, 0, 0], [2, 0, 2, 0], [0, 0, 0, 0]],
            ("by_group", 0): [[6, 0, 1, 0], [2, 6, 1, 0]],
            ("load_share", 1): [0.25, 0.25, 0.25, 0.25],
            ("chosen", 0): [[0, 1]],
        },
        {
            "val_load_entropy_layer0": 0.7,
            "val_load_entropy_layer1": 1.0,
            "val_dead_experts_layer0": 1,
            "val_specialisation_layer0": 0.3,
            "val_specialisation_chance_layer0": 0.1,
        },
        steps=(5, 10),
    )
    found = lines(cli("runs", "show", "last", "--experts"))
    assert found[0] == "with experts (aaaaaaaaaaaa): validation at step 10"
    assert "load entropy 0.7 1 entropy of expert load / ln(experts): 1 even, 0 one for all" in found
    assert any(line.startswith("dead experts 1 -") for line in found)
    assert any(line.startswith("specialisation chance 0.1 -") for line in found)
    full = "█" * 24
    assert f"0 50.0 % {full} 1 (75.0 %) 75.0 % 25.0 %" in found
    assert f"1 37.5 % {full[:18]} 0 (100.0 %) 0.0 % 100.0 %" in found
    assert f"2 12.5 % {full[:6]} 0 (100.0 %) 50.0 % 50.0 %" in found
    assert "3 0.0 % - 0.0 % 0.0 %" in found
    assert found.count(f"1 25.0 % {full}") == 1


def test_couplings_and_hyperedges_are_shown(cli, recorded):
    members = [[1, 1, 0], [0, 1, 1]]
    recorded(
        {
            ("coupling", 0): [[0, 0.25, 0.75], [0.5, 0, 0.5], [1, 0, 0]],
            ("similarity", 0): np.eye(3),
            ("members", 0): members,
        },
        {"val_coupling_entropy_layer0": 0.9},
    )
    found = lines(cli("runs", "show", "last", "--experts"))
    assert "layer 0: what an expert (row) takes from each" in found
    assert "0 0 0.25 0.75" in found
    assert "layer 0: cosine similarity of outputs" in found
    assert found[-2:] == ["0 0, 1", "1 1, 2"]


def test_a_matrix_too_wide_for_a_terminal_shows_its_largest_entries(cli, recorded):
    coupling = np.full((20, 20), 0.01)
    coupling[3, 7] = 0.8
    recorded({("coupling", 0): coupling})
    found = lines(cli("runs", "show", "last", "--experts"))
    assert "layer 0: what an expert (row) takes from each; the 20 largest of 380" in found
    assert "3 7 0.8" in found


def test_paths_are_shown_step_by_step(cli, recorded):
    recorded(
        {
            ("path_usage", 0): [0.75, 0.25],
            ("path_usage", 1): [0.125, 0.375],
            ("transitions", 0): [[0.0, 0.5], [HALF, 0.25]],
        },
        {"val_path_length": 1.5},
    )
    found = lines(cli("runs", "show", "last", "--experts"))
    assert "path length 1.5 experts visited per path" in found
    assert "step 1 75.0 % 25.0 % 0.0 %" in found
    assert "step 2 12.5 % 37.5 % 50.0 %" in found
    assert "from 1 50.0 % 25.0 % 25.0 %" in found


def test_json_holds_every_array_with_its_step(cli, recorded):
    recorded({("load_share", 0): [HALF, HALF]}, {"val_load_entropy_layer0": 1.0}, steps=(5, 10))
    found = cli("runs", "show", "last", "--experts", "--format", "json").json
    assert found["load_share"] == {"0": {"step": 10, "values": [HALF, HALF]}}
    assert found["measures"] == {"load entropy": {"layer 0": 1.0}}
    assert cli("runs", "show", "last", "--experts", "--format", "csv").code == 0


def test_a_run_without_experts_says_so_in_a_line(cli, recorded):
    recorded({})
    found = lines(cli("runs", "show", "last", "--experts"))
    assert found == ["run aaaaaaaaaaaa has no experts: nothing is recorded of any"]


def test_flags_of_the_run_stand_below(cli, recorded):
    recorded({("load_share", 0): [1.0, 0.0]})
    said = cli("runs", "show", "last", "--experts")
    assert said.err.splitlines()[-1] == "dead_experts: layer 0: expert 2 had no token"
