"""Write the tables and pictures of the WikiText-2 study from its recorded runs.

    python report.py experiment_results.db ../../../analysis_reports/wikitext2

Losses are nats per token of the validation split; intervals are Student's at 95 % over seeds.
Every comparison here was named before the first run. Those of one family (cost, coupling) are
adjusted together (Holm).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from research_eval import Store
from research_eval.analysis.statistics import holm, t_interval, welch
from research_eval.errors import ResearchEvalError

CONDITION = 'project == "wikitext2" and status == "COMPLETED"'
CANDIDATE = "gnn_moe_2x8"
FAMILIES = {
    "cost": ("dense_4x128", "dense_16x64", "moe_top1", "moe_top2"),
    "coupling": ("gnn_moe_sum", "gnn_moe_mean", "hgnn_moe_2x8"),
}
"""Whom the candidate is compared with: baselines of equal cost, and other couplings."""

SHAPES = {2: "gnn_moe_8x2", 4: "gnn_moe_4x4", 8: CANDIDATE, 16: "gnn_moe_1x16"}
"""Sixteen blocks of width 64 in all: experts side by side, the rest as layers."""

NORMALISED = {CANDIDATE: "per degree (ours)", "gnn_moe_sum": "summed (original)"}
EXPERTS, LAYERS = "model_params.num_experts", "model_params.num_layers"
LOSS = "metrics.final_val_loss"
SCORES = {
    "metrics.final_val_perplexity": "val perplexity",
    "metrics.final_test_perplexity": "test perplexity",
    "metrics.final_test_word_perplexity": "test per word",
    "metrics.final_test_bits_per_byte": "test bits/byte",
}
COSTS = {
    "metrics.flops_per_token": "FLOPs/token",
    "metrics.param_count": "parameters",
    "metrics.active_param_count": "active",
}
COLOURS = ("#0072B2", "#D55E00", "#009E73")
"""Of Wong 2011 (Nature Methods 8:441), told apart without full colour vision."""


def main(database: str, folder: str) -> None:
    """Read the store and write everything into the folder."""
    fields = ["experiment_name", "seed", EXPERTS, LAYERS, LOSS, *SCORES, *COSTS]
    with Store.open(database, mode="ro") as store:
        runs = store.frame(", ".join(fields), filter=CONDITION)
    runs = runs.dropna(subset=LOSS)  # evaluations of runs are no runs of a configuration
    runs = runs.sort_values(["experiment_name", "seed"])
    require_all(runs)
    is_base = ~runs["experiment_name"].isin(NORMALISED) | (runs[EXPERTS] == 8)
    equal, grown = runs[is_base], runs[runs["experiment_name"].isin(NORMALISED)]
    tables = {
        "equal_cost": scores(equal),
        "contrasts": pd.concat([contrasts(equal, family) for family in FAMILIES]),
        "experts": experts(equal, grown),
        "trends": trends(equal, grown),
    }
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.to_csv(target / f"{name}.csv", index=False)
        print(f"\n{name}\n{table.to_string(index=False, float_format='{:.4g}'.format)}")
    draw(tables["equal_cost"], tables["experts"], target)


def require_all(runs: pd.DataFrame) -> None:
    """End with what is missing, unless every configuration has completed runs of the same seeds."""
    seeds = runs.groupby(["experiment_name", EXPERTS], dropna=False)["seed"].agg(tuple)
    there = set(runs["experiment_name"])
    wanted = [*SHAPES.values(), *(name for names in FAMILIES.values() for name in names)]
    missing = [name for name in wanted if name not in there]
    missing += [
        f"{name} with {number} experts"
        for name in NORMALISED
        for number in SHAPES
        if (name, number) not in seeds
    ]
    if missing:
        sys.exit(f"error: no completed run of {', '.join(missing)}; README.md has the commands")
    if seeds.nunique() > 1:
        short = seeds[seeds.map(len) < seeds.map(len).max()].index.get_level_values(0).unique()
        sys.exit(f"error: {', '.join(short)} lack seeds that others have; type the commands again")


def losses(runs: pd.DataFrame, name: str) -> np.ndarray:
    """Return the losses of one configuration, in the order of its seeds."""
    return runs.loc[runs["experiment_name"] == name, LOSS].to_numpy(float)


def scores(runs: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each configuration, the lowest loss first: mean, interval, costs."""
    rows = []
    for name, group in runs.groupby("experiment_name"):
        low, high = t_interval(group[LOSS])
        row = {"name": name, "n": len(group), "val loss": group[LOSS].mean()}
        row |= {"low": float(low), "high": float(high)}
        row |= {title: group[metric].mean() for metric, title in (SCORES | COSTS).items()}
        rows.append(row)
    return pd.DataFrame(rows).sort_values("val loss")


