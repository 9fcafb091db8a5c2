"""Runs: lists, groups, one of them, and several side by side."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from itertools import groupby
from statistics import fmean, stdev
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from research_eval.comparison import compare
from research_eval.dashboard.answers import ProblemError, csv_answer
from research_eval.dashboard.asking import Ask
from research_eval.dashboard.site import MAX_RUNS, Site
from research_eval.filters import Column, Field, Label, Metric, Param, parse_fields, value_of
from research_eval.filters import columns as columns_of_runs
from research_eval.metrics import METRICS
from research_eval.palette import colours
from research_eval.records import RunRecord

MAX_LISTED = 5000
MAX_COLUMNS = 60
MAX_GROUPS = 200

USUAL_COLUMNS = (
    "experiment_name, status, model_type, dataset_name, seed, metrics.final_val_f1, "
    "metrics.final_val_loss, metrics.final_val_perplexity, metrics.param_count, "
    "metrics.total_training_time_seconds, timestamp, flag, tag"
)
"""Shown if nobody chooses; those that are empty everywhere are left out."""


def about(site: Site, ask: Ask) -> dict[str, Any]:
    """Return what the store holds, what may be named, and what our own metrics mean."""
    ask.check()
    info, known = site.store.info(), site.browser.vocabulary()
    return {
        "version": version("research-eval"),
        "store": info.location,
        "bytes": info.bytes,
        "runs": {str(status): count for status, count in info.runs.items()},
        "columns": [*columns_of_runs(), "tag", "note", "flag"],
        "params": {str(Param(path)): count for path, count in known.params.items()},
        "metrics": known.metrics,
        "curves": known.curves,
        "dictionary": [asdict(metric) for metric in METRICS],
        "colours": colours(known.arms),
    }


def listed(site: Site, ask: Ask) -> dict[str, Any]:
    """Return runs as rows, and what their columns are."""
    condition, sort = ask.text("q") or None, ask.text("sort") or None
    chosen = ask.text("columns")
    limit = ask.number("limit", 1000, low=1, high=MAX_LISTED)
    offset = ask.number("offset", 0, low=0, high=10**9)
    ask.check()
    fields = _fields(chosen or USUAL_COLUMNS)
    runs = site.store.runs(
        filter=condition, sort=sort, limit=limit, offset=offset, metrics=_metrics(fields)
    )
    columns = [(field, _values(runs, field)) for field in fields]
    if not chosen:
        columns = [(f, v) for f, v in columns if any(x is not None and x != () for x in v)]
    is_whole = not offset and len(runs) < limit
    return {
        "total": len(runs) if is_whole else site.browser.count(condition),
        "columns": [
            {"name": str(field), "kind": _kind(field, values)} for field, values in columns
        ],
        "ids": [run.experiment_id for run in runs],
        "keys": [run.id for run in runs],
        "values": [values for _, values in columns],
        "unknown": site.store.unknown_names(condition, sort, chosen or None),
    }


def exported(request: Request, site: Site, ask: Ask) -> Response:
    """Return what `listed` does as a CSV file."""
    found = listed(site, ask)
    header = ["experiment_id", *(column["name"] for column in found["columns"])]
    rows = zip(found["ids"], *found["values"], strict=True)
    return csv_answer(request, "runs.csv", header, rows)


def _fields(text: str) -> Sequence[Field]:
    fields = list(dict.fromkeys(parse_fields(text)))
    if len(fields) > MAX_COLUMNS:
        raise ProblemError(400, f"at most {MAX_COLUMNS} columns are shown, not {len(fields)}")
    return fields


def _metrics(fields: Iterable[Field]) -> list[str]:
    return [field.name for field in fields if isinstance(field, Metric)]


def _values(runs: Sequence[RunRecord], field: Field) -> list[object]:
    if not isinstance(field, Param):
        return [value_of(run, field) for run in runs]
    return [params.get(field.path) for params in _parsed(runs)]


def _parsed(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Return the parameters of runs; runs of one configuration are read once."""
    known: dict[str, dict[str, Any]] = {}
    return [known.setdefault(run.full_config_json, run.params) for run in runs]


def _kind(field: Field, values: Sequence[object]) -> str:
    match field:
        case Column():
            return columns_of_runs()[field.name]
        case Metric():
            return "number"
        case Label():
            return "labels"
    known = [value for value in values if value is not None]
    is_number = [isinstance(v, int | float) and not isinstance(v, bool) for v in known]
    return "number" if known and all(is_number) else "text"


# -------------------------------------------------------------------------------------- groups


