"""How figures look, in the colours of `palette`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from io import BytesIO
from operator import itemgetter
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullFormatter

from research_eval.palette import colours as colours

INK, MUTED, GRID = "#222222", "#666666", "#DDDDDD"

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
"""A second mark of identity beside the colour, in the same order as arms."""

RC: Any = {
    "axes.edgecolor": MUTED,
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "text.color": INK,
    "text.parse_math": False,  # a name with dollar signs is a name
    "xtick.color": MUTED,
    "ytick.color": MUTED,
}

DPI = 150

MAX_NAME = 26
"""Characters of a name in a picture."""

MAX_ROW = 36
"""Characters of a line of what names a row."""


class Picture(Figure):
    """A figure that a notebook shows, whether or not anything there has loaded pyplot."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        width, height = (round(100 * inches) for inches in self.get_size_inches())
        with house():
            return to_png(self), {"width": width, "height": height}


PAPER_RC: Any = {
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.titlesize": 8,
    "figure.constrained_layout.h_pad": 0.02,
    "figure.constrained_layout.w_pad": 0.02,
    "font.size": 7.5,
    "grid.linewidth": 0.4,
    "legend.fontsize": 7,
    "lines.linewidth": 1.2,
    "pdf.fonttype": 42,  # outlines as TrueType, which every publisher takes; type 3 is refused
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
}
"""What is other in a figure that is printed at its own size."""

PANEL = 2.4
"""Inches that a panel needs on paper beside another one."""

LEAST_SCALE = 0.62
"""A figure is made less high than on the screen by at most this factor: letters keep their size."""

_paper_width: ContextVar[float | None] = ContextVar("paper_width", default=None)


@contextmanager
def house(paper_width: float | None = None) -> Iterator[None]:
    """Draw in the style of the house; whoever calls an output's `draw` does it inside.

    Args:
        paper_width: Inches that every figure is wide, for print; None leaves it to the figure.
    """
    token = _paper_width.set(paper_width)
    try:
        with mpl.rc_context(RC | (PAPER_RC if paper_width else {})), warnings.catch_warnings():
            # A name may hold any character; one that the font lacks is drawn as a box.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            yield
    finally:
        _paper_width.reset(token)


def side_by_side(most: int, inches: float = PANEL) -> int:
    """Return how many panels fit beside each other, at most so many.

    Args:
        most: How many there are on a screen.
        inches: That each needs on paper.
    """
    width = _paper_width.get()
    return most if width is None else max(1, min(most, int(width / inches)))


def figure(
    width: float = 7.0, height: float = 3.6, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Figure, list[Axes]]:
    """Return an empty figure, in inches, and its axes from left to right, from top to bottom.

    On paper it is as wide as the paper asks, and its height shrinks with its width.

    Args:
        width: Of the whole figure.
        height: Of the whole figure.
        rows: Of axes; likewise `columns`.
        columns: See `rows`.
        options: For `Figure.subplots`, such as `sharey=True` or `width_ratios=(2, 1)`.
    """
    paper = _paper_width.get()
    if paper is not None:
        width, height = paper, height * min(1.0, max(paper / width, LEAST_SCALE))
    made = Picture(figsize=(width, height), layout="constrained")
    axes = made.subplots(rows, columns, squeeze=False, **options)
    return made, list(axes.flat)


_TICKS = ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1,))
"""Within a decade, of an axis up to one decade long, up to three, and longer."""


def log_scale(axes: Axes, *, x: bool = False, y: bool = False) -> None:
    """Make an axis logarithmic, with plain numbers at its ticks: 0.2, 50, 3k, 2M.

    Draw first: how many ticks there are follows from what the axis spans.
    """
    for axis, is_meant in ((axes.xaxis, x), (axes.yaxis, y)):
        if is_meant:
            (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)("log")
            low, high = axis.get_view_interval()
            axis.set_major_locator(
                LogLocator(subs=_TICKS[int(high > 10 * low) + int(high > 1000 * low)])
            )
            axis.set_major_formatter(FuncFormatter(_plain))
            axis.set_minor_formatter(NullFormatter())


