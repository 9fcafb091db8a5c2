"""One call from a store to tables, pictures and reports."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from research_eval.analysis.evidence import Evidence
from research_eval.analysis.gathering import choose_datasets, gather
from research_eval.analysis.output import Output, find_outputs
from research_eval.analysis.paper.lock import LOCK_FILE, Lock
from research_eval.analysis.question import Request
from research_eval.analysis.rendering import (
    Page,
    Rendered,
    anonymous,
    render,
    without_identities,
)
from research_eval.analysis.section import Section
from research_eval.anonymity import Anonymizer
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
    paper_width: float | None = None,
    on_removed: Callable[[Anonymizer], None] | None = None,
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
        paper_width: Inches of a column: tables in LaTeX, figures as PDF, and a lock that pins both
            are written too.
        on_removed: Told what was removed from all that is written, so that it does not say who made
            the runs; None removes nothing.
        say: Told what is being worked out.
        warn: Told which data set is left out, and why, while others are not.

    Raises:
        ConfigError: If a name means nothing, or nobody recorded the metric, on any data set.
        StoreError: If there are no runs, or the folder cannot be written.
    """
    outputs = _named(only)
    datasets = choose_datasets(store, request)
    evidence = _gather_all(store, datasets, request, warn)
    require_writable(folder)
    page = Page(command=None if only else command, paper_width=paper_width)
    anonymizer = None if on_removed is None else _anonymizer(evidence)
    rendered = [_rendered(each, outputs, page, anonymizer, say) for each in evidence]
    reports = [_write(each, folder) for each in rendered]
    if paper_width is not None:
        lock = Lock.of(evidence, rendered, page, anonymizer)
        replace_file(folder / LOCK_FILE, lock.text())
    if on_removed is not None and anonymizer is not None:
        on_removed(anonymizer)
    return reports


def analyze_again(
    store: Store,
    lock_file: Path,
    *,
    folder: Path,
    on_removed: Callable[[Anonymizer], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> list[Report]:
    """Write what an earlier call wrote, to the byte, from the runs that its lock pins.

    Args:
        store: Open for reading; runs that it has gained since do not count.
        lock_file: What that call wrote beside the tables.
        folder: Where everything is written.
        on_removed: Told what was removed, if the lock is of an anonymous report.
        say: Told what is being worked out.

    Raises:
        ConfigError: If the file is no lock, or other bytes come out here; nothing is written.
        StoreError: If runs are missing or changed, or the folder cannot be written; likewise.
    """
    lock = Lock.read(lock_file)
    evidence = lock.evidence(store)
    require_writable(folder)
    anonymizer = _anonymizer(evidence) if lock.is_anonymous else None
    outputs = find_outputs()
    rendered = [_rendered(each, outputs, lock.page, anonymizer, say) for each in evidence]
    lock.require_same(rendered)
    reports = [_write(each, folder) for each in rendered]
    replace_file(folder / LOCK_FILE, lock.text())
    if anonymizer is not None:
        on_removed(anonymizer)
    return reports


def _named(only: Collection[str]) -> list[Output]:
    """Return the outputs of these names, all if there are none."""
    outputs = find_outputs()
    for name in only:
        if name not in {output.name for output in outputs}:
            known = (output.name for output in outputs)
            raise ConfigError(f"there is no output '{name}'; {did_you_mean(name, known)}")
    return [output for output in outputs if not only or output.name in only]


def _anonymizer(evidence: Sequence[Evidence]) -> Anonymizer:
    return Anonymizer.of(
        run for each in evidence for run in (*each.runs.values(), *each.evaluations)
    )


def _rendered(
    evidence: Evidence,
    outputs: Sequence[Output],
    page: Page,
    anonymizer: Anonymizer | None,
    say: Callable[[str], None],
) -> Rendered:
    if anonymizer is None:
        return render(evidence, outputs, page, say)
    clean = anonymous(evidence, anonymizer)
    return without_identities(render(clean, outputs, page, say), anonymizer)


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
    return _write(render(evidence, outputs, Page(command=command), say), folder)


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


def _write(rendered: Rendered, folder: Path) -> Report:
    """Write the files, and remove those of an earlier call that this one cannot make."""
    written = []
    for name, content in rendered.contents.items():
        path = folder / name
        if content is None:
            path.unlink(missing_ok=True)
        else:
            replace_file(path, content)
            written.append(path)
    return Report(rendered.evidence, rendered.sections, tuple(written))
