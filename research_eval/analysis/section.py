"""An output, worked out for some evidence."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from research_eval.analysis import style
from research_eval.analysis.evidence import Evidence
from research_eval.analysis.output import NothingToShowError, Output


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """One output, worked out.

    Attributes:
        output: Which.
        table: None if there is nothing to show.
        picture: PNG, None if there is none.
        sentences: What it supports.
        notes: Why there is no table or no picture.
    """

    output: Output
    table: pd.DataFrame | None
    picture: bytes | None
    sentences: tuple[str, ...]
    notes: tuple[str, ...]


def work_out(output: Output, evidence: Evidence) -> Section:
    """Make an output's table, picture and sentences."""
    try:
        table = output.frame(evidence)
    except NothingToShowError as reason:
        return Section(output, None, None, (), (str(reason),))
    if table.empty:
        return Section(output, None, None, (), ("no run has what this shows",))
    picture: bytes | None = None
    notes: tuple[str, ...] = ()
    if output.draw is not None:
        try:
            with style.house():
                picture = style.to_png(output.draw(table, evidence))
        except NothingToShowError as reason:
            notes = (str(reason),)
    return Section(output, table, picture, tuple(output.sentences(table, evidence)), notes)
