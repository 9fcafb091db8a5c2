"""What the runs on one data set say: the frozen input of every table and figure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from research_eval.analysis.question import Question
from research_eval.errors import StoreError
from research_eval.records import Artifact, ExpertStats, MetricHistory, RunRecord, RunStatus
from research_eval.schemas import marked_fields

if TYPE_CHECKING:
    from research_eval.store.reading import Reader

FAILED = frozenset({RunStatus.FAILED, RunStatus.DIVERGED, RunStatus.COLLAPSED, RunStatus.LOST})
OPEN = frozenset({RunStatus.RUNNING, RunStatus.INTERRUPTED})


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Runs that do not count, and why.

    Attributes:
        reason: In words, as in "made by other code".
        count: How many.
        remedy: What to type to see them; empty if there is nothing.
    """

    reason: str
    count: int
    remedy: str = ""

    def __str__(self) -> str:
        runs = "1 run" if self.count == 1 else f"{self.count} runs"
        return f"{runs} left out: {self.reason}" + (f" ({self.remedy})" if self.remedy else "")


@dataclass(frozen=True, eq=False)
class Evidence:
    """The runs on one data set that answer one question.

    Attributes:
        dataset: Name of the data set.
        question: What is asked.
        runs: By id, oldest first, with all their metrics.
        left_out: What is not among them.
        evaluations: What `research-eval evaluate` recorded of recorded runs, oldest first; their
            `parent` is the run whose weights they looked at.
        reader: Where curves, arrays and files of runs are read.
        artifact_dir: Folder that the paths of files start from.
    """

    dataset: str
    question: Question
    runs: Mapping[str, RunRecord]
    left_out: tuple[LeftOut, ...]
    evaluations: tuple[RunRecord, ...]
    reader: Reader
    artifact_dir: Path

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row for each run, indexed by its id, oldest first.

        Columns: `arm`; `configuration` (a hash); `seed`; `phase` ("search", "confirm" or ""; a run
        of no study confirms if a study tried its configuration on other seeds); `study` ("" for
        none), `trial`, `group`; `status`; `outcome` ("ok", "failed", "pruned", "open"; a completed
        run without a finite score failed); `value`, the metric that decides, NaN unless ok, or the
        worst observed value for a failed run if the question says so; `test_value`; `seconds`;
        `started` (UTC); `hardware`; `contended`.
        """
        rows = [self._row(run) for run in self.runs.values()]
        table = pd.DataFrame(rows, columns=_COLUMNS, index=pd.Index(self.runs, name="run"))
        table["phase"] = _true_phase(table)
        if self.question.failed_as == "worst" and table["value"].notna().any():
            worst = table["value"].min() if self.question.is_max else table["value"].max()
            table.loc[table["outcome"] == "failed", "value"] = worst
        return table

    def _row(self, run: RunRecord) -> dict[str, Any]:
        value = run.value(self.question.metric)
        outcome = _outcome(run.status, value)
        test = run.value(self.question.test_metric) if self.question.test_metric else None
        return {
            "arm": arm_of(run),
            "configuration": configuration_of(run),
            "seed": np.nan if run.seed is None else run.seed,
            "phase": run.phase or "",
            "study": run.study or "",
            "trial": run.trial,
            "group": run.group or "",
            "status": str(run.status),
            "outcome": outcome,
            "value": value if outcome == "ok" else np.nan,
            "test_value": test if outcome == "ok" and test is not None else np.nan,
            "seconds": _number(run.value("total_training_time_seconds")),
            "started": run.timestamp,
            "hardware": run.hardware or "",
            "contended": run.contended,
        }

    @cached_property
    def arms(self) -> tuple[str, ...]:
        """The arms: candidate, baselines, then the others by name."""
        found = sorted({arm_of(run) for run in self.runs.values()})
        candidate = [self.question.candidate] if self.question.candidate else []
        first = [arm for arm in (*candidate, *self.question.baselines) if arm in found]
        return tuple(dict.fromkeys([*first, *found]))

    def metric(self, name: str) -> pd.Series[float]:
        """Return the last value of a metric of every run, NaN where there is none."""
        values = [_number(run.value(name)) for run in self.runs.values()]
        return pd.Series(values, index=self.table.index, name=name, dtype=float)

    def histories(self, metric: str, runs: Iterable[str]) -> dict[str, MetricHistory]:
        """Return all points of a metric by run, read at once; runs without it are missing."""
        return self.reader.histories(metric, list(runs))

    def expert_stats(self, run: str, name: str) -> list[ExpertStats]:
        """Return the arrays that a run recorded under a name, by step and layer."""
        return self.reader.expert_stats(run, name)

    def artifacts(self, run: str) -> list[tuple[Artifact, Path]]:
        """Return the files of a run, with where they should lie."""
        return [(each, self.artifact_dir / each.path) for each in self.reader.artifacts(run)]

    @cached_property
    def studies(self) -> dict[str, dict[str, Any]]:
        """What each study was asked, by its name: its `asked`, `spaces`, ... as recorded."""
        named = set(self.table["study"])
        return {s.name: json.loads(s.spec_json) for s in self.reader.studies() if s.name in named}

    @cached_property
    def _schemas(self) -> dict[str, dict[str, Any]]:
        newest = {arm_of(run): run.experiment_id for run in self.runs.values()}
        return {arm: read_schema(self.reader, run) for arm, run in newest.items()}

    def knobs(self, arm: str) -> dict[str, dict[str, Any]]:
        """Return the recorded search ranges of an arm by dotted path, as `x-knob` says them."""
        return marked_fields(self._schemas.get(arm, {}), "x-knob")

    def settings(self, run: str) -> dict[str, Any]:
        """Return what a run's result depends on but its seed, by dotted path.

        Fields that are recorded as deciding only how a run is carried out are left out.
        """
        record = self.runs[run]
        passed_over = {"seed", *marked_fields(self._schemas[arm_of(record)], "x-execution-only")}
        return {
            path: value
            for path, value in record.params.items()
            if passed_over.isdisjoint(accumulate(path.split("."), "{}.{}".format))
        }

    def code_versions(self, arm: str) -> int:
        """Return by how many versions of its code an arm's configurations were made.

        Runs that name other components, such as another router, have other code by nature, so
        versions are counted for each choice of components.
        """
        fields = [*marked_fields(self._schemas.get(arm, {}), "x-plugin")]
        versions: dict[str, set[str | None]] = {}
        for run in self.runs.values():
            if arm_of(run) == arm:
                params = run.params
                components = json.dumps([params.get(field) for field in fields])
                versions.setdefault(components, set()).add(run.code_hash)
        return max(map(len, versions.values()), default=0)

    def is_log(self, path: str) -> bool:
        """Return whether a parameter is declared on a logarithmic scale by any arm."""
        return any(self.knobs(arm).get(path, {}).get("kind") == "LogUniform" for arm in self.arms)


_COLUMNS = (
    "arm", "configuration", "seed", "phase", "study", "trial", "group", "status", "outcome",
    "value", "test_value", "seconds", "started", "hardware", "contended",
)  # fmt: skip


UNNAMED_DATA = "unnamed"
"""Stands for the data of tracked runs that do not say which."""


def arm_of(run: RunRecord) -> str:
    """Return what a run is an example of: the arm of its study, its architecture, or its name."""
    return run.arm or _told(run, "model_type") or run.experiment_name


def dataset_of(run: RunRecord) -> str:
    """Return the name of the data set; a tracked run may say it in its configuration."""
    return run.dataset_name or _told(run, "dataset_name") or UNNAMED_DATA


def _told(run: RunRecord, field: str) -> str | None:
    value = json.loads(run.full_config_json).get(field)
    return value if isinstance(value, str) and value else None


def configuration_of(run: RunRecord) -> str:
    """Return what the seeds of a configuration share: its hash.

    A tracked run has none; it is the same configuration as others of its name whose settings differ
    in nothing but `seed`.
    """
    if run.config_hash is not None:
        return run.config_hash
    settings = json.loads(run.full_config_json)
    settings.pop("seed", None)
    text = json.dumps([run.experiment_name, settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _true_phase(table: pd.DataFrame) -> list[str]:
    """Return the phase of each run, where fresh seeds of a searched configuration confirm it."""
    searched = table[table["phase"] == "search"]
    tried = set(zip(searched["configuration"], searched["seed"], strict=True))
    configurations = {configuration for configuration, _ in tried}
    runs = zip(table["phase"], table["configuration"], table["seed"], strict=True)
    return [
        "confirm"
        if not phase and config in configurations and seed >= 0 and (config, seed) not in tried
        else phase
        for phase, config, seed in runs
    ]


def _outcome(status: RunStatus, value: float | None) -> str:
    if status is RunStatus.COMPLETED:
        return "ok" if value is not None and np.isfinite(value) else "failed"
    if status in FAILED:
        return "failed"
    return "open" if status in OPEN else "pruned"


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def read_schema(reader: Reader, run: str) -> dict[str, Any]:
    """Return the recorded JSON Schema of a run's configuration; empty if it has none."""
    try:
        return reader.config_schema(run)
    except StoreError:
        return {}
