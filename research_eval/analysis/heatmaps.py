"""Matrices that a run recorded of its experts, as one long table and as a grid of heat maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, MaxNLocator

from research_eval.analysis import style
from research_eval.analysis.arms import by_arm
from research_eval.analysis.evidence import Evidence
from research_eval.analysis.output import NothingToShowError

COLUMNS = ["arm", "run", "layer", "row", "column", "value"]

MAX_ARMS, MAX_LAYERS = 6, 4
"""Rows and columns of heat maps in a figure; of more layers some are chosen, evenly spread."""

_MAP = "cividis"  # legible without full colour vision, and in grey


def long(matrix: pd.DataFrame) -> pd.DataFrame:
    """Return a matrix as a table with a line for each entry: `row`, `column`, `value`."""
    return matrix.rename_axis(index="row").reset_index().melt("row", var_name="column")


def evenly(count: int, most: int) -> list[int]:
    """Return at most so many of the places 0..count - 1, the first and the last among them."""
    return [*map(int, np.unique(np.linspace(0, count - 1, min(count, most)).round()))]


def shown_layers(frame: pd.DataFrame) -> list[int]:
    """Return the layers of one arm that are drawn."""
    layers = np.unique(frame["layer"])
    return [int(layers[place]) for place in evenly(len(layers), MAX_LAYERS)]


def draw(
    frame: pd.DataFrame, evidence: Evidence, *, rows: str, columns: str, value: str, layer: str
) -> Figure:
    """Return a heat map for each arm and layer, all on one scale from 0.

    Args:
        frame: With the columns `COLUMNS`.
        evidence: For the order and the colours of the arms.
        rows: What a row is, for the axis; likewise `columns`.
        columns: See `rows`.
        value: What is shown, for the colour bar.
        layer: What a layer is called above its map; empty for none.

    Raises:
        NothingToShowError: If there are only NaN.
    """
    if frame["value"].isna().all():
        raise NothingToShowError("nothing but NaN was recorded")
    arms = list(by_arm(frame, evidence))[:MAX_ARMS]
    width = max(len(shown_layers(own)) for _, own in arms)
    made, axes = style.figure(
        width=1.6 + 2.1 * width, height=0.5 + 1.9 * len(arms), rows=len(arms), columns=width
    )
    most = float(frame["value"].max()) or 1.0
    image = None
    for place, (arm, own) in enumerate(arms):
        line = axes[place * width : (place + 1) * width]
        layers = shown_layers(own)
        for panel, number in zip(line, layers, strict=False):
            image = _map(panel, own[own["layer"] == number], most)
            if layer:
                panel.set_title(f"{layer} {number}")
            if place == len(arms) - 1:
                panel.set_xlabel(columns)
        for unused in line[len(layers) :]:
            unused.set_visible(False)
        ink = style.colours(evidence.arms)[arm]
        line[0].set_ylabel(f"{style.short(arm)}\n{rows}", color=ink)
    if image is not None:
        made.colorbar(image, ax=axes, label=value, shrink=0.8, aspect=30)
    return made


def _map(axes: Axes, own: pd.DataFrame, most: float) -> AxesImage:
    matrix = own.pivot(index="row", columns="column", values="value")
    image = axes.imshow(
        matrix.to_numpy(float), cmap=_MAP, vmin=0, vmax=most, aspect="auto", interpolation="none"
    )
    axes.grid(visible=False)
    for axis, names in ((axes.xaxis, matrix.columns), (axes.yaxis, matrix.index)):
        axis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1))
        axis.set_major_formatter(FuncFormatter(_namer(list(names))))
    return image


def _namer(names: Sequence[object]) -> Callable[[float, int | None], str]:
    """Return what names a place of the map for its axis."""

    def name(place: float, _: int | None) -> str:
        return str(names[round(place)]) if 0 <= round(place) < len(names) else ""

    return name
