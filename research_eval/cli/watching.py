"""`runs watch` and `runs stop`: a run that somebody else carries out."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from research_eval.cli._options import DbOption
from research_eval.cli._render import age, console, note, number, printable, write
from research_eval.cli.editing import writing
from research_eval.cli.runs import RunArgument, reading
from research_eval.records import RunStatus

if TYPE_CHECKING:
    from rich.console import Group
    from rich.live import Live

    from research_eval.records import MetricSummary, RunRecord

_FAILED = (RunStatus.FAILED, RunStatus.DIVERGED, RunStatus.COLLAPSED, RunStatus.LOST)
_EXIT_FAILED = 5
_DETAIL = re.compile(r"layer_?\d|^(sys/|final_|last_)")
"""Metrics that a glance at a running experiment leaves out."""

_ON_A_LINE = 6


def add_to(group: typer.Typer) -> None:
    """Add the commands to the group `runs`."""
    group.command()(watch)
    group.command()(stop)


def watch(
    run: RunArgument,
    every: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="How often to look.")
    ] = 1.0,
    database: DbOption = None,
) -> None:
    """Follow a run until it ends; exits with 5 if it fails.

    Works from any machine that can read the database, and changes nothing.
    """
    with reading(database) as store:
        run_id = store.run(run).experiment_id
        asked = f'experiment_id == "{run_id}"'  # an id holds nothing that must be escaped
        with _display() as display:
            [record] = store.runs(filter=asked)
            display.show(record)
            while record.status is RunStatus.RUNNING:
                time.sleep(every)
                [record] = store.runs(filter=asked)
                display.show(record)
    note(f"run {run_id} is {record.status}; research-eval runs show {run_id} shows it whole")
    if record.status in _FAILED:
        raise typer.Exit(_EXIT_FAILED)


def stop(run: RunArgument, database: DbOption = None) -> None:
    """Ask a running run to stop after its step; it leaves a resume point and is INTERRUPTED."""
    with writing(database) as store:
        run_id = store.run(run).experiment_id
        store.ask_to_stop(run_id)
    note(
        f"run {run_id} was asked to stop and will do so within about 10 s; "
        f"research-eval runs watch {run_id} shows when"
    )


class _Display(Protocol):
    def show(self, record: RunRecord) -> None:
        """Show the state of the run."""


class _Lines:
    """A line whenever there is something new."""

    def __init__(self) -> None:
        self._shown = ""

    def show(self, record: RunRecord) -> None:
        latest = sorted(glanced(record).items(), key=lambda pair: -pair[1].step)[:_ON_A_LINE]
        values = "  ".join(f"{name} {number(each.value)}" for name, each in sorted(latest))
        line = printable(f"{record.status}  {progress(record)}  {values}".rstrip())
        if line != self._shown:
            self._shown = line
            write(line)


class _Screen:
    """A table that is drawn over and over."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, record: RunRecord) -> None:
        self._live.update(_drawn(record), refresh=True)


@contextmanager
def _display() -> Iterator[_Display]:
    out = console()
    if not out.is_terminal or out.is_dumb_terminal:
        yield _Lines()
        return
    from rich.live import Live

    with Live(console=out, auto_refresh=False) as live:
        yield _Screen(live)


def glanced(record: RunRecord) -> dict[str, MetricSummary]:
    """Return the metrics of a run that one looks at while it goes on."""
    return {n: each for n, each in sorted(record.metrics.items()) if not _DETAIL.search(n)}


def progress(record: RunRecord) -> str:
    """Return how far a run has come, as in `step 40/60`; the total only if it was recorded."""
    step = max((each.step for each in glanced(record).values()), default=0)
    total = json.loads(record.env_details_json).get("total_steps")
    return f"step {step:,}" + (f"/{total:,}" if isinstance(total, int) else "")


def _drawn(record: RunRecord) -> Group:
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("metric")
    for title in ("last", "step", "min", "max"):
        table.add_column(title, justify="right")
    for name, each in glanced(record).items():
        extremes = (each.minimum, each.maximum)
        cells = [printable(name), number(each.value), f"{each.step:,}"]
        cells += ["-" if value is None else number(value) for value in extremes]
        table.add_row(*(Text(cell) for cell in cells))
    beat = record.heartbeat
    seen = ""
    if beat is not None and record.status is RunStatus.RUNNING:
        seen = f"  last sign {age(time.time() - beat.timestamp())} ago"
    head = f"{record.experiment_id}  {record.experiment_name}  {record.status}  {progress(record)}"
    return Group(Text(printable(head + seen), style="bold"), table)
