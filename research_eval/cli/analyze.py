"""`analyze`: what the recorded runs say. Neither torch nor the models are loaded."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from research_eval.cli._anonymity import show_removed
from research_eval.cli._options import DbOption, FormatOption, parse_width, split_commas
from research_eval.cli._render import Format, note, printable
from research_eval.cli._reports import BEST_RUNS, show_reports
from research_eval.cli.runs import FilterOption, reading

if TYPE_CHECKING:
    from research_eval.analysis import Report, Request
    from research_eval.anonymity import Anonymizer

PROGRESS_AFTER_S = 2.0
COLUMN_WIDTH = "3.25in"

WITH_LOCK = frozenset({"context", "lock", "output_dir", "database", "form"})
"""Arguments that may stand beside a lock; everything else is what it pins."""


class FailedAs(StrEnum):
    """What becomes of failed runs."""

    DROP = "drop"
    WORST = "worst"


DatasetsOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAMES", help="Data sets; by default those of the study or of the latest project."
    ),
]
ModelsOption = Annotated[
    list[str] | None, typer.Option(metavar="NAMES", help="Only these architectures.")
]
MetricOption = Annotated[
    str | None,
    typer.Option(
        metavar="METRIC[:MAX|MIN]",
        help="The metric that decides; final_val_f1 or final_val_loss by default. One that is not "
        "ours needs its direction.",
    ),
]
FolderOption = Annotated[
    Path, typer.Option(metavar="DIR", help="Where reports, tables and pictures are written.")
]
SummaryOption = Annotated[
    bool, typer.Option("--run-summary-table", help="Only the table of best runs.")
]
ParamsPlotOption = Annotated[
    bool, typer.Option("--run-f1-vs-params-plot", help="Only quality against parameters.")
]
LatencyPlotOption = Annotated[
    bool, typer.Option("--run-f1-vs-latency-plot", help="Only quality against latency.")
]
EverythingOption = Annotated[
    bool, typer.Option("--run-all", help="Everything, with a report; as without any --run.")
]
ProjectOption = Annotated[str | None, typer.Option(help="Only runs of this project.")]
StudyOption = Annotated[str | None, typer.Option(help="Only runs of this study.")]
CandidateOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The architecture that is compared with the baselines; without it all pairs are, and "
        "that is exploratory.",
    ),
]
BaselineOption = Annotated[
    list[str] | None, typer.Option(metavar="NAMES", help="Baselines; all others by default.")
]
MarginOption = Annotated[
    float | None,
    typer.Option(min=0, help="Differences smaller than this, in the metric, do not matter."),
]
AnyCodeOption = Annotated[
    bool, typer.Option("--any-code", help="Pool runs that other code made, too.")
]
FailedAsOption = Annotated[
    FailedAs, typer.Option(help="Count failed runs as the worst score, or drop them.")
]
AblationOption = Annotated[
    str | None,
    typer.Option(metavar="GROUP", help="Compare the runs of this group with their base."),
]
PaperOption = Annotated[
    bool,
    typer.Option(
        "--paper",
        help="Also tables in LaTeX, figures as PDF, and paper.lock.json, which pins the runs.",
    ),
]
WidthOption = Annotated[
    str | None,
    typer.Option(
        metavar="LENGTH",
        help=f"With --paper, width of a figure: in, cm, mm or pt; {COLUMN_WIDTH} by default.",
    ),
]
LockOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write what a paper.lock.json pins again, to the byte."),
]
AnonymousOption = Annotated[
    bool,
    typer.Option("--anonymous", help="Write nothing that says who made the runs, and list it."),
]


def analyze(
    context: typer.Context,
    dataset_name: DatasetsOption = None,
    model_types: ModelsOption = None,
    metric_to_optimize: MetricOption = None,
    output_dir: FolderOption = Path("analysis_reports"),
    summary: SummaryOption = False,
    params_plot: ParamsPlotOption = False,
    latency_plot: LatencyPlotOption = False,
    everything: EverythingOption = False,
    condition: FilterOption = None,
    project: ProjectOption = None,
    study: StudyOption = None,
    candidate: CandidateOption = None,
    baseline: BaselineOption = None,
    margin: MarginOption = None,
    any_code: AnyCodeOption = False,
    failed_as: FailedAsOption = FailedAs.DROP,
    ablation: AblationOption = None,
    paper: PaperOption = False,
    width: WidthOption = None,
    lock: LockOption = None,
    anonymous: AnonymousOption = False,
    database: DbOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Say what the recorded runs say: best runs, seeds, contrasts, costs, figures, one report.

    Every picture has its table as CSV beside it; the report of a data set is one HTML file.
    """
    only = _only(locals())
    if lock is not None:
        _require_alone(context)
        reports = _analyze_again(lock, output_dir, database)
    else:
        inches = _paper_width(width, is_paper=paper, only=only)
        on_removed = show_removed if anonymous else None
        reports = _analyze(_request(locals()), output_dir, only, database, inches, on_removed)
    show_reports(reports, form)
    if anonymous:
        _say_what_else_lies_there(reports, output_dir)
    _say_what_next(reports, output_dir, is_paper=paper or lock is not None)


