"""The status of a run is what happened to its script."""

import os
import signal

import pytest

import research_eval
from research_eval.records import RunStatus
from research_eval.store import Store

# Without the flush, Python might still import what writes to the database when Ctrl-C comes, and
# then forget that it should die of SIGINT.
OPEN = "run = track(db=db, system_interval_s=None)\nrun.log({'m': 1.0}, step=3)\nrun.flush()\n"
BLOCK = "with track(db=db, system_interval_s=None) as run:\n    run.log({'m': 1.0}, step=3)\n"


@pytest.mark.parametrize(
    ("code", "exit_code", "status", "error"),
    [
        (BLOCK, 0, "COMPLETED", None),
        (BLOCK + "    1 / 0", 1, "FAILED", "ZeroDivisionError: division by zero"),
        (BLOCK + "    raise SystemExit(3)", 3, "FAILED", "SystemExit: 3"),
        (BLOCK + "    raise SystemExit", 0, "INTERRUPTED", "exited before the run was finished"),
        (OPEN + "run.finish()", 0, "COMPLETED", None),
        (OPEN, 0, "INTERRUPTED", "exited before the run was finished"),
        (OPEN + "1 / 0", 1, "FAILED", "ZeroDivisionError: division by zero"),
        (OPEN + "raise KeyboardInterrupt", -2, "INTERRUPTED", "interrupted"),
        (OPEN + "run.complete_on_exit()", 0, "COMPLETED", None),
        (OPEN + "run.complete_on_exit()\n1 / 0", 1, "FAILED", "ZeroDivisionError"),
    ],
)
def test_how_a_script_ends(script, recorded, code, exit_code, status, error):
    with script(code) as process:
        _, told = process.communicate()
    assert process.returncode == exit_code
    found = recorded()
    assert (found.status, found.value("m")) == (status, 1.0)
    assert (error in found.error) if error else (found.error is None)
    assert ("Traceback" in told) == (exit_code in (1, -2))


WAIT = "    print(flush=True); input()"


@pytest.mark.parametrize("code", [BLOCK + WAIT, OPEN + WAIT.strip()], ids=["block", "open"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_interrupts(script, recorded, code, number):
    with script(code) as process:
        process.stdout.readline()
        process.send_signal(number)
        process.communicate()
    assert process.returncode == (-number if number == signal.SIGINT else 128 + number)
    found = recorded()
    assert (found.status, found.value("m")) == ("INTERRUPTED", 1.0)
    assert found.error == ("interrupted" if number == signal.SIGINT else number.name)


def test_a_killed_script_loses_nothing(script, path, recorded):
    with script(OPEN + "print(flush=True); input()") as process:
        process.stdout.readline()
        process.kill()
        process.communicate()
    with Store.open(path, create=True):
        pass
    assert (recorded().status, recorded().value("m")) == (RunStatus.LOST, 1.0)


def test_a_handler_of_the_script_stays_its_own(script, recorded):
    code = (
        "import signal\nseen = []\nsignal.signal(signal.SIGTERM, lambda *_: seen.append(1))\n"
        + BLOCK
        + "    signal.raise_signal(signal.SIGTERM)\nassert seen == [1]"
    )
    with script(code) as process:
        assert process.wait() == 0, process.stderr.read()
    assert recorded().status == "COMPLETED"


def test_all_is_set_back_when_the_last_run_ends(path):
    import sys

    before = signal.getsignal(signal.SIGTERM), sys.excepthook
    runs = [research_eval.track(db=path, system_interval_s=None) for _ in range(2)]
    assert signal.getsignal(signal.SIGTERM) != before[0]
    for run in runs:
        run.finish()
    assert (signal.getsignal(signal.SIGTERM), sys.excepthook) == before


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # from Python 3.12 on
def test_a_forked_child_leaves_the_run_of_its_parent_alone(path, recorded):
    with research_eval.track(db=path, system_interval_s=None) as run:
        run.log({"m": 1.0})
        child = os.fork()
        if child == 0:
            try:
                run.log({"m": 99.0})
                run.finish("FAILED")
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        run.log({"m": 2.0})
    found = recorded()
    assert (found.status, found.metrics["m"].count, found.value("m")) == ("COMPLETED", 2, 2.0)


def test_a_forked_child_that_dies_says_nothing_of_its_parent(script, recorded):
    code = (
        "import os, warnings\nwarnings.simplefilter('ignore')\n"  # Python 3.12 warns of any fork
        + OPEN
        + "if os.fork() == 0:\n    1 / 0\nos.wait()\nrun.log({'m': 2.0})\nrun.finish()"
    )
    with script(code) as process:
        _, told = process.communicate()
    assert told.count("ZeroDivisionError") == 1
    assert "research-eval" not in told
    assert (recorded().status, recorded().value("m")) == ("COMPLETED", 2.0)


def test_a_pruned_trial_is_a_pruned_run(path, recorded):
    optuna = pytest.importorskip("optuna")

    def objective(trial):
        with research_eval.track(db=path, system_interval_s=None) as run:
            run.log({"m": trial.suggest_float("x", 0, 1)})
            raise optuna.TrialPruned

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    optuna.create_study().optimize(objective, n_trials=1)
    assert recorded().status == "PRUNED"
