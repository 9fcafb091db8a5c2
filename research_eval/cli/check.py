"""`check`: does a model, a router or a data set keep its promises?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from research_eval.cli._options import FormatOption
from research_eval.cli._render import Column, Format, note, print_rows, printable, write
from research_eval.errors import ConfigError, RunError
from research_eval.runlog import duration

if TYPE_CHECKING:
    from research_eval.spec import Task
    from research_eval.testing.examination import Case, Finding

OUTCOME_WIDTH = 8

COLUMNS = tuple(Column(name, name) for name in ("case", "promise", "outcome", "reason", "seconds"))


def check(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="A model, router or data set, or ./file.py:Name."),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATH=VALUE]...",
            help="Settings to check it with, for example model_params.num_experts=3.",
        ),
    ] = None,
    every: Annotated[
        bool,
        typer.Option("--all", help="Every mode with 1, 2, 3, 4 and 8 experts; takes minutes."),
    ] = False,
    task: Annotated[
        Literal["classification", "language_modeling"] | None,
        typer.Option(help="Only for this task; by default for each that it can do."),
    ] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Test whether a component keeps what every comparison relies on.

    A router is checked alone and inside the model moe. Exit code 0: all promises are kept or
    waived with a reason; 5: at least one is broken.
    """
    import torch

    from research_eval.testing.examination import Outcome, cases

    torch.set_num_threads(1)  # networks this small only wait for further threads
    rows: list[dict[str, Any]] = []
    for case in cases(name, settings=settings or (), task=task, every=every):
        rows += _examine(case, form)
    outcomes = [row["outcome"] for row in rows]
    _keep_verdict(name, settings or (), rows)
    if form is not Format.TABLE:
        print_rows([{k: v for k, v in row.items() if k != "tasks"} for row in rows], COLUMNS, form)
    counts = {each: outcomes.count(each) for each in Outcome if outcomes.count(each)}
    said = ", ".join(f"{count} {outcome.lower()}" for outcome, count in counts.items())
    note(f"{printable(name)}: {said}; {duration(sum(row['seconds'] for row in rows))}")
    if broken := counts.get(Outcome.BROKEN):
        concerned = len(rows) - counts.get(Outcome.UNCONCERNED, 0)
        raise RunError(f"{name} breaks {broken} of {concerned} promises")


def require_kept(name: str, task: Task) -> None:
    """Check a plug-in for a task, unless its present code was checked before.

    Args:
        name: `/path/file.py:Name`.
        task: What it is going to be used for.

    Raises:
        RunError: If it breaks a promise.
    """
    from research_eval import verdicts
    from research_eval.registry import PluginReference
    from research_eval.testing.examination import Outcome, cases, kind_of

    file, _, attribute = name.rpartition(":")
    reference = PluginReference(Path(file), attribute)
    spelled = printable(verdicts.spelled(reference))
    found = verdicts.find(reference, kind_of(name, Path.cwd()), task)
    if found is None:
        note(f"{spelled} is checked")
        promises = [each.examine() for case in cases(name, task=task) for each in case.promises]
        rows = [{**asdict(each), "tasks": (task,)} for each in promises]
        _keep_verdict(name, (), rows)
        broken = [each.promise for each in promises if each.outcome is Outcome.BROKEN]
    else:
        broken = list(found.broken)
    if broken:
        raise RunError(
            f"{spelled} breaks {len(broken)} of its promises, so its scores could not be compared: "
            f"{' '.join(broken)} See research-eval check {spelled}"
        )
    note(f"{spelled} keeps its promises")


def _examine(case: Case, form: Format) -> Iterator[dict[str, Any]]:
    """Yield the findings of a case as rows and show each as soon as it is known."""
    say = write_now if form is Format.TABLE else note
    say(printable(case.title))
    if case.refusal:
        say(f"  {'refused':{OUTCOME_WIDTH}}{printable(case.refusal)}")
    for promise in case.promises:
        finding = promise.examine()
        say(_line(finding))
        yield {"case": case.title, **asdict(finding), "tasks": case.tasks}


def write_now(line: str) -> None:
    """Write a line to stdout for someone who waits."""
    import sys

    write(line)
    sys.stdout.flush()


def _line(finding: Finding) -> str:
    told = f"  {finding.outcome:{OUTCOME_WIDTH}}{finding.promise}"
    if finding.reason:
        told += f"\n  {'':{OUTCOME_WIDTH}}{printable(finding.reason)}"
    return told


def _keep_verdict(name: str, settings: Iterable[str], rows: Iterable[dict[str, Any]]) -> None:
    """Keep what was found out about a plug-in, for the runs that will use it."""
    from research_eval import verdicts
    from research_eval.registry import plugin_reference
    from research_eval.testing.examination import TASKS, Outcome, kind_of

    reference = plugin_reference(name, Path.cwd())
    if reference is None:
        return
    kind = kind_of(name, Path.cwd())
    rows = list(rows)
    task: Task
    for task in TASKS:
        of_task = [row for row in rows if task in row["tasks"]]
        broken = [row["promise"] for row in of_task if row["outcome"] is Outcome.BROKEN]
        if of_task:
            verdict = verdicts.Verdict(str(reference), tuple(settings), list(dict.fromkeys(broken)))
            try:
                verdicts.keep(reference, kind, task, verdict)
            except OSError as error:
                raise ConfigError(f"cannot keep the verdict: {error}") from None