def _only(given: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the outputs that alone are asked for; none means all."""
    asked = {BEST_RUNS: "summary", "pareto_params": "params_plot", "pareto_latency": "latency_plot"}
    if given["everything"]:
        return ()
    return tuple(output for output, argument in asked.items() if given[argument])


def _request(given: Mapping[str, Any]) -> Request:
    """Return what is asked, from every option by the name of its argument."""
    from research_eval.analysis import Request

    same = ("project", "study", "any_code", "candidate", "margin", "ablation")
    return Request(
        datasets=tuple(split_commas(given["dataset_name"])),
        arms=tuple(split_commas(given["model_types"])),
        goal=given["metric_to_optimize"],
        filter=given["condition"],
        baselines=tuple(split_commas(given["baseline"])),
        failed_as="worst" if given["failed_as"] is FailedAs.WORST else "drop",
        **{name: given[name] for name in same},
    )


def _paper_width(width: str | None, *, is_paper: bool, only: tuple[str, ...]) -> float | None:
    """Return the inches that figures for a paper are wide; None without --paper.

    Raises:
        typer.BadParameter: If options contradict each other, or it is no width.
    """
    if not is_paper:
        if width is not None:
            raise typer.BadParameter("is about figures for a paper: --paper", param_hint="--width")
        return None
    if only:
        raise typer.BadParameter(
            "writes everything; leave out the --run options", param_hint="--paper"
        )
    return parse_width(COLUMN_WIDTH if width is None else width, "--width")


def _require_alone(context: typer.Context) -> None:
    """Check that nothing is asked beside a lock.

    Raises:
        typer.BadParameter: If something is.
    """
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name not in WITH_LOCK and source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(
                f"says what was asked, {parameter.opts[0]} included; leave that out, or make a "
                "new lock with --paper",
                param_hint="--lock",
            )


def _analyze(
    request: Request,
    folder: Path,
    only: tuple[str, ...],
    database: str | None,
    paper_width: float | None,
    on_removed: Callable[[Anonymizer], None] | None,
) -> list[Report]:
    from research_eval import analysis

    with reading(database) as store:
        return analysis.analyze(
            store,
            request,
            folder=folder,
            only=only,
            command=shlex.join(["research-eval", *_words()]),
            paper_width=paper_width,
            on_removed=on_removed,
            say=_after(PROGRESS_AFTER_S),
            warn=lambda line: note(printable(line)),
        )


def _analyze_again(lock: Path, folder: Path, database: str | None) -> list[Report]:
    from research_eval import analysis

    with reading(database) as store:
        return analysis.analyze_again(
            store, lock, folder=folder, on_removed=show_removed, say=_after(PROGRESS_AFTER_S)
        )


def _words() -> list[str]:
    """Return the words behind the name of the program, without passwords."""
    from research_eval.provenance import command

    _, *words = json.loads(command())
    return words or ["analyze"]


def _after(seconds: float) -> Callable[[str], None]:
    """Return what says lines on stderr once the work has taken so long."""
    started = time.monotonic()

    def say(line: str) -> None:
        if time.monotonic() - started > seconds:
            note(printable(line))

    return say


def _say_what_else_lies_there(reports: Iterable[Report], folder: Path) -> None:
    written = {path for report in reports for path in report.files}
    others = sorted(path.name for path in folder.iterdir() if path not in written)
    if others := [name for name in others if name != _lock_file()]:
        shown = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        note(f"{len(others)} other files lie there and were not made anonymous: {printable(shown)}")


def _lock_file() -> str:
    from research_eval.analysis.paper.lock import LOCK_FILE

    return LOCK_FILE


def _say_what_next(reports: Iterable[Report], folder: Path, *, is_paper: bool) -> None:
    written = [path for report in reports for path in report.files]
    pages = [path for path in written if path.suffix == ".html"]
    lock = [folder / _lock_file()] if is_paper else []
    count = len(written) + len(lock)
    note(f"{'1 file' if count == 1 else f'{count} files'} written to {printable(folder)}")
    if is_paper:
        tables = ", ".join(path.name for path in written if path.suffix == ".tex")
        note(f"for \\input, with \\usepackage{{booktabs}}: {printable(tables or 'nothing')}")
    for page in pages or written[:1]:
        note(f"next: open {printable(shlex.quote(str(page)))}")
    for path in lock:
        again = f"research-eval analyze --lock {shlex.quote(str(path))}"
        note(f"the same bytes later: {printable(again)}")
