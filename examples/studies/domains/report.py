"""Write the tables and pictures of the study of specialisation from its recorded runs.

    python report.py experiment_results.db ../../../analysis_reports/domains

Every run looks at its test split again, token by token. All measures of information are shares of
ln G, the entropy of G equally frequent domains, from 0 (the expert says nothing about the domain)
to 1:

nmi       I(domain; expert), which training records in nats as `val_specialisation_layer{n}`.
chance    the 97.5th percentile of the same where domains are dealt to rows at random.
lexical   I(domain; expert) of a router that sends each token to the experts with the frequencies
          of the trained one, and is blind to everything but the token's id.
context   I(domain; expert | token), less its mean under dealt domains: what the choice of expert
          tells beyond the token that is routed. As fewer tokens occur in all domains than under
          random ones, too much is taken off rather than too little.
token     I(domain; token): what the token alone tells.

a vs b    I(domain; expert) of the rows of two domains, as a share of ln 2.

`experts` is the exponential of the entropy of their load: 8 where all are used alike. A row of
runs.csv is a layer of a run. Elsewhere layers are averaged first; intervals are
Student's at 95 % over seeds.

N rows, V token ids, G domains, E experts, P permutations.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from torch import Tensor

from research_eval import Store
from research_eval.analysis.statistics import holm, t_interval, welch
from research_eval.diagnostics.load import effective_experts
from research_eval.diagnostics.routing import row_of_tokens, served
from research_eval.diagnostics.specialisation import mutual_information, specialisation
from research_eval.errors import ResearchEvalError
from research_eval.recorded import Recalled, recall
from research_eval.training.batches import Batches

CONDITION = 'project == "domains" and status == "COMPLETED"'
ARMS = ("untrained", "hash", "top1", "top2", "top1_no_balance")
COLOURS = {"as-is": "#D55E00", "stripped": "#0072B2", "letters": "#009E73"}
"""Of each version of the text; Wong 2011 (Nature Methods 8:441)."""

PUBLISHED = (0.017, 0.045)
"""Least and greatest NMI of four layers of GPT-2 with 8 experts, top-1, on code, math and prose,
computed from its published table of routing."""

MEASURES = ("nmi", "lexical", "context")
PERMUTATIONS, AT_ONCE = 200, 20

Shares = dict[tuple[str, str, int, int], Tensor]
"""Load of experts by domain, [G, E], for each version, arm, seed and layer."""


def main(database: str, folder: str) -> None:
    """Look at every run, and write everything into the folder."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    shares: Shares = {}
    with Store.open(database, mode="ro") as store:
        for record in store.runs(filter=CONDITION, sort="timestamp"):
            recalled = recall(record, store, device="cpu")
            version = Path(record.params["dataset_params.path"]).name
            arm, seed = record.experiment_name, record.seed or 0
            run = {"version": version, "arm": arm, "seed": seed}
            loss = {"test_loss": record.value("final_test_loss")}
            names = recalled.prepared.dataset.domain_names
            domains_N, layers = choices(recalled)
            for layer, counts_NVE in layers.items():
                load = {"layer": layer, "experts": effective_experts(counts_NVE.sum((0, 1)))}
                counts_GE = summed(members(domains_N), counts_NVE).sum(1)
                found = measures(domains_N, counts_NVE) | pairs(counts_GE, names)
                rows.append(run | load | found | loss)
                shares[version, arm, seed, layer] = counts_GE / counts_GE.sum(-1, keepdim=True)
            print(version, arm, seed, f"nmi {rows[-1]['nmi']:.4f}", flush=True)
    runs = pd.DataFrame(rows)
    tables = {"runs": runs, "summary": summary(runs), "contrasts": contrasts(runs)}
    for name, table in tables.items():
        table.to_csv(target / f"{name}.csv", index=False, float_format="%.5g")
        if name != "runs":
            print(f"\n{name}\n{table.to_string(index=False, float_format='{:.4f}'.format)}")
    draw_measures(runs, target / "specialisation.png")
    draw_shares(shares, names, target / "shares.png")


