"""Figures of the report, drawn again for a column of print."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator

from research_eval.analysis import style
from research_eval.analysis.evidence import Evidence
from research_eval.analysis.section import Section

MARGIN = 2.0
"""Pixels that the name of an axis keeps from the edge."""

GAP = 5.0
"""Pixels between the numbers of an axis."""


def figures(
    sections: Iterable[Section], evidence: Evidence, width: float
) -> Mapping[str, bytes | None]:
    """Return a PDF for each section by the name of its file; None where there is no picture.

    Args:
        sections: Of the report; their tables are drawn.
        evidence: The runs.
        width: Of each figure, in inches.
    """
    return {
        f"{section.output.stem(evidence)}.pdf": (
            None if section.picture is None else _drawn(section, evidence, width)
        )
        for section in sections
    }


def _drawn(section: Section, evidence: Evidence, width: float) -> bytes:
    draw, table = section.output.draw, section.table
    assert draw is not None  # there is a picture
    assert table is not None
    with style.house(paper_width=width):
        made = draw(table, evidence)
        _without_title(made)
        for _ in range(2):  # a name on two lines moves the axes
            made.draw_without_rendering()
            for axes in made.axes:
                _fit(axes, made)
        return style.to_pdf(made)


def _without_title(made: Figure) -> None:
    """Leave the title to the caption; of several panels each keeps what tells it apart."""
    if len(made.axes) == 1:
        made.axes[0].set_title("")


def _fit(axes: Axes, made: Figure) -> None:
    """Break the names of axes into lines that fit and stay inside, and part what would touch."""
    _thin(axes)
    box, page = axes.get_window_extent(), made.bbox
    title = axes.set_title(axes.get_title(loc="left"), loc="left")
    beyond = title.get_window_extent().x1 + MARGIN - page.width
    if beyond > 0:
        title.set_x(title.get_position()[0] - beyond / box.width)
    _wrap(axes.yaxis.label, box.height)
    label = axes.xaxis.label
    if _wrap(label, page.width if _has_row(axes, made) else box.width):
        middle = (box.x0 + box.x1) / 2
        half = label.get_window_extent().width / 2
        inside = min(max(middle, half + MARGIN), page.width - half - MARGIN)
        label.set_x((inside - box.x0) / box.width)


def _thin(axes: Axes) -> None:
    """Leave out every second tick where numbers beside each other would touch."""
    low, high = sorted(axes.get_xlim())
    ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
    labels = (label for label in axes.get_xticklabels() if label.get_text())
    spans = sorted(tuple(label.get_window_extent().intervalx) for label in labels)
    if any(second[0] - first[1] < GAP for first, second in pairwise(spans)):
        axes.xaxis.set_major_locator(FixedLocator(ticks[::2]))


def _has_row(axes: Axes, made: Figure) -> bool:
    """Return whether no other axes stand beside these."""
    box = axes.get_window_extent()
    others = (each.get_window_extent() for each in made.axes if each is not axes)
    return not any(other.y0 < box.y1 and box.y0 < other.y1 for other in others)


def _wrap(label: Text, room: float) -> bool:
    """Break a name that is longer than its room into lines; return whether it is long."""
    text, extent = label.get_text(), label.get_window_extent()
    length = max(extent.width, extent.height)
    if text and length > room - 2 * MARGIN:
        characters = max(12, int(len(text) * (room - 2 * MARGIN) / length))
        label.set_text("\n".join(textwrap.wrap(text, characters, break_long_words=False)))
    return bool(text)
