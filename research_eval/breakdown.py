"""Quality by label, by domain and by length, from a table of predictions.

The table has a row for each row of a split and the columns of `COLUMNS`; `research-eval evaluate`
keeps it as a Parquet file. Nothing here needs torch.

N rows, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from research_eval.errors import DataError
from research_eval.metrics import GROUP_SCORES

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "id",
    "label",
    "prediction",
    "probability",
    "loss",
    "targets",
    "domain",
    "length",
    "experts",
)
"""Of a table of predictions, in order; a column is empty where it means nothing.

id: row of the split, from 0. label, prediction: categories in the order in which the data set
declares them; none for language modelling. probability: of the prediction. loss: nats per target.
targets: what the loss is a mean over, 1 for classification. domain: a category. length: real
tokens that the model reads. experts: by layer, or by step of a path, the share of the row's tokens
that each expert worked on.
"""

LENGTH_BUCKETS = 4


def read_predictions(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return the table that `research-eval evaluate` wrote.

    Args:
        path: Of the file.
        columns: Only these.

    Raises:
        DataError: If it cannot be read.
    """
    import pandas as pd  # noqa: PLC0415 - takes 0.3 s

    try:
        return pd.read_parquet(path, columns=None if columns is None else list(columns))
    except (OSError, ValueError) as error:  # pyarrow's errors are of both kinds
        raise DataError(f"predictions {path} cannot be read: {error}") from error
    except ImportError as error:
        raise DataError(
            f"predictions {path} need pyarrow, which the extra 'train' brings"
        ) from error


def confusion(predictions: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Return how often each class (row) was predicted as each (column), [C, C]."""
    label_N, prediction_N = _codes(predictions, "label"), _codes(predictions, "prediction")
    classes = len(predictions["label"].cat.categories)
    cells = np.bincount(label_N * classes + prediction_N, minlength=classes**2)
    return cells.reshape(classes, classes).astype(np.int64)


def by_label(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return rows, F1, precision, recall and loss of each declared class; empty without classes.

    A score whose denominator is 0 is NaN: precision of a class that is never predicted, recall of
    one without rows, F1 of one with neither.
    """
    import pandas as pd  # noqa: PLC0415 - takes 0.3 s

    if not _has(predictions, "label"):
        return pd.DataFrame()
    counts_CC = confusion(predictions)
    hits_C, rows_C, claimed_C = counts_CC.diagonal(), counts_CC.sum(axis=1), counts_CC.sum(axis=0)
    loss_C = np.bincount(_codes(predictions, "label"), predictions["loss"], minlength=len(hits_C))
    return pd.DataFrame(
        {
            "label": predictions["label"].cat.categories.astype(str),
            "rows": rows_C,
            "f1": _quotient(2 * hits_C, rows_C + claimed_C),
            "precision": _quotient(hits_C, claimed_C),
            "recall": _quotient(hits_C, rows_C),
            "loss": _quotient(loss_C, rows_C),
        }
    )


def by_domain(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the quality of each declared domain, as `_of_groups` says; empty without domains."""
    import pandas as pd  # noqa: PLC0415 - takes 0.3 s

    if not _has(predictions, "domain"):
        return pd.DataFrame()
    names = predictions["domain"].cat.categories.astype(str)
    found = _of_groups(predictions, _codes(predictions, "domain"), len(names))
    found.insert(0, "domain", names)
    return found


def by_length(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the quality of quarters of the rows, from short to long; empty if all are alike.

    Each quarter has a first and a last length; rows of one length are never divided, so quarters
    may be uneven, and fewer.
    """
    import pandas as pd  # noqa: PLC0415 - takes 0.3 s

    edges = length_edges(predictions)
    if len(edges) < 2:
        return pd.DataFrame()
    length_N = predictions["length"].to_numpy()
    bucket_N = np.searchsorted(edges, length_N)
    found = _of_groups(predictions, bucket_N, len(edges))
    found.insert(0, "shortest", [int(length_N[bucket_N == b].min()) for b in range(len(edges))])
    found.insert(1, "longest", edges)
    return found


def length_edges(predictions: pd.DataFrame) -> list[int]:
    """Return the greatest length of each quarter of the rows, ascending, all different."""
    if predictions.empty:
        return []
    shares = np.arange(1, LENGTH_BUCKETS + 1) / LENGTH_BUCKETS
    lengths = predictions["length"].to_numpy()
    return [int(e) for e in np.unique(np.quantile(lengths, shares, method="inverted_cdf"))]


def metrics_of(predictions: pd.DataFrame) -> dict[str, float]:
    """Return the quality by label, by domain and by length as metrics, such as eval_f1_label3."""
    tables = {
        "label": by_label(predictions),
        "domain": by_domain(predictions),
        "length": by_length(predictions),
    }
    return {
        f"eval_{score}_{group}{index}": float(value)
        for group, table in tables.items()
        for score in GROUP_SCORES[group]
        if score in table
        for index, value in enumerate(table[score])
    }


def macro_f1(
    hits: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], claimed: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Return F1 averaged over the declared classes, as `metrics.classification_scores` does.

    Args:
        hits: [..., C] rows of each class that are predicted as it.
        rows: [..., C] rows of each class.
        claimed: [..., C] predictions of each class.
    """
    mean: npt.NDArray[np.float64] = (2 * hits / np.maximum(rows + claimed, 1)).mean(axis=-1)
    return mean


def _of_groups(
    predictions: pd.DataFrame, group_N: npt.NDArray[np.int64], groups: int
) -> pd.DataFrame:
    """Return rows and loss of each group, and accuracy and F1 where there are classes.

    F1 is averaged over the classes that the group's rows have: a group need not have them all.
    """
    import pandas as pd  # noqa: PLC0415 - takes 0.3 s

    rows_G = np.bincount(group_N, minlength=groups)
    targets_N = predictions["targets"].to_numpy()
    losses_N = np.where(targets_N > 0, predictions["loss"], 0.0) * targets_N
    found = pd.DataFrame({"rows": rows_G})
    if _has(predictions, "label"):
        parts = [by_label(predictions[group_N == group]) for group in range(groups)]
        hits_N = _codes(predictions, "label") == _codes(predictions, "prediction")
        found["acc"] = _quotient(np.bincount(group_N, hits_N, minlength=groups), rows_G)
        found["f1"] = [part.loc[part["rows"] > 0, "f1"].mean() for part in parts]
    totals_G = np.bincount(group_N, targets_N, minlength=groups)
    found["loss"] = _quotient(np.bincount(group_N, losses_N, minlength=groups), totals_G)
    return found


def _has(predictions: pd.DataFrame, column: str) -> bool:
    return len(predictions) > 0 and bool(predictions[column].notna().all())


def _codes(predictions: pd.DataFrame, column: str) -> npt.NDArray[np.int64]:
    codes: npt.NDArray[np.int64] = predictions[column].cat.codes.to_numpy().astype(np.int64)
    return codes


def _quotient(part: npt.ArrayLike, whole: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return part / whole, NaN where there is no whole."""
    shares = np.asarray(part, dtype=float) / np.maximum(np.asarray(whole, dtype=float), 1.0)
    return np.where(np.asarray(whole) == 0, np.nan, shares)