@torch.inference_mode()
def choices(recalled: Recalled) -> tuple[Tensor, dict[int, Tensor]]:
    """Return each test row's domain, and by layer how often a token of a row got an expert."""
    prepared, network = recalled.prepared, recalled.network
    split, vocabulary = prepared.dataset.test, prepared.dataset.vocab_size
    if split is None or split.domains_N is None:
        sys.exit(f"error: run {recalled.record.experiment_id} has no test split with domains")
    found: dict[int, list[Tensor]] = {}
    for batch in Batches(split, prepared.dataset.task, prepared.device).in_order(64):
        rows, length = batch.ids_BL.shape
        row_T = row_of_tokens(batch.mask_BL, (rows, length), prepared.device)
        ids_T = batch.ids_BL.flatten() if batch.mask_BL is None else batch.ids_BL[batch.mask_BL]
        for record in network(batch.ids_BL, batch.mask_BL, batch.labels).routing:
            shape = rows, vocabulary, record.num_experts
            cells_TK = (row_T * shape[1] + ids_T)[:, None] * shape[2] + record.chosen_TK
            counts = torch.bincount(cells_TK[served(record)], minlength=math.prod(shape))
            found.setdefault(record.layer, []).append(counts.view(shape))
    return split.domains_N, {layer: torch.cat(parts) for layer, parts in found.items()}


def measures(domains_N: Tensor, counts_NVE: Tensor) -> dict[str, float]:
    """Return what the choices of a layer tell about the domain, as shares of ln G."""
    counts_GVE = summed(members(domains_N), counts_NVE)
    plain = specialisation(domains_N, counts_NVE.sum(1))
    dealt_P = torch.cat([given_token(dealt) for dealt in by_chance(domains_N, counts_NVE)])
    in_nats = {
        "nmi": plain.information,
        "chance": plain.chance_high,
        "lexical": float(lexical(counts_GVE)),
        "context": float(given_token(counts_GVE) - dealt_P.mean()),
        "context_chance": float(dealt_P.quantile(0.975) - dealt_P.mean()),
        "token": float(mutual_information(counts_GVE.sum(-1))),
    }
    return {name: value / math.log(len(counts_GVE)) for name, value in in_nats.items()}


def members(domains_N: Tensor) -> Tensor:
    """Return [G, N]: 1 where a row is of a domain."""
    return F.one_hot(domains_N).T.double()


def summed(members_GN: Tensor, counts_NVE: Tensor) -> Tensor:
    """Return the counts of each domain, [..., G, V, E]."""
    counts_GX = members_GN @ counts_NVE.flatten(1).double()
    return counts_GX.view(*counts_GX.shape[:-1], *counts_NVE.shape[1:])


def by_chance(domains_N: Tensor, counts_NVE: Tensor) -> Iterator[Tensor]:
    """Yield the counts [P, G, V, E] where domains are dealt to rows at random, some at a time."""
    generator = torch.Generator().manual_seed(0)
    members_GN = members(domains_N)
    for _ in range(0, PERMUTATIONS, AT_ONCE):
        orders = [torch.randperm(len(domains_N), generator=generator) for _ in range(AT_ONCE)]
        dealt_PGN = torch.stack([members_GN[:, order_N] for order_N in orders])
        yield summed(dealt_PGN, counts_NVE)


def lexical(counts_GVE: Tensor) -> Tensor:
    """Return I(domain; expert) if each token's experts were drawn without regard to its row."""
    experts_VE = counts_GVE.sum(0)
    share_VE = experts_VE / experts_VE.sum(-1, keepdim=True).clamp(min=1)
    return mutual_information(counts_GVE.sum(-1) @ share_VE)


def given_token(counts_GVE: Tensor) -> Tensor:
    """Return I(domain; expert | token) in nats: the mean over tokens, by their frequency."""
    counts_VGE = counts_GVE.transpose(-3, -2)
    frequency_V = counts_VGE.sum((-2, -1))
    share_V = frequency_V / frequency_V.sum(-1, keepdim=True)
    return (mutual_information(counts_VGE) * share_V).sum(-1)


def pairs(counts_GE: Tensor, names: tuple[str, ...]) -> dict[str, float]:
    """Return I(domain; expert) for each two domains, as a share of ln 2."""
    return {
        f"{names[one]} vs {names[other]}": float(mutual_information(counts_GE[[one, other]]))
        / math.log(2)
        for one, other in combinations(range(len(names)), 2)
    }


def of_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each run: means over its layers."""
    return runs.groupby(["version", "arm", "seed"], as_index=False).mean().drop(columns="layer")


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each version and arm: means over seeds, with intervals."""
    rows: list[dict[str, Any]] = []
    for (version, arm), group in of_runs(runs).groupby(["version", "arm"]):
        row: dict[str, Any] = {"version": version, "arm": arm, "n": len(group)}
        for measure in MEASURES:
            low, high = t_interval(group[measure])
            ends = {f"{measure}_low": float(low), f"{measure}_high": float(high)}
            row |= {measure: group[measure].mean()} | ends
        others = ["chance", "context_chance", "token", "experts", "test_loss"]
        others += [str(name) for name in group if " vs " in str(name)]
        rows.append(row | {name: group[name].mean() for name in others})
    return pd.DataFrame(rows)


