"""The dictionary of metrics, and how scores are computed from counts.

A name has one meaning and one direction everywhere: in the store, in tables, on axes. `final_*`
describes the weights that a run hands over, always on the full split; the same quantity during
training is recorded under its history name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from research_eval.errors import ConfigError
from research_eval.spec import Task

Direction = Literal["max", "min"]

EQUAL_COST = 0.01
"""Relative difference up to which counted costs of two models are called equal."""

EQUAL_TIME = 0.05
"""The same for measured times."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One entry of the dictionary.

    Attributes:
        name: Name of the value that summarises a run.
        history: Name of the points during training, None if there is only the summary.
        direction: Which way is better, None where neither is.
        unit: Of the value; empty for a share or a count.
        task: The task that has it, None for both.
    """

    name: str
    history: str | None
    direction: Direction | None
    unit: str
    task: Task | None
    meaning: str

    @property
    def is_share(self) -> bool:
        """Whether it is a share between 0 and 1."""
        return self.task == "classification" and not self.unit


@dataclass(frozen=True, slots=True)
class _Score:
    name: str
    direction: Direction
    unit: str
    task: Task | None
    meaning: str


_SCORES = (
    _Score("loss", "min", "nats", None, "mean cross-entropy per target, without auxiliary terms"),
    _Score("f1", "max", "", "classification", "F1, averaged over the declared labels (macro)"),
    _Score("acc", "max", "", "classification", "share of rows whose label is predicted"),
    _Score("perplexity", "min", "", "language_modeling", "exp(loss): per token of its tokenizer"),
    _Score(
        "bits_per_byte",
        "min",
        "bits",
        "language_modeling",
        "loss per byte of text: comparable between tokenizers",
    ),
    _Score(
        "word_perplexity",
        "min",
        "",
        "language_modeling",
        "exp(loss per word of text, the end of a line being a word): as WikiText is reported",
    ),
)

_WEIGHTS = "of the weights that the run hands over"


def _score_metrics() -> list[Metric]:
    made = []
    for score in _SCORES:
        rest = (score.direction, score.unit, score.task)
        history = f"val_{score.name}"
        made += [
            Metric(f"final_val_{score.name}", history, *rest, f"{score.meaning}; {_WEIGHTS}"),
            Metric(f"final_test_{score.name}", None, *rest, f"{score.meaning}; {_WEIGHTS}; once"),
            Metric(f"last_val_{score.name}", history, *rest, f"{score.meaning}; of the last step"),
        ]
    return made


_EXPERTS = (
    ("load_entropy_layer{layer}", "entropy of expert load / ln(experts): 1 even, 0 one for all"),
    ("effective_experts_layer{layer}", "evenly used experts that would be as diverse"),
    ("load_variation_layer{layer}", "standard deviation of expert load over its mean"),
    ("load_max_violation_layer{layer}", "load of the busiest expert over the mean, minus 1"),
    ("dead_experts_layer{layer}", "experts with less than a tenth of an even share"),
    ("fall_through_rate_layer{layer}", "share of tokens that no expert worked on"),
    ("router_entropy_layer{layer}", "mean entropy of a token's distribution / ln(experts)"),
    ("router_margin_layer{layer}", "mean lead of a token's first expert over its second"),
    ("specialisation_layer{layer}", "mutual information of expert and domain or label, in nats"),
    ("specialisation_chance_layer{layer}", "97.5th percentile of the same under permuted groups"),
    ("coupling_entropy_layer{layer}", "entropy of what an expert takes from others: 1 is alike"),
    ("coupling_asymmetry_layer{layer}", "0 if experts take from each other alike, 1 if one way"),
    ("expert_similarity_layer{layer}", "mean cosine similarity of different experts' outputs"),
    ("path_length", "experts visited per path"),
    ("path_ended_early", "share of paths that end before their last step"),
    ("path_ended_at_once", "share of paths that visit no expert"),
    ("effective_paths", "exp(entropy) of the distribution over whole paths"),
    ("top_path_share", "share of the most frequent path"),
    ("pool_load_entropy", "entropy of the load of a pool of experts / ln(experts)"),
    ("pool_dead_experts", "experts of a pool with less than a tenth of an even share"),
)


def _expert_metrics() -> list[Metric]:
    names = [(f"val_{name}", meaning) for name, meaning in _EXPERTS]
    return [Metric(name, name, None, "", None, meaning) for name, meaning in names]


EXPERT_METRICS = tuple(_expert_metrics())
"""What is measured about experts on the validation split."""

GROUP_SCORES = {
    "label": ("rows", "f1", "precision", "recall", "loss"),
    "domain": ("rows", "acc", "f1", "loss"),
    "length": ("rows", "acc", "f1", "loss"),
}
"""What an evaluation measures of the rows of one label, one domain, or about one length."""

_GROUP_MEANINGS: Mapping[str, tuple[Direction | None, str, str]] = {
    "rows": (None, "", "rows"),
    "f1": ("max", "", "F1; of a domain or a length averaged over the labels that its rows have"),
    "acc": ("max", "", "share of rows whose label is predicted"),
    "precision": ("max", "", "share of the predictions of this label that are right"),
    "recall": ("max", "", "share of the rows of this label that are predicted so"),
    "loss": ("min", "nats", "mean cross-entropy per target"),
}

_OF_EVALUATION = "of the rows that `research-eval evaluate` looked at"


def _evaluation_metrics() -> list[Metric]:
    made = [
        Metric(
            f"eval_{s.name}", None, s.direction, s.unit, s.task, f"{s.meaning}; {_OF_EVALUATION}"
        )
        for s in _SCORES
    ]
    made.append(Metric("eval_rows", None, None, "rows", None, f"number {_OF_EVALUATION}"))
    for group, scores in GROUP_SCORES.items():
        for score in scores:
            direction, unit, meaning = _GROUP_MEANINGS[score]
            task: Task | None = None if score in ("rows", "loss") else "classification"
            name = f"eval_{score}_{group}{{{group}}}"
            made.append(Metric(name, None, direction, unit, task, f"{meaning}; by {group}"))
    for score, unit in (("f1", ""), ("loss", "nats")):
        cost = f"eval_routing_cost_{score}"
        what = f"how much worse {score} is when the learned routing is replaced"
        made.append(Metric(cost, None, None, unit, None, f"{what}, paired by row"))
        for end in ("low", "high"):
            meaning = f"{end} end of the 95 % interval of the same"
            made.append(Metric(f"{cost}_{end}", None, None, unit, None, meaning))
    for share, words in (("p50", "median"), ("p95", "95th percentile")):
        name = f"eval_latency_ms_{share}_batch{{size}}"
        made.append(Metric(name, None, "min", "ms", None, f"{words} of a batch's forward time"))
    return made


METRICS: tuple[Metric, ...] = (
    *_score_metrics(),
    Metric(
        "best_val_f1_across_epochs", "val_f1", "max", "", "classification", "highest val_f1 seen"
    ),
    Metric("best_val_loss_across_epochs", "val_loss", "min", "nats", None, "lowest val_loss seen"),
    Metric("best_step", None, None, "steps", None, "step of the weights that monitor selects"),
    Metric(
        "val_loss_floor", None, None, "nats", None, "loss that the true process of the data reaches"
    ),
    Metric("param_count", None, "min", "parameters", None, "parameters of the model"),
    Metric(
        "active_param_count", None, "min", "parameters", None, "parameters that one token passes"
    ),
    Metric("flops_per_token", None, "min", "FLOPs", None, "forward operations per token, counted"),
    Metric(
        "train_loss", "train_loss", "min", "nats", None, "task loss, averaged over log_every steps"
    ),
    Metric("learning_rate", "learning_rate", None, "", None, "rate of the schedule"),
    Metric(
        "train_router_grad_norm",
        "train_router_grad_norm",
        None,
        "",
        None,
        "gradient norm of what decides which experts work",
    ),
    Metric("grad_norm", "grad_norm", None, "", None, "global gradient norm before clipping"),
    Metric("tokens_seen", "tokens_seen", None, "tokens", None, "real tokens trained on so far"),
    Metric("train_flops", "train_flops", None, "FLOPs", None, "3 x flops_per_token x tokens_seen"),
    Metric(
        "train_tokens_per_second",
        "train_tokens_per_second",
        "max",
        "tokens/s",
        None,
        "real tokens per second of training steps; padding and evaluation not counted",
    ),
    Metric("total_training_time_seconds", None, "min", "s", None, "wall time, evaluation included"),
    Metric("inference_latency_ms_batch", None, "min", "ms", None, "mean forward time of a batch"),
    Metric("inference_latency_ms_batch_p50", None, "min", "ms", None, "median of the same"),
    Metric(
        "inference_latency_ms_batch_p95", None, "min", "ms", None, "95th percentile of the same"
    ),
    Metric("peak_memory_mb", None, "min", "MiB", None, "highest memory of (first) process or GPU"),
    Metric(
        "train_aux_{term}", "train_aux_{term}", None, "", None, "auxiliary term before its weight"
    ),
    Metric(
        "train_drop_rate_layer{layer}",
        "train_drop_rate_layer{layer}",
        None,
        "",
        None,
        "share of choices that capacity turned away in training",
    ),
    *EXPERT_METRICS,
    *_evaluation_metrics(),
)
"""Every metric that a run records; braces stand for a layer, a term, or the number of a group."""


_PATTERNS = [
    (re.compile(re.sub(r"\\{\w+\\}", r"\\w+", re.escape(metric.name))), metric)
    for metric in METRICS
]


def find_metric(name: str) -> Metric | None:
    """Return the entry that a recorded name belongs to, None for a name that is not ours."""
    return next((metric for pattern, metric in _PATTERNS if pattern.fullmatch(name)), None)


def parse_goal(text: str) -> tuple[str, Direction]:
    """Read `metric` or `metric:max` and return the name and which way is better.

    The direction of our own metrics stands in the dictionary; it is never guessed from a name.

    Raises:
        ConfigError: If the direction is unknown, or contradicts the dictionary.
    """
    name, _, asked = text.partition(":")
    known = find_metric(name)
    direction = known.direction if known else None
    if asked not in ("", "max", "min") or (direction and asked not in ("", direction)):
        better = f"of {name} better is {direction}" if direction else "write NAME:max or NAME:min"
        raise ConfigError(f"'{text}' cannot be meant: {better}")
    if direction is None and not asked:
        why = "says of no way that it is better" if known else "does not have it"
        raise ConfigError(
            f"which way is {name} better? the dictionary (research-eval metrics) {why}; "
            f"write {name}:max or {name}:min"
        )
    return name, "max" if (asked or direction) == "max" else "min"


def default_monitor(task: Task) -> str:
    """Return the metric and direction that select weights if a configuration names none."""
    return "val_f1:max" if task == "classification" else "val_loss:min"


def history_names(task: Task) -> list[str]:
    """Return the names of the validation scores that a run of this task records."""
    return [f"val_{score.name}" for score in _SCORES if score.task in (None, task)]


def classification_scores(confusion_CC: npt.NDArray[np.int64]) -> dict[str, float]:
    """Return accuracy and macro F1 of a confusion matrix.

    Args:
        confusion_CC: Counts, rows are true classes and columns are predictions. A declared
            class that neither occurs nor is predicted scores 0, as in scikit-learn.

    Returns:
        `acc` and `f1`, both in 0..1, NaN if there are no rows.
    """
    hits_C = np.diag(confusion_CC).astype(float)
    total = confusion_CC.sum()
    if total == 0:
        return {"acc": math.nan, "f1": math.nan}
    claimed_and_true_C = confusion_CC.sum(axis=0) + confusion_CC.sum(axis=1)
    f1_C = 2 * hits_C / np.maximum(claimed_and_true_C, 1)
    return {"acc": float(hits_C.sum() / total), "f1": float(f1_C.mean())}


def language_scores(
    loss: float, *, num_targets: int, num_bytes: int | None, num_words: int | None
) -> dict[str, float]:
    """Return perplexity and, where the size of the text is known, what does not hang on tokens.

    Args:
        loss: Mean cross-entropy in nats per target.
        num_targets: Number of targets that it was averaged over.
        num_bytes: UTF-8 bytes of the text that the targets cover.
        num_words: Words of that text.
    """
    scores = {"perplexity": _exp(loss)}
    if num_bytes:
        scores["bits_per_byte"] = loss * num_targets / math.log(2) / num_bytes
    if num_words:
        scores["word_perplexity"] = _exp(loss * num_targets / num_words)
    return scores


def _exp(nats: float) -> float:
    return math.exp(nats) if nats < 700 else math.inf
