"""What a control costs: two evaluations of the same rows, compared row by row.

N rows, C classes, S different outcomes of a row, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from research_eval.breakdown import macro_f1
from research_eval.records import RunRecord

if TYPE_CHECKING:
    import pandas as pd

RESAMPLES = 2000
RESAMPLES_AT_ONCE = 100
NORMAL_975 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Cost:
    """How much worse a score is under a control, with a 95 % interval over rows.

    Attributes:
        score: f1 or loss.
        value: Positive where the control is worse.
    """

    score: str
    value: float
    low: float
    high: float

    def metrics(self) -> dict[str, float]:
        """Return it as metrics."""
        name = f"eval_routing_cost_{self.score}"
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}

    @property
    def is_shown(self) -> bool:
        """Whether the interval leaves no doubt that there is a difference."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        unit = "F1" if self.score == "f1" else "nats of loss"
        if self.low > 0:
            return f"costs {self.value:.3g} {unit} ({self.low:.3g} to {self.high:.3g})"
        if self.high < 0:
            return f"gains {-self.value:.3g} {unit} ({-self.high:.3g} to {-self.low:.3g})"
        interval = f"{self.value:.3g}, {self.low:.3g} to {self.high:.3g}"
        return f"shows no change in {unit} ({interval})"


def recorded_costs(record: RunRecord) -> list[Cost]:
    """Return what an evaluation recorded, F1 first; empty if it replaced nothing."""
    found = []
    for score in ("f1", "loss"):
        names = (f"eval_routing_cost_{score}{end}" for end in ("", "_low", "_high"))
        value, low, high = (record.value(name) for name in names)
        if value is not None and low is not None and high is not None:
            found.append(Cost(score, value, low, high))
    return found


def verdict(costs: Sequence[Cost], routing: str, learned: str, rows: int) -> str:
    """Say in a sentence what a control cost, and what that means.

    Args:
        costs: The first is what counts, the rest is told where it shows more.
        routing: Name of the control.
        learned: What was learned, as the subject of a sentence.
        rows: Number of rows compared.
    """
    first, *others = costs
    parts = [f"{routing} routing {first}"]
    parts += [str(other) for other in others if other.is_shown and not first.is_shown]
    if first.is_shown:
        meaning = "matters" if first.low > 0 else "does harm here"
    elif len(parts) > 1:
        meaning = "matters little"
    else:
        meaning = "is not what makes this model good"
    return f"{', but '.join(parts)}; 95 % intervals over {rows:,} rows: {learned} {meaning}"


def costs(learned: pd.DataFrame, control: pd.DataFrame) -> list[Cost]:
    """Compare the predictions of a network with and without its learned routing.

    Args:
        learned: Of the network as it is.
        control: Of the same rows.
    """
    found = [loss_cost(learned, control)]
    if learned["label"].notna().all() and len(learned):
        found.append(f1_cost(learned, control))
    return found


def loss_cost(learned: pd.DataFrame, control: pd.DataFrame) -> Cost:
    """Return the difference in mean loss per target.

    The mean of all targets is a ratio of sums over rows, whose variance is linearised (Cochran
    1977, Sampling Techniques, section 6.3); rows count as independent.
    """
    targets_N = learned["targets"].to_numpy(dtype=float)
    apart_N = np.where(targets_N > 0, control["loss"] - learned["loss"], 0.0)
    rows, total = len(targets_N), targets_N.sum()
    value = float((apart_N * targets_N).sum() / total)
    residual_N = (apart_N - value) * targets_N
    factor = rows / max(rows - 1, 1)
    half = NORMAL_975 * float(np.sqrt(factor * (residual_N**2).sum()) / total)
    return Cost("loss", value, value - half, value + half)


def f1_cost(learned: pd.DataFrame, control: pd.DataFrame, *, seed: int = 0) -> Cost:
    """Return the difference in macro F1, with a percentile interval of a paired bootstrap.

    Rows are resampled with what both predicted of them (Efron and Tibshirani 1993, chapter 13);
    only (label, prediction, prediction) matters, so resampling rows is drawing how often each
    such outcome occurs.
    """
    classes = len(learned["label"].cat.categories)
    columns = [learned["label"], learned["prediction"], control["prediction"]]
    codes_NX = np.stack([column.cat.codes.to_numpy() for column in columns], axis=1)
    outcomes_SX, counts_S = np.unique(codes_NX, axis=0, return_counts=True)
    onehot_XSC = np.eye(classes, dtype=np.int64)[outcomes_SX.T]

    def difference(counts_RS: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        rows_RC, *claimed = (counts_RS @ onehot_SC for onehot_SC in onehot_XSC)
        before, after = (
            macro_f1(counts_RS @ (onehot_XSC[0] * onehot_SC), rows_RC, claimed_RC)
            for onehot_SC, claimed_RC in zip(onehot_XSC[1:], claimed, strict=True)
        )
        return before - after

    generator = np.random.default_rng(seed)
    drawn = [
        difference(
            generator.multinomial(counts_S.sum(), counts_S / counts_S.sum(), RESAMPLES_AT_ONCE)
        )
        for _ in range(0, RESAMPLES, RESAMPLES_AT_ONCE)
    ]
    low, high = np.quantile(np.concatenate(drawn), [0.025, 0.975])
    return Cost("f1", float(difference(counts_S[None])[0]), float(low), float(high))