def contrasts(runs: pd.DataFrame) -> pd.DataFrame:
    """Return differences of measures between versions, and between training and none.

    Welch's test over seeds; p is adjusted (Holm) over all rows of one kind and measure.
    """
    means = dict(iter(of_runs(runs).groupby(["version", "arm"])))
    trained = [arm for arm in ARMS if arm not in ("untrained", "hash")]
    cues = [(("as-is", arm), ("stripped", arm)) for arm in trained]
    training = [((version, "top1"), (version, "untrained")) for version in COLOURS]
    tables = []
    for kind, pairs in (("cues", cues), ("training", training)):
        present = [pair for pair in pairs if {*pair} <= means.keys()]
        for measure in MEASURES if present else ():
            values = {key: group[measure].to_numpy(float) for key, group in means.items()}
            found = [welch(values[one], values[other]) for one, other in present]
            rows = {
                "kind": kind,
                "measure": measure,
                "contrast": [f"{' '.join(one)} - {' '.join(other)}" for one, other in present],
                "difference": [float(each.delta) for each in found],
                "low": [float(each.low) for each in found],
                "high": [float(each.high) for each in found],
                "p_Holm": holm([float(each.p) for each in found]),
            }
            tables.append(pd.DataFrame(rows))
    return pd.concat(tables) if tables else pd.DataFrame()


def draw_measures(runs: pd.DataFrame, picture: Path) -> None:
    """Draw each measure of each arm: a point for a seed, a bar for the interval of the mean."""
    titles = {
        "nmi": "domain told by the expert",
        "lexical": "by a router blind to context",
        "context": "by the expert, beyond the token",
    }
    figure, panels = plt.subplots(
        1, 3, figsize=(11, 3.6), sharex=True, sharey=True, layout="constrained"
    )
    means = of_runs(runs)
    for axes, (measure, title) in zip(panels, titles.items(), strict=True):
        for place, (version, colour) in enumerate(COLOURS.items()):
            _points(axes, means[means["version"] == version], measure, colour, place, version)
        axes.axvline(0, color="0.5", lw=0.8)
        axes.set(title=title, xlabel="share of ln G", yticks=range(len(ARMS)), yticklabels=ARMS)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].axvspan(*PUBLISHED, color="0.88", lw=0, zorder=0, label="published, GPT-2")
    panels[0].invert_yaxis()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.savefig(picture, dpi=130)
    plt.close(figure)


def _points(
    axes: Axes, means: pd.DataFrame, measure: str, colour: str, place: int, version: str
) -> None:
    for row, arm in enumerate(ARMS):
        values = means.loc[means["arm"] == arm, measure].to_numpy(float)
        height = row + 0.22 * (place - 1)
        if len(values) > 1:
            axes.plot(t_interval(values), [height] * 2, color=colour, lw=1.2)
        label = version if arm == "top1" and len(values) else None
        axes.plot(values, [height] * len(values), "o", ms=4, color=colour, label=label)


def draw_shares(shares: Shares, names: tuple[str, ...], picture: Path) -> None:
    """Draw the load of each expert by domain, last layer of the first top-1 run, each version."""
    seed = min(seed for _, arm, seed, _ in shares if arm == "top1")
    last = max(layer for *_, layer in shares)
    present = [version for version in COLOURS if (version, "top1", seed, last) in shares]
    figure, panels = plt.subplots(
        1, len(present), figsize=(3.6 * len(present), 2.2), squeeze=False, layout="constrained"
    )
    for axes, version in zip(panels[0], present, strict=True):
        share_GE = shares[version, "top1", seed, last]
        order_E = share_GE.argmax(0).argsort(stable=True)
        image = axes.imshow(
            share_GE[:, order_E].numpy(), vmin=0, vmax=0.5, cmap="Blues", aspect="auto"
        )
        axes.set(title=version, xlabel="expert", yticks=range(len(names)), yticklabels=names)
        axes.set_xticks(range(len(order_E)), order_E.tolist())
    figure.colorbar(image, ax=panels[0, -1], label="share of tokens")
    figure.savefig(picture, dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python report.py DATABASE FOLDER")
    try:
        main(*sys.argv[1:])
    except ResearchEvalError as error:
        sys.exit(f"error: {error}")
