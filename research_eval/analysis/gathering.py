"""From a store to evidence: which runs count, and what is left out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from research_eval.analysis.evidence import (
    Evidence,
    LeftOut,
    arm_of,
    configuration_of,
    dataset_of,
)
from research_eval.analysis.question import Question, Request
from research_eval.errors import ConfigError, StoreError, did_you_mean, require_known
from research_eval.records import RunRecord, RunStatus

if TYPE_CHECKING:
    from research_eval.store import Store

Kept = tuple[list[RunRecord], list[LeftOut]]
"""Runs that count, and those that do not."""


def is_evaluation(run: RunRecord) -> bool:
    """Return whether a run looked at another one's weights instead of training its own."""
    return run.run_type == "evaluation"


def choose_datasets(store: Store, request: Request) -> list[str]:
    """Return the data sets that are meant.

    Raises:
        ConfigError: If a data set, project or study is named that no run is about.
        StoreError: If there are no runs.
    """
    runs = [run for run in store.runs(metrics=()) if not is_evaluation(run)]
    if not runs:
        raise StoreError(
            "there are no runs to analyse yet; record some first: research-eval run cfg.json"
        )
    require_known("data set", request.datasets, map(dataset_of, runs))
    if request.datasets:
        return list(dict.fromkeys(request.datasets))
    require_known("project", _given(request.project), (run.project for run in runs))
    runs = _of_study(runs, request)
    if request.project or not request.study:
        project = request.project or runs[0].project
        runs = [run for run in runs if run.project == project]
    if not runs:
        raise ConfigError(
            f"no run of the study '{request.study}' belongs to the project '{request.project}'"
        )
    return sorted(set(map(dataset_of, runs)))


def gather(store: Store, dataset: str, request: Request) -> Evidence:
    """Return the evidence about a data set.

    Raises:
        ConfigError: If a name means nothing, a baseline has nothing else to be compared with, or
            nobody recorded the metric.
    """
    found = store.runs(filter=request.filter, project=request.project, sort="timestamp")
    runs = [run for run in found if dataset_of(run) == dataset]
    evaluations = [run for run in runs if is_evaluation(run)]
    runs = [run for run in runs if not is_evaluation(run)]
    if not runs:
        raise ConfigError(f"no run on {dataset} meets the conditions")
    runs = _of_study(_of_arms(runs, request), request)
    require_known("group", _given(request.ablation), (run.group for run in runs))
    question = request.question(runs)
    steps: list[Callable[[list[RunRecord]], Kept]] = [_of_one_data]
    if not request.any_code:
        steps.append(_of_one_code)
    steps.append(lambda kept: _with_metric(kept, question))
    left_out = _of_trash(store, dataset)
    for step in steps:
        runs, more = step(runs)
        left_out += more
    return Evidence(
        dataset=dataset,
        question=question,
        runs={run.experiment_id: run for run in runs},
        left_out=tuple(left_out),
        evaluations=tuple(evaluations),
        reader=store,
        artifact_dir=store.artifact_dir,
    )


def _given(name: str | None) -> list[str]:
    return [] if name is None else [name]


def _of_arms(runs: list[RunRecord], request: Request) -> list[RunRecord]:
    candidate, baselines = _given(request.candidate), request.baselines
    named = (*request.arms, *baselines, *candidate)
    require_known("architecture", named, map(arm_of, runs))
    if request.candidate in baselines:
        raise ConfigError(
            f"'{request.candidate}' is the candidate and a baseline, and is not compared with "
            "itself; name another baseline, or none for all others"
        )
    if len(set(baselines)) == 1 and not candidate:
        raise ConfigError(
            f"the baseline '{baselines[0]}' has nothing to be compared with; name a candidate"
        )
    return [run for run in runs if not request.arms or arm_of(run) in named]


def _of_study(runs: list[RunRecord], request: Request) -> list[RunRecord]:
    if request.study is None:
        return runs
    require_known("study", [request.study], (run.study for run in runs))
    return [run for run in runs if run.study == request.study]


def _of_trash(store: Store, dataset: str) -> list[LeftOut]:
    count = sum(dataset_of(run) == dataset for run in store.runs(deleted=True, metrics=()))
    return [LeftOut("in the trash", count, "research-eval runs list --deleted")] if count else []


def _of_one_data(runs: list[RunRecord]) -> Kept:
    """Keep the data that most completed runs saw; of equals the one that was seen last.

    The same name with other parameters (length, size, seed of the data) is another task.
    """
    completed = Counter(r.data_hash for r in runs if r.status is RunStatus.COMPLETED)
    last = {run.data_hash: place for place, run in enumerate(runs)}
    main = max(last, key=lambda data: (completed[data], last[data]))
    left_out = [
        LeftOut(
            f"other data under the same name ({str(data)[:8]})",
            sum(run.data_hash == data for run in runs),
            f"""--filter 'data_hash == "{data}"'""" if data else "--filter 'data_hash is null'",
        )
        for data in last
        if data != main
    ]
    return [run for run in runs if run.data_hash == main], left_out


def _of_one_code(runs: list[RunRecord]) -> Kept:
    """Keep, of the runs of each configuration, those of the newest code: only these pool."""
    newest = {configuration_of(run): run.code_hash for run in runs}
    kept = [run for run in runs if run.code_hash == newest[configuration_of(run)]]
    count = len(runs) - len(kept)
    return kept, [LeftOut("made by older code", count, "--any-code pools them")] if count else []


def _with_metric(runs: list[RunRecord], question: Question) -> Kept:
    """Leave out completed runs that never recorded the metric.

    Raises:
        ConfigError: If there are completed runs and none of them has it.
    """
    name = question.metric
    completed = [run for run in runs if run.status is RunStatus.COMPLETED]
    lacking = {run.experiment_id for run in completed if name not in run.metrics}
    if completed and len(lacking) == len(completed):
        known = sorted({metric for run in completed for metric in run.metrics})
        raise ConfigError(f"no run recorded '{name}'; {did_you_mean(name, known)}")
    kept = [run for run in runs if run.experiment_id not in lacking]
    return kept, [LeftOut(f"without {name}", len(lacking))] if lacking else []