def grouped(site: Site, ask: Ask) -> dict[str, Any]:
    """Return groups of runs with the same values, and the spread of metrics between runs."""
    condition, by = ask.text("q") or None, ask.text("by")
    names = ask.texts("metric", most=20)
    ask.check()
    fields, groups = group_runs(site, condition, by, names)
    return {
        "by": [str(field) for field in fields],
        "data": len({run.data_hash for _, runs in groups for run in runs if run.data_hash}),
        "groups": [
            {
                "key": key,
                "runs": [run.experiment_id for run in runs],
                "statuses": {
                    str(status): len(list(of_status))
                    for status, of_status in groupby(sorted(run.status for run in runs))
                },
                "metrics": {name: _spread(runs, name) for name in names},
            }
            for key, runs in groups
        ],
    }


Group = tuple[list[Any], list[RunRecord]]


def group_runs(
    site: Site, condition: str | None, by: str, metrics: Sequence[str]
) -> tuple[Sequence[Field], list[Group]]:
    """Return the runs that meet a condition, in groups that agree in all fields.

    Raises:
        ProblemError: If there are too many groups to show, or nothing to group by.
    """
    if not by:
        raise ProblemError(400, "by says what to group by, for example by=model_type")
    fields = _fields(by)
    wanted = [*metrics, *_metrics(fields)]
    runs = site.store.runs(filter=condition, limit=MAX_LISTED, metrics=wanted)
    columns = [_values(runs, field) for field in fields]
    found: dict[str, Group] = {}
    for run, *key in zip(runs, *columns, strict=True):
        found.setdefault(json.dumps(key, default=str), (key, []))[1].append(run)
    if len(found) > MAX_GROUPS:
        raise ProblemError(400, f"{by} makes {len(found)} groups; at most {MAX_GROUPS} are shown")
    return fields, list(found.values())


def _spread(runs: Sequence[RunRecord], name: str) -> dict[str, float | int | None]:
    values = [value for run in runs if (value := run.value(name)) is not None]
    finite = [value for value in values if abs(value) < float("inf")]
    return {
        "mean": fmean(finite) if finite else None,
        "deviation": stdev(finite) if len(finite) > 1 else None,
        "n": len(finite),
        "started": len(runs),
    }


# ------------------------------------------------------------------------------- single runs


def one(site: Site, ask: Ask) -> dict[str, Any]:
    """Return everything that is recorded of a run, but its points."""
    run = site.run(ask.part("run"))
    ask.check()
    facts = {name: getattr(run, name) for name in columns_of_runs() if name != "error"}
    return {
        "id": run.experiment_id,
        "key": run.id,
        "facts": {name: value for name, value in facts.items() if value is not None},
        "error": run.error,
        "flags": run.flags,
        "tags": run.tags,
        "notes": [asdict(note) for note in run.notes],
        "metrics": {name: run.metrics[name]._asdict() for name in sorted(run.metrics)},
        "config": json.loads(run.full_config_json),
        "environment": json.loads(run.env_details_json),
        "diff": run.git_diff,
        "artifacts": [asdict(each) for each in site.store.artifacts(run.experiment_id)],
        "attempts": site.store.attempts(run.experiment_id),
        "waiting": site.store.waiting().get(run.experiment_id, 0),
    }


def compared(site: Site, ask: Ask) -> dict[str, Any]:
    """Return runs side by side: all parameters, which of them differ, and all metrics."""
    names = ask.texts("run", most=MAX_RUNS)
    ask.check()
    if not names:
        raise ProblemError(400, "run names what to compare, for example run=ID&run=ID")
    runs = site.runs(names)
    configs = _parsed(runs)
    paths = dict.fromkeys(path for config in configs for path in config)
    return {
        "runs": [_head(run) for run in runs],
        "params": {path: [config.get(path) for config in configs] for path in paths},
        "differing": list(compare(runs, ()).params),
        "metrics": _side_by_side(runs),
    }


def _head(run: RunRecord) -> dict[str, Any]:
    names = ("experiment_name", "model_type", "dataset_name", "seed", "status", "timestamp")
    facts = {name: getattr(run, name) for name in names}
    return {"id": run.experiment_id, "key": run.id, "flags": run.flags, **facts}


def _side_by_side(runs: Sequence[RunRecord]) -> Mapping[str, list[Any]]:
    names = sorted({name for run in runs for name in run.metrics})
    return {name: [_last_and_extremes(run, name) for run in runs] for name in names}


def _last_and_extremes(run: RunRecord, name: str) -> list[float | None] | None:
    summary = run.metrics.get(name)
    return None if summary is None else [summary.value, summary.minimum, summary.maximum]
