"""One call from a store to tables, pictures and reports."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from research_eval.analysis.evidence import Evidence
from research_eval.analysis.gathering import choose_datasets, gather
from research_eval.analysis.output import Output, file_name, find_outputs
from research_eval.analysis.question import Request
from research_eval.analysis.report import as_html
from research_eval.analysis.section import Section, work_out
from research_eval.errors import ConfigError, did_you_mean
from research_eval.files import replace_file, require_writable

if TYPE_CHECKING:
    from research_eval.store import Store


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """What the runs on one data set say.

    Attributes:
        evidence: The runs.
        sections: All that was asked for, in their order.
        files: What was written.
    """

    evidence: Evidence
    sections: tuple[Section, ...]
    files: tuple[Path, ...]

    def section(self, name: str) -> Section | None:
        """Return the section of an output; None if it was not asked for."""
        return next((each for each in self.sections if each.output.name == name), None)


def analyze(
    store: Store,
    request: Request,
    *,
    folder: Path,
    only: Collection[str] = (),
    command: str = "research-eval analyze",
    say: Callable[[str], None] = lambda _: None,
    warn: Callable[[str], None] = lambda _: None,
) -> list[Report]:
    """Work out and write what the runs say, data set by data set.

    Args:
        store: Open for reading.
        request: Which runs, and what is asked of them.
        folder: Where tables, pictures and reports are written; it is made if need be.
        only: Names of outputs; empty for all of them and a report in HTML.
        command: What makes the same again, for the report.
        say: Told what is being worked out.
        warn: Told which data set is left out, and why, while others are not.

    Raises:
        ConfigError: If a name means nothing, or nobody recorded the metric, on any data set.
        StoreError: If there are no runs, or the folder cannot be written.
    """
    outputs = find_outputs()
    for name in only:
        if name not in {output.name for output in outputs}:
            known = (output.name for output in outputs)
            raise ConfigError(f"there is no output '{name}'; {did_you_mean(name, known)}")
    wanted = [output for output in outputs if not only or output.name in only]
    datasets = choose_datasets(store, request)
    evidence = _gather_all(store, datasets, request, warn)
    require_writable(folder)
    page = None if only else command
    return [report_on(each, wanted, folder, command=page, say=say) for each in evidence]


def report_on(
    evidence: Evidence,
    outputs: Sequence[Output],
    folder: Path,
    *,
    command: str | None,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Work out and write some outputs about some evidence.

    Args:
        evidence: The runs.
        outputs: In the order of the report.
        folder: Where tables, pictures and the report are written.
        command: What makes the report again; None writes no report in HTML.
        say: Told what is being worked out.

    Raises:
        StoreError: If the folder cannot be written.
    """
    sections = []
    for output in outputs:
        say(f"{evidence.dataset}: {output.title}")
        sections.append(work_out(output, evidence))
    files = _write(evidence, sections, folder)
    if command is not None:
        files.append(_write_report(evidence, sections, folder, command))
    return Report(evidence, tuple(sections), tuple(files))


def _gather_all(
    store: Store, datasets: Sequence[str], request: Request, warn: Callable[[str], None]
) -> list[Evidence]:
    """Return the evidence about those data sets that the request fits.

    Raises:
        ConfigError: If it fits none; what is wrong with the first one.
    """
    found: list[Evidence] = []
    problems: dict[str, ConfigError] = {}
    for dataset in datasets:
        try:
            found.append(gather(store, dataset, request))
        except ConfigError as error:
            problems[dataset] = error
    if not found:
        raise next(iter(problems.values()))
    for dataset, problem in problems.items():
        warn(f"{dataset} is left out: {problem}")
    return found


def _write(evidence: Evidence, sections: Sequence[Section], folder: Path) -> list[Path]:
    """Write tables and pictures, and remove those of an earlier call that this one cannot make."""
    written = []
    for section in sections:
        stem, table = section.output.stem(evidence), section.table
        csv = None if table is None else table.to_csv(index=False, lineterminator="\n")
        for suffix, content in ((".csv", csv), (".png", section.picture)):
            path = folder / f"{stem}{suffix}"
            if content is None:
                path.unlink(missing_ok=True)
            else:
                replace_file(path, content)
                written.append(path)
    return written


def _write_report(
    evidence: Evidence, sections: Sequence[Section], folder: Path, command: str
) -> Path:
    path = folder / f"{file_name(evidence.dataset)}_report.html"
    replace_file(path, as_html(evidence, sections, command))
    return path