def contrasts(runs: pd.DataFrame, family: str) -> pd.DataFrame:
    """Return the candidate minus each of a family; below 0 the candidate is better."""
    mine = losses(runs, CANDIDATE)
    found = {other: welch(mine, losses(runs, other)) for other in FAMILIES[family]}
    adjusted = holm([float(each.p) for each in found.values()])
    return pd.DataFrame(
        {
            "family": family,
            "contrast": f"{CANDIDATE} - {other}",
            "nats": float(each.delta),
            "low": float(each.low),
            "high": float(each.high),
            "p_Holm": p,
        }
        for (other, each), p in zip(found.items(), adjusted, strict=True)
    )


def lines_of_experts(equal: pd.DataFrame, grown: pd.DataFrame) -> dict[str, dict[int, np.ndarray]]:
    """Return, for each way to add experts, the losses of all seeds by number of experts."""
    lines = {
        f"two layers, {words}": {
            int(number): group[LOSS].to_numpy(float)
            for number, group in grown[grown["experiment_name"] == name].groupby(EXPERTS)
        }
        for name, words in NORMALISED.items()
    }
    shapes = {number: losses(equal, name) for number, name in SHAPES.items()}
    return {**lines, "16 blocks in all": shapes}


def experts(equal: pd.DataFrame, grown: pd.DataFrame) -> pd.DataFrame:
    """Return loss and perplexity as a function of the number of experts."""
    rows = []
    for line, points in lines_of_experts(equal, grown).items():
        for number, values in points.items():
            low, high = t_interval(values)
            row = {"experts are added to": line, "experts": number, "n": len(values)}
            row |= {"val loss": values.mean(), "low": float(low), "high": float(high)}
            rows.append(row | {"val perplexity": np.exp(values).mean()})
    return pd.DataFrame(rows)


def trends(equal: pd.DataFrame, grown: pd.DataFrame) -> pd.DataFrame:
    """Return the change of the loss for each doubling of experts: the mean slope over seeds."""
    rows = []
    for line, points in lines_of_experts(equal, grown).items():
        doublings = np.log2(list(points))
        slopes = np.polyfit(doublings, np.stack(list(points.values())), deg=1)[0]
        low, high = t_interval(slopes)
        row = {"experts are added to": line, "n": len(slopes), "nats per doubling": slopes.mean()}
        rows.append(row | {"low": float(low), "high": float(high)})
    return pd.DataFrame(rows)


def draw(costs: pd.DataFrame, grown: pd.DataFrame, folder: Path) -> None:
    """Draw losses at equal cost, and losses against experts."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    places = np.arange(len(costs))[::-1]
    left.hlines(places, costs["low"], costs["high"], color=COLOURS[0], lw=1.5)
    left.plot(costs["val loss"], places, "o", color=COLOURS[0])
    left.set(yticks=places, xlabel="validation loss, nats per token", title="Equal FLOPs per token")
    left.set_yticklabels(costs["name"])
    for (line, points), colour in zip(
        grown.groupby("experts are added to", sort=False), COLOURS, strict=True
    ):
        _line(right, str(line), points, colour)
    right.set(
        xlabel="experts",
        ylabel="validation loss, nats per token",
        title="More experts, equal tokens",
    )
    right.set_xscale("log", base=2)
    right.set_xticks(list(SHAPES), labels=[str(number) for number in SHAPES])
    right.legend(frameon=False)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(folder / "wikitext2.png", dpi=150)


def _line(axes: Axes, label: str, points: pd.DataFrame, colour: str) -> None:
    axes.plot(points["experts"], points["val loss"], "o-", color=colour, label=label)
    axes.fill_between(points["experts"], points["low"], points["high"], color=colour, alpha=0.15)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python report.py DATABASE FOLDER")
    try:
        main(*sys.argv[1:])
    except ResearchEvalError as error:
        sys.exit(f"error: {error}")
