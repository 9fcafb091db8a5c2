"""Studies: what was asked, every trial, and which parameters matter."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from research_eval.dashboard.answers import ProblemError
from research_eval.dashboard.asking import Ask
from research_eval.dashboard.site import Site
from research_eval.errors import ConfigError, did_you_mean
from research_eval.hpo.remembering import recall
from research_eval.store.studies import StudyRecord

if TYPE_CHECKING:
    from research_eval.hpo.book import Book
    from research_eval.hpo.trials import Trial


def listed(site: Site, ask: Ask) -> list[dict[str, Any]]:
    """Return the studies, newest first."""
    ask.check()
    return [_row(record, _recall(site, record)) for record in site.store.studies()]


def _row(record: StudyRecord, book: Book | None) -> dict[str, Any]:
    told: dict[str, Any] = {"name": record.name, "timestamp": record.timestamp}
    if book is None:
        return told | {"arms": [], "objectives": [], "counts": {}, "best": []}
    standing = book.standing()
    best = [
        {"arm": arm, "trial": trial.number, "values": trial.values}
        for arm, trial in sorted(standing.best.items())
    ]
    return told | {
        "total": standing.total,
        "finished": standing.finished,
        "counts": {str(state): count for state, count in standing.counts.items()},
        "objectives": [asdict(objective) for objective in book.objectives],
        "best": best,
    }


def one(site: Site, ask: Ask) -> dict[str, Any]:
    """Return a study with all of its trials."""
    record = _find(site, ask.part("study"))
    ask.check()
    book = _recall(site, record)
    if book is None:
        raise ProblemError(
            404,
            f"study '{record.name}' was recorded by another program; its runs are on the runs page",
        )
    told = json.loads(record.spec_json)
    front = {trial.number for trial in book.front()}
    return _row(record, book) | {
        "data": told["data"],
        "asked": {k: v for k, v in told["asked"].items() if k not in ("base", "base_dir")},
        "spaces": told["spaces"],
        "constraints": [str(bound) for bound in book.bounds],
        "trials": [
            _trial(trial, is_on_front=number in front, is_history=book.entries[number].is_history)
            for number, trial in sorted(book.trials.items())
        ],
    }


def _trial(trial: Trial, **marks: bool) -> dict[str, Any]:
    ended = [run.ended for run in trial.runs]
    return {
        "number": trial.number,
        "arm": trial.arm,
        "state": trial.state,
        "values": trial.values,
        "is_feasible": trial.is_feasible,
        "params": trial.params,
        "repairs": trial.repairs,
        "runs": [run.experiment_id for run in trial.runs],
        "confirmed": [run.experiment_id for run in trial.confirmed],
        "started": min((run.timestamp for run in trial.runs), default=None),
        "ended": max((e for e in ended if e), default=None) if all(ended) else None,
        "host": trial.runs[0].host if trial.runs else None,
        "error": trial.error.strip().rpartition("\n")[2] if trial.error else None,
        **marks,
    }


def importance(site: Site, ask: Ask) -> dict[str, Any]:
    """Return how much each parameter decides whether a trial is among the best, by PED-ANOVA."""
    name = ask.text("study", most=1000)
    ask.check()
    record = _find(site, name)
    book = _recall(site, record)
    if book is None or not book.trials:
        raise ProblemError(404, f"study '{record.name}' has no trials yet")
    # pandas and matplotlib take a second: only who asks for this waits for them.
    from research_eval.analysis.gathering import gather  # noqa: PLC0415 - see above
    from research_eval.analysis.output import NothingToShowError  # noqa: PLC0415 - see above
    from research_eval.analysis.outputs import importance as analysis  # noqa: PLC0415 - see above
    from research_eval.analysis.question import Request  # noqa: PLC0415 - see above

    dataset = json.loads(record.spec_json)["data"][1]
    try:
        with warnings.catch_warnings(action="ignore"):
            asked = Request(study=record.name, goal=str(book.objectives[0]))
            table = analysis.frame(gather(site.store, dataset, asked))
    except NothingToShowError as reason:
        return {"method": "PED-ANOVA", "rows": [], "note": str(reason)}
    columns = ["arm", "parameter", "importance", "low", "high", "n_trials", "note"]
    rows = table[columns].to_dict(orient="records")
    return {"method": "PED-ANOVA", "objective": str(book.objectives[0]), "rows": rows, "note": ""}


def _find(site: Site, name: str) -> StudyRecord:
    for record in site.store.studies(name):
        return record
    known = [each.name for each in site.store.studies()]
    raise ProblemError(404, f"there is no study '{name}'; {did_you_mean(name, known)}")


def _recall(site: Site, record: StudyRecord) -> Book | None:
    """Return the trials of a study; None for one of another program, or of a version before."""
    try:
        return recall(record, site.store.study_runs(record.name))
    except (LookupError, TypeError, ValueError, ConfigError):
        return None
