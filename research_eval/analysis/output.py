"""What a table or a figure of the report is, and where all of them are found."""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from research_eval.analysis import outputs
from research_eval.analysis.evidence import Evidence
from research_eval.files import safe_name


class NothingToShowError(Exception):
    """Raised by a frame, a picture or sentences that the evidence does not allow.

    The reason stands in the report instead: never an empty picture.
    """


def require_course(steps: pd.Series) -> None:
    """Check that points lie at several steps: of one, a picture over training shows nothing.

    Raises:
        NothingToShowError: If not.
    """
    if steps.nunique() < 2:
        raise NothingToShowError(
            f"all points are of one step, {steps.iloc[0]:g}: more of them need more evaluations, "
            "by more epochs or a smaller training_params.eval_every"
        )


def _no_sentences(_frame: pd.DataFrame, _evidence: Evidence) -> list[str]:
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A table with, mostly, its picture and what both support in words.

    Attributes:
        name: Names it on the command line, and its files, unless `file` does.
        title: Heading in the report.
        order: Place in the report; smaller comes first.
        meaning: One sentence below the heading: what is shown, and how to read it.
        frame: Evidence to table; written as CSV. Pure: it changes nothing.
        draw: The table as a picture; written as PNG.
        sentences: What the table supports, each a full sentence of plain text.
        file: Name of the files without suffix; `{dataset}`, `{metric}` (without underscores),
            `{score}` (as `f1` of `final_val_f1`) and `{name}` are filled in.
        shown: Columns that the report shows; empty for all. The CSV has all.
        max_rows: Rows that the report shows; likewise.
    """

    name: str
    title: str
    order: int
    meaning: str
    frame: Callable[[Evidence], pd.DataFrame]
    draw: Callable[[pd.DataFrame, Evidence], Figure] | None = None
    sentences: Callable[[pd.DataFrame, Evidence], list[str]] = _no_sentences
    file: str = "{dataset}_{name}"
    shown: tuple[str, ...] = ()
    max_rows: int = 12

    def stem(self, evidence: Evidence) -> str:
        """Return the name of its files without suffix."""
        metric = evidence.question.metric
        named = {
            "dataset": evidence.dataset,
            "metric": metric.replace("_", ""),
            "score": metric.removeprefix("final_val_"),
            "name": self.name,
        }
        return self.file.format(**{key: file_name(value) for key, value in named.items()})


def file_name(name: str) -> str:
    """Return a name as part of the name of a file, safe in every file system.

    Where characters had to be replaced, a few of its hash keep different names apart.
    """
    safe = safe_name(name)[:100].lstrip(".")
    return safe if safe == name else f"{safe}_{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def find_outputs() -> list[Output]:
    """Return every output, in the order of the report."""
    modules = (
        importlib.import_module(f"{outputs.__name__}.{module.name}")
        for module in pkgutil.iter_modules(outputs.__path__)
        if not module.name.startswith("_")
    )
    found = [output for module in modules for output in module.OUTPUTS]
    return sorted(found, key=lambda output: (output.order, output.name))
