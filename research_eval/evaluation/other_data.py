"""A run evaluated on other data than it was trained on: whether its network can read them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from research_eval.config import Experiment, load_text, read_tree
from research_eval.errors import ConfigError, Issue
from research_eval.prepare import Prepared, prepare
from research_eval.recorded import Recalled
from research_eval.spec import Dataset
from research_eval.training.progress import Watcher

FIELDS = ("dataset_type", "dataset_name", "dataset_params")
"""What a file says of its data; a whole configuration may be given, of which the rest is ignored.
"""


@dataclass(frozen=True, slots=True)
class OtherData:
    """A data set that fits a network.

    Attributes:
        described: `FIELDS` with all defaults, as JSON values.
    """

    dataset: Dataset
    described: Mapping[str, Any]


def load_other(
    source: str | Path | Mapping[str, Any], recalled: Recalled, watcher: Watcher
) -> OtherData:
    """Load a data set, which must fit what a run was trained on.

    Args:
        source: A JSON file, or its content.
        recalled: The run.
        watcher: Told about progress.

    Raises:
        ConfigError: If it is not legal, or with everything in which it does not fit.
        DataError: If the data cannot be had.
    """
    if isinstance(source, Mapping):
        tree, base_dir, name = dict(source), Path.cwd(), "the data set"
    else:
        path = Path(source)
        tree, base_dir, name = read_tree(path), path.resolve().parent, str(path)
    asked = {field: tree[field] for field in FIELDS if field in tree}
    text = json.dumps({"experiment_name": "evaluation", "model_type": "dense", **asked})
    other = prepare(load_text(text, base_dir=base_dir, source=name), watcher)
    issues = list(_differences(recalled, other))
    if issues:
        run_id = recalled.record.experiment_id
        raise ConfigError(f"the network of run {run_id} cannot read the data of {name}", issues)
    config = other.experiment.config
    described = {
        "dataset_type": other.experiment.dataset.dataset_type,
        "dataset_name": config.dataset_name,
        "dataset_params": config.dataset_params.model_dump(mode="json"),
    }
    return OtherData(other.dataset, described)


def _differences(recalled: Recalled, other: Prepared) -> Iterator[Issue]:
    trained, here = recalled.prepared.dataset, other.dataset
    for path, then, now in (
        ("task", trained.task, here.task),
        ("vocabulary size", trained.vocab_size, here.vocab_size),
        ("tokenizer", _tokenizer(recalled.prepared.experiment), _tokenizer(other.experiment)),
        ("labels", ", ".join(trained.label_names), ", ".join(here.label_names)),
    ):
        if then != now:
            yield Issue(
                path, f"the run was trained with {then or 'none'}, here it is {now or 'none'}"
            )
    network = recalled.network
    if network.params.positions == "learned" and here.max_length > network.num_positions:
        yield Issue(
            "length",
            f"rows have up to {here.max_length} tokens, the network {network.num_positions} "
            "positions; shorten them in dataset_params",
        )


def _tokenizer(experiment: Experiment) -> str | None:
    found: str | None = getattr(experiment.config.dataset_params, "tokenizer", None)
    return found
