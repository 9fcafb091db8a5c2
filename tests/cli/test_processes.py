"""The program as a process: what it loads, how it is stopped, and what goes on side by side."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from research_eval.records import RunStatus
from research_eval.store import Store

HEAVY = {"torch", "transformers", "datasets", "optuna", "sqlalchemy", "pandas", "matplotlib"}


def recorded():
    with Store.open("experiment_results.db", mode="ro") as store:
        return store.runs()


def loaded_by(*commands):
    """Return which heavy modules a process has loaded after some commands."""
    script = (
        "import sys\n"
        "from research_eval.cli import main\n"
        f"for command in {commands!r}:\n"
        "    assert main(command.split()) == 0, command\n"
        f"print('loaded', *({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


def test_help_loads_nothing_heavy():
    groups = ("", "run ", "runs ", "runs list ", "runs show ", "models ", "datasets ", "db ")
    more = (
        "hpo ",
        "studies ",
        "studies show ",
        "db info ",
        "metrics ",
        "schema ",
        "new ",
        "new config ",
        "routers ",
        "check ",
    )
    assert loaded_by(*(f"{group}--help" for group in groups + more)) == set()


def test_reading_loads_no_torch(cli, config):
    assert cli("run", config()).code == 0
    lists = ("runs list", "runs list --format json", "db info", "metrics")
    commands = (*lists, "runs show last", "runs show last --experts", "new model mine.py")
    assert loaded_by(*commands) == {"sqlalchemy"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_continues_when_the_command_is_typed_again(
    cli, programs, held_config, number
):
    process = programs.start("run", held_config)
    programs.wait_until_held()
    process.send_signal(number)
    Path("go").touch()
    said = programs.finish(process)
    assert said.code == 128 + number
    assert said.errors == ["error: stopped at step 30; the same command continues from there"]
    [record] = recorded()
    assert record.status is RunStatus.INTERRUPTED
    again = cli("run", held_config)
    assert again.code == 0
    assert f"continuing {record.experiment_id} from step 30" in again.err
    [record] = recorded()
    assert (record.status, record.attempt) == (RunStatus.COMPLETED, 2)


def test_a_killed_run_is_lost_and_continues_by_its_id_with_the_same_code(
    cli, programs, held_config
):
    process = programs.start("run", held_config)
    programs.wait_until_held()
    process.kill()
    assert programs.finish(process).code == -signal.SIGKILL
    [record] = recorded()
    assert record.status is RunStatus.LOST
    Path("go").touch()
    plugin = Path("held.py")
    code = plugin.read_text()
    plugin.write_text(f"{code}# changed\n")
    refused = cli("run", "--resume", "last")
    assert refused.code == 2
    assert "its code is not what it began with" in refused.errors[0]
    plugin.write_text(code)
    said = cli("run", "--resume", record.experiment_id[:8])
    assert said.code == 0
    assert f"continuing {record.experiment_id} from step 20" in said.err
    assert [r.status for r in recorded()] == [RunStatus.COMPLETED]


def test_of_two_runs_at_once_the_second_says_who_is_at_it(cli, programs, held_config):
    process = programs.start("run", held_config)
    programs.wait_until_held()
    said = cli("run", held_config)
    assert said.code == 6
    assert f"by process {process.pid}" in said.err
    assert said.errors == ["error: 0 of 1 runs are completed"]
    Path("go").touch()
    assert programs.finish(process).code == 0
    assert [record.status for record in recorded()] == [RunStatus.COMPLETED]


def test_workers_share_the_runs_and_stop_together(cli, programs, held_config):
    command = ("run", held_config, "--seeds", "3", "--workers", "2")
    process = programs.start(*command, start_new_session=True)
    programs.wait_until_held(2)
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C at a terminal does
    lines = list(iter(process.stderr.readline, "stopping; waiting for 2 resume points\n"))
    assert any("2 workers with" in line for line in lines)
    Path("go").touch()
    said = programs.finish(process)
    assert said.code == 130
    assert said.errors[-1] == "error: stopped; the same command continues from there"
    assert [record.status for record in recorded()] == [RunStatus.INTERRUPTED] * 2
    again = cli("run", held_config, "--seeds", "3", "--format", "json")
    assert again.code == 0
    assert again.err.count("from step 30") == 2  # each was stopped once, and after its step
    assert sorted((row["seed"], row["action"]) for row in again.json) == [
        (0, "resumed"),
        (1, "resumed"),
        (2, "ran"),
    ]
    assert {record.status for record in recorded()} == {RunStatus.COMPLETED}


def test_a_worker_that_dies_takes_one_run_with_it(programs, held_config):
    process = programs.start(
        "run", held_config, "--seeds", "3", "--workers", "2", "--format", "json"
    )
    programs.wait_until_held(2)
    victim = next(Path().glob("held.*[0-9]"))
    os.kill(int(victim.suffix[1:]), signal.SIGKILL)
    Path("go").touch()
    said = programs.finish(process)
    assert said.code == 5
    assert said.errors[-1] == "error: 1 of 3 runs failed or diverged"
    assert "a worker process died (exit code -9)" in said.err
    statuses = sorted(record.status for record in recorded())
    assert statuses == ["COMPLETED", "COMPLETED", "LOST"]


def test_workers_whose_parent_was_killed_stop_with_a_resume_point(programs, held_config):
    long = "training_params.max_steps=1000000"
    process = programs.start("run", held_config, long, "--seeds", "2", "--workers", "2")
    programs.wait_until_held(2)
    process.kill()
    Path("go").touch()
    programs.wait_for(lambda: {record.status for record in recorded()} == {RunStatus.INTERRUPTED})


def test_a_reader_that_has_seen_enough_is_no_error(programs):
    process = programs.start("metrics", "--format", "json")
    process.stdout.close()
    assert process.wait(timeout=60) in (0, 1)
    assert process.stderr.read() == ""


def on_a_terminal(*arguments, columns=80):
    """Carry out a command on a terminal and return what it shows."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "research_eval", *map(str, arguments)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment | {"TERM": "xterm-256color"},
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # Linux reports the end of a terminal so
            break
        if not chunk:
            break
        shown += chunk
    os.close(ours)
    assert process.wait(timeout=60) == 0, shown
    return shown.decode()


ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def test_a_terminal_shows_a_bar_and_tables_as_wide_as_it_is(config):
    name = "[red]a-name-that-is-much-longer-than-a-column[/]"
    shown = on_a_terminal("run", config(experiment_name=name, epochs=40), columns=140)
    assert "tokens/s" in shown
    assert "━" in shown
    [record] = recorded()
    listed = ESCAPE.sub("", on_a_terminal("runs", "list"))
    table = [line for line in listed.splitlines() if not line.startswith("database")]
    assert max(map(len, table)) <= 80
    assert record.experiment_id[:8] in listed
    assert "final_val" not in listed  # an optional column gives way
    assert "[red]" in listed
    assert "[red]" in shown
