"""Quality by group, against counting by hand."""

import numpy as np
import pandas as pd
import pytest

from research_eval.breakdown import (
    by_domain,
    by_label,
    by_length,
    length_edges,
    metrics_of,
    read_predictions,
)
from research_eval.errors import DataError
from research_eval.metrics import find_metric

LABELS = ["cat", "dog", "owl"]


def table(labels, predictions, lengths=None, domains=None, losses=None, targets=None):
    rows = len(labels)
    names = sorted(set(domains or ()))
    return pd.DataFrame(
        {
            "id": np.arange(rows),
            "label": pd.Categorical(labels, categories=LABELS),
            "prediction": pd.Categorical(predictions, categories=LABELS),
            "loss": losses or [1.0] * rows,
            "targets": targets or [1] * rows,
            "length": lengths or [5] * rows,
            "domain": pd.Categorical(domains or [None] * rows, categories=names),
        }
    )


def language(losses, targets, lengths):
    rows = len(losses)
    return table([None] * rows, [None] * rows, lengths, losses=losses, targets=targets)


def test_each_label_has_its_scores():
    found = by_label(
        table(
            ["cat", "cat", "cat", "dog"], ["cat", "cat", "dog", "dog"], losses=[0.1, 0.2, 0.6, 2.0]
        )
    ).set_index("label")
    assert found["rows"].tolist() == [3, 1, 0]
    assert found.loc["cat", ["precision", "recall", "f1"]].tolist() == pytest.approx(
        [1, 2 / 3, 0.8]
    )
    assert found.loc["dog", ["precision", "recall", "f1"]].tolist() == pytest.approx(
        [0.5, 1, 2 / 3]
    )
    assert found["loss"].tolist() == pytest.approx([0.3, 2.0, np.nan], nan_ok=True)
    assert found.loc["owl", ["f1", "precision", "recall"]].isna().all()


def test_a_domain_is_scored_over_the_labels_that_it_has():
    found = by_domain(
        table(
            ["cat", "cat", "dog", "owl"],
            ["cat", "dog", "dog", "cat"],
            domains=["web", "web", "news", "news"],
        )
    ).set_index("domain")
    assert found.index.tolist() == ["news", "web"]
    assert found["rows"].tolist() == [2, 2]
    assert found["acc"].tolist() == [0.5, 0.5]
    assert found.loc["web", "f1"] == pytest.approx(2 / 3)  # cat alone
    assert found.loc["news", "f1"] == pytest.approx((1.0 + 0.0) / 2)  # dog and owl


def test_quarters_by_length_divide_no_length():
    lengths = [1, 1, 1, 2, 3, 4, 5, 9]
    found = by_length(language([1.0] * 8, [1] * 8, lengths))
    assert length_edges(language([1.0] * 8, [1] * 8, lengths)) == [1, 2, 4, 9]
    assert found[["shortest", "longest", "rows"]].values.tolist() == [
        [1, 1, 3],
        [2, 2, 1],
        [3, 4, 2],
        [5, 9, 2],
    ]


def test_a_loss_counts_by_its_targets_and_a_row_without_any_does_not():
    found = by_length(language([1.0, 4.0, float("nan"), 2.0], [3, 1, 0, 2], [4, 4, 9, 9]))
    assert found["loss"].tolist() == pytest.approx([(3 * 1 + 4) / 4, 2.0])
    assert found.columns.tolist() == ["shortest", "longest", "rows", "loss"]


@pytest.mark.parametrize("rows", [0, 3])
def test_what_has_no_groups_has_no_table(rows):
    plain = language([1.0] * rows, [1] * rows, [7] * rows)
    assert by_label(plain).empty
    assert by_domain(plain).empty
    assert by_length(plain).empty
    assert metrics_of(plain) == {}


def test_metrics_are_named_by_the_place_of_their_group_and_in_the_dictionary():
    found = metrics_of(table(["cat", "dog"], ["cat", "cat"], [3, 8], ["b", "a"]))
    assert found["eval_recall_label1"] == 0
    assert found["eval_acc_domain0"] == 0  # domain a: the dog
    assert found["eval_acc_length0"] == 1
    assert all(find_metric(name) for name in found)


def test_a_file_that_is_no_table_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_predictions(tmp_path / "gone.parquet")
    (tmp_path / "other.parquet").write_text("no table")
    with pytest.raises(DataError, match="cannot be read"):
        read_predictions(tmp_path / "other.parquet")
