"""A report as the contents of files, before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from research_eval.analysis.evidence import Evidence
from research_eval.analysis.output import Output, file_name
from research_eval.analysis.paper.figures import figures
from research_eval.analysis.paper.tables import tables
from research_eval.analysis.report import as_html
from research_eval.analysis.section import Section, work_out
from research_eval.anonymity import Anonymizer
from research_eval.records import RunRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What is written besides tables and pictures.

    Attributes:
        command: What makes the report again; None writes no report in HTML.
        paper_width: Inches of a column, for tables in LaTeX and figures as PDF; None for none.
    """

    command: str | None
    paper_width: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Rendered:
    """What the runs on one data set say, as files.

    Attributes:
        evidence: The runs.
        sections: In their order.
        contents: By the name of the file; None where one of an earlier call is to go.
    """

    evidence: Evidence
    sections: tuple[Section, ...]
    contents: Mapping[str, str | bytes | None]


def render(
    evidence: Evidence, outputs: Iterable[Output], page: Page, say: Callable[[str], None]
) -> Rendered:
    """Work out some outputs about some evidence."""
    sections = []
    for output in outputs:
        say(f"{evidence.dataset}: {output.title}")
        sections.append(work_out(output, evidence))
    contents: dict[str, str | bytes | None] = {}
    for section in sections:
        stem, table = section.output.stem(evidence), section.table
        contents[f"{stem}.csv"] = (
            None if table is None else table.to_csv(index=False, lineterminator="\n")
        )
        contents[f"{stem}.png"] = section.picture
    if page.command is not None:
        name = f"{file_name(evidence.dataset)}_report.html"
        contents[name] = as_html(evidence, sections, page.command)
    if page.paper_width is not None:
        say(f"{evidence.dataset}: tables and figures for paper")
        contents |= tables(sections, evidence)
        contents |= figures(sections, evidence, page.paper_width)
    return Rendered(evidence, tuple(sections), contents)


def anonymous(evidence: Evidence, anonymizer: Anonymizer) -> Evidence:
    """Return the evidence without what identifies, so that nothing drawn of it does.

    Ids of runs and names of studies stay, since the store is asked by them; what is written of
    them is cleaned with everything else that is written.
    """

    def clean(run: RunRecord) -> RunRecord:
        return replace(
            anonymizer.record(run),
            experiment_id=run.experiment_id,
            parent=run.parent,
            study=run.study,
        )

    runs = {name: clean(run) for name, run in evidence.runs.items()}
    question = evidence.question

    def told(name: str | None, option: str) -> str | None:
        return None if name is None else anonymizer.text(name, option)

    return replace(
        evidence,
        dataset=anonymizer.text(evidence.dataset, "data set"),
        runs=runs,
        evaluations=tuple(map(clean, evidence.evaluations)),
        question=replace(
            question,
            candidate=told(question.candidate, "--candidate"),
            baselines=tuple(anonymizer.text(each, "--baseline") for each in question.baselines),
            ablation=told(question.ablation, "--ablation"),
        ),
    )


def without_identities(rendered: Rendered, anonymizer: Anonymizer) -> Rendered:
    """Return the same with all text that is written cleaned; pictures are of clean evidence."""
    contents = {
        name: anonymizer.text(content, name) if isinstance(content, str) else content
        for name, content in rendered.contents.items()
    }
    return replace(rendered, contents=contents)
