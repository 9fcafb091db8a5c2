"""What a control costs: two evaluations of the same rows, compared row by row.

N rows, C classes, S different outcomes of a row, R resamples.
"""

from __future__ import annotations

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

    @classmethod
    def of(cls, record: RunRecord) -> Cost | None:
        """Return the cost that an evaluation recorded, of F1 if it has that; None without one."""
        for score in ("f1", "loss"):
            name = f"eval_routing_cost_{score}"
            found = [record.value(f"{name}{end}") for end in ("", "_low", "_high")]
            if None not in found:
                return cls(score, *(float(value or 0.0) for value in found))
        return None

    def metrics(self) -> dict[str, float]:
        """Return it as metrics."""
        name = f"eval_routing_cost_{self.score}"
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}

    def sentence(self, routing: str, learned: str, rows: int) -> str:
        """Say what it means.

        Args:
            routing: Name of the control.
            learned: What was learned, as the subject of a sentence.
            rows: Number of rows compared.
        """
        unit = "F1" if self.score == "f1" else "nats of loss"
        interval = f"95 % interval {self.low:.3g} to {self.high:.3g}, {rows:,} rows"
        if self.low > 0:
            return (
                f"{routing} routing costs {self.value:.3g} {unit} ({interval}): {learned} matters"
            )
        if self.high < 0:
            return (
                f"{routing} routing gains {-self.value:.3g} {unit} (as a cost: {interval}): "
                f"{learned} does harm here"
            )
        return (
            f"{routing} routing changes nothing shown (cost {self.value:.3g} {unit}, {interval}): "
            f"{learned} is not what makes this model good"
        )


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
