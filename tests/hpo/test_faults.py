"""Processes that are killed: exactly the trials that were asked for, none twice, none left over."""

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from research_eval.errors import StoreError
from research_eval.knobs import Uniform
from research_eval.records import RunStatus

from .conftest import recorded

STUDY = """
import os, signal, sys, time
from research_eval.hpo import optimize
from research_eval.knobs import Uniform

def objective(trial):
    {body}
    return trial.params["x"]

if __name__ == "__main__":
    result = optimize(
        objective=objective, space={{"x": Uniform(0.0, 1.0)}}, n_trials=int(sys.argv[1]),
        workers=2, db="s.db", sampler="random",
    )
    print(len(result.trials), *sorted({{str(t.state) for t in result.trials}}), result.closed)
"""


@pytest.fixture
def study():
    """Write the program of a study, whose objective has this body, and return how to start it."""
    running = []

    def start(n_trials, body="time.sleep(0.01)"):
        Path("study.py").write_text(STUDY.format(body=body))
        process = subprocess.Popen(
            [sys.executable, "study.py", str(n_trials)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def finished(process):
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    return out.split()


def wait_for_runs(process, number):
    """Wait until so many runs are recorded, or the process has ended."""
    while process.poll() is None:
        with suppress(StoreError):  # a store that is being made is empty for a moment
            if Path("s.db").exists() and len(recorded()) >= number:
                return
        time.sleep(0.05)


def workers_of(process):
    """Return the processes that carry out trials: the children of the server that forks them."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
        return [c for c in children if not c.children() and "semaphore" not in "".join(c.cmdline())]
    except psutil.NoSuchProcess:
        return []


def check(n_trials):
    """Check that every trial has one finished run and nothing is left over."""
    runs = recorded()
    assert Counter(run.trial for run in runs) == Counter(range(n_trials))
    assert {run.status for run in runs} == {RunStatus.COMPLETED}
    values = [run.params["params.x"] for run in runs]
    assert len(set(values)) == n_trials


def kill_at_random(study, n_trials, kills, seed):
    """Kill coordinator or workers at random times, and repeat the command after each death."""
    chance = random.Random(seed)
    process = study(n_trials)
    for index in range(kills):
        wait_for_runs(process, (index + 1) * n_trials // (kills + 1))
        time.sleep(chance.uniform(0, 0.1))
        if index % 2 and (victims := workers_of(process)):
            for victim in victims[:1]:
                victim.kill()
        elif process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
            process = study(n_trials)
    while process.wait(timeout=200) == -signal.SIGKILL:
        process = study(n_trials)
    assert process.returncode == 0, process.stderr.read()


def test_killed_coordinators_and_workers_lose_nothing(study):
    kill_at_random(study, 24, kills=2, seed=1)
    check(24)


@pytest.mark.slow
def test_fifteen_kills_lose_nothing(study):
    kill_at_random(study, 120, kills=15, seed=2)
    check(120)


def test_a_trial_whose_process_dies_is_tried_again_at_most_three_times(study):
    body = (
        "mark = f'died-{trial.number}'\n"
        "    if trial.number == 2 or trial.number == 1 and not os.path.exists(mark):\n"
        "        open(mark, 'w').close()\n"
        "        os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert finished(study(4, body))[:3] == ["4", "COMPLETED", "LOST"]
    runs = {run.trial: (run.status, run.attempt) for run in recorded()}
    assert len(recorded()) == 4
    assert runs[1] == (RunStatus.COMPLETED, 2)
    assert runs[2] == (RunStatus.LOST, 4)


def test_a_signal_stops_what_runs(study):
    process = study(30, "time.sleep(0.2); trial.report(0, 1.0)")
    wait_for_runs(process, 3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert "stopped; the same command continues from there" in err
    assert RunStatus.RUNNING not in {run.status for run in recorded()}
    assert 3 <= len(recorded()) < 30


def test_a_second_command_for_the_same_study_is_refused(search):
    def objective(trial):
        with pytest.raises(StoreError, match="is being carried out by another process"):
            search(n_trials=3)
        return trial.params["x"]

    assert len(search(objective, {"x": Uniform(0.0, 1.0)}, n_trials=2).trials) == 2


def test_a_file_that_crashes_when_a_worker_imports_it_fails_its_trials(study):
    crash = "pass\n\nif __name__ != '__main__':\n    os._exit(3)\n\ndef unused(trial):\n    pass"
    Path("study.py").write_text("")
    process = study(8, crash.replace("pass\n\nif", "return trial.params['x']\n\nif", 1))
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    number, state = out.split()[:2]
    assert state == "LOST"
    assert int(number) in (3, 4)  # one more may have begun when the third was lost
    assert "its process died" in out
