"""Two processes come to what one comes to: curves, scores, statistics of experts and weights."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from research_eval.registry import MODELS_MAP

SCRIPT = Path(__file__).with_name("curves.py")


def carried_out(folder, size):
    """Return what each of `size` processes wrote."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder / f"{rank} of {size}.pt")],
            env=os.environ
            | place
            | {"RANK": str(rank), "WORLD_SIZE": str(size), "GLOO_SOCKET_IFNAME": "lo"}
            | {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCH_CPP_LOG_LEVEL": "ERROR"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    try:
        said = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * size, said
    files = [folder / f"{rank} of {size}.pt" for rank in range(size)]
    return [torch.load(file, weights_only=False) for file in files]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("curves")
    return [*carried_out(folder, 1), *carried_out(folder, 2)]


def test_two_processes_train_every_model_as_one_does(found):
    alone, first, _second = (each["curves"] for each in found)
    for task in ("classification", "language_modeling"):
        assert {f"{name}, {task}" for name in MODELS_MAP} <= alone.keys()
    for name, curve in alone.items():
        points = zip(curve["points"], first[name]["points"], strict=True)
        for (step, expected), (other_step, values) in points:
            assert step == other_step
            close = pytest.approx(without_times(expected), rel=2e-4, abs=2e-6, nan_ok=True)
            assert without_times(values) == close, f"{name} at step {step}"
        torch.testing.assert_close(
            first[name]["weights"], curve["weights"], rtol=1e-4, atol=2e-6, msg=name
        )


def test_two_processes_see_what_one_sees_of_the_experts(found):
    alone, first, _second = (each["curves"] for each in found)
    for name, curve in alone.items():
        pairs = zip(curve["arrays"], first[name]["arrays"], strict=True)
        for (*expected, values), (*place, others) in pairs:
            assert place == expected, name
            tolerance = {"rtol": 1e-4, "atol": 2e-5}
            torch.testing.assert_close(torch.tensor(others), torch.tensor(values), **tolerance)
        assert first[name]["flags"] == curve["flags"]


def test_all_processes_hold_the_same_weights_and_come_to_the_same_scores(found):
    _alone, first, second = (each["curves"] for each in found)
    for name, curve in first.items():
        torch.testing.assert_close(second[name]["weights"], curve["weights"], rtol=0, atol=0)
        mine, theirs = (scores(each["points"]) for each in (curve, second[name]))
        assert mine == theirs, name


def test_a_stop_is_told_to_all_and_a_resumed_training_is_one_that_never_stopped(found):
    for each in found:
        stopped = each["stopped"]
        assert stopped["resumed at"] == 2
        torch.testing.assert_close(stopped["resumed"], stopped["whole"], rtol=0, atol=0)


def without_times(values):
    return {name: value for name, value in values.items() if "per_second" not in name}


def scores(points):
    return [(step, repr(without_times(values))) for step, values in points]
