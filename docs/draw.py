"""Draws the picture of the README from recorded runs.

Three commands made it:

    research-eval run examples/configs/dense_parity.json --seeds 3 --db parity.db
    research-eval run examples/configs/moe_parity.json --seeds 3 --db parity.db
    python docs/draw.py parity.db docs/images/parity.png

Colours are those of Wong 2011 (Nature Methods 8:441), told apart without full colour vision.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import matplotlib as mpl
import numpy as np

from research_eval.records import RunRecord, RunStatus
from research_eval.store import Store

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

COLOURS = {"dense": "#0072B2", "moe": "#D55E00"}


def draw(database: Path, picture: Path) -> None:
    """Write the picture: learning curves of each model, and the load of the last moe run."""
    with Store.open(database, mode="ro") as store:
        by_model: dict[str, list[RunRecord]] = defaultdict(list)
        for record in store.runs(status=RunStatus.COMPLETED):
            by_model[str(record.model_type)].append(record)
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(9, 3.2), width_ratios=(3, 2), layout="constrained"
        )
        for model in sorted(by_model):
            _curves(left, store, model, by_model[model])
        _load(right, store, by_model["moe"][0])
        figure.savefig(picture, dpi=160)


def _curves(axes: Axes, store: Store, model: str, records: list[RunRecord]) -> None:
    histories = [store.history(record.experiment_id, "val_f1") for record in records]
    steps, values = histories[0].steps, np.stack([history.values for history in histories])
    colour = COLOURS[model]
    axes.fill_between(steps, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.2, lw=0)
    axes.plot(steps, values.mean(axis=0), color=colour, marker="o", ms=3)
    mean = values.mean(axis=0)
    below = int(np.argmax(mean > 0.8))  # where the curves are apart
    axes.annotate(
        f"{model}, {len(records)} seeds",
        (steps[below], mean[below]),
        xytext=(1300, 0.82 if model == "dense" else 0.7),
        arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.8},
        color=colour,
    )
    axes.set(xlabel="optimizer step", ylabel="macro F1, validation", title="Parity of 16 tokens")
    axes.spines[["top", "right"]].set_visible(False)


def _load(axes: Axes, store: Store, record: RunRecord) -> None:
    stats = store.expert_stats(record.experiment_id, "load_share")
    last = max(entry.step for entry in stats)
    shares = {entry.layer: entry.values for entry in stats if entry.step == last}
    experts = np.arange(len(shares[0]))
    width = 0.8 / len(shares)
    for layer, share in shares.items():
        place = experts + (layer - (len(shares) - 1) / 2) * width
        axes.bar(
            place, share, width, label=f"layer {layer}", color=COLOURS["moe"], alpha=1 - layer / 2
        )
    axes.axhline(1 / len(experts), color="0.4", lw=1, ls="--")
    axes.set(
        xlabel="expert",
        ylabel="share of routed tokens",
        title=f"Load at step {last}",
        xticks=experts,
    )
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