def _room(characters: int, on_paper: float) -> int:
    """Return how many characters fit, on paper at most so many to an inch of the figure."""
    width = _paper_width.get()
    return characters if width is None else min(characters, int(on_paper * width))


def short(name: str, most: int = MAX_NAME, panels: int = 1) -> str:
    """Return a name that fits into a picture: of a longer one both ends; tables have the whole.

    Args:
        name: Of anything.
        most: Characters on the screen.
        panels: That stand beside each other; on paper each has its share of the room.
    """
    return _cut(name, _room(most, 6 / panels))


def _cut(name: str, most: int) -> str:
    if len(name) <= most:
        return name
    tail = most // 2
    return f"{name[: most - 1 - tail]}…{name[-tail:]}"


def versus(first: str, second: str) -> str:
    """Return two names as that of a row, on two lines if they are too long for one."""
    names = short(first), short(second)
    line = " vs ".join(names)
    return line if len(line) <= _room(MAX_ROW, 8) else "\nvs ".join(names)


def label_rows(axes: Axes, names: Sequence[str], notes: Sequence[str]) -> None:
    """Name horizontal rows from top to bottom at the left, and write a note at the right of each.

    A long name is shortened, each of its lines by itself.

    Args:
        axes: Whose rows lie at y = 0, 1, 2, ...
        names: Of the rows.
        notes: One for each row.
    """
    most = _room(MAX_ROW, 8)
    told = ["\n".join(_cut(line, most) for line in name.split("\n")) for name in names]
    axes.set_yticks(range(len(names)), told, color=INK)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    for row, text in enumerate(notes):
        place = ("axes fraction", "data")
        axes.annotate(text, (1.01, row), xycoords=place, va="center", color=MUTED)


def _plain(value: float, _: int | None) -> str:
    return _LARGE(value) if value >= 1000 else f"{value:g}"


_LARGE = EngFormatter(sep="")


def label_ends(
    axes: Axes, ends: Sequence[tuple[str, float, float]], colour: dict[str, str]
) -> None:
    """Write names beside points, mostly ends of lines, pushed upwards where they would overlap.

    A long name is shortened.

    Args:
        axes: With its limits final.
        ends: Name, and x and y of its point in data coordinates.
        colour: Of each name.
    """
    points = 72 / axes.figure.dpi
    size = mpl.rcParams["font.size"]
    place = axes.get_subplotspec()
    panels = place.get_gridspec().ncols if place else 1
    taken: list[tuple[float, float, float]] = []  # left, right and height of what stands already
    for name, x, y in sorted(ends, key=lambda end: end[2]):
        text = short(name, panels=panels)
        left, wanted = axes.transData.transform((x, y)) * points
        right, height = left + 0.65 * size * len(text), wanted
        for other_left, other_right, other in sorted(taken, key=itemgetter(2)):
            if left < other_right and other_left < right and height < other + 1.25 * size:
                height = max(height, other + 1.25 * size)
        taken.append((left, right, height))
        axes.annotate(
            text,
            (x, y),
            xytext=(6, height - wanted),
            textcoords="offset points",
            va="center",
            color=colour.get(name, INK),
            annotation_clip=False,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )


def to_png(made: Figure) -> bytes:
    """Return a figure as PNG; the same figure gives the same bytes."""
    buffer = BytesIO()
    made.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def to_pdf(made: Figure) -> bytes:
    """Return a figure as PDF; the same figure gives the same bytes, without date or maker."""
    buffer = BytesIO()
    nobody = dict.fromkeys(("CreationDate", "Creator", "Producer"))
    made.savefig(buffer, format="pdf", metadata=nobody)
    return buffer.getvalue()
