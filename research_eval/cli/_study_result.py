"""What a study found, as tables, and what to do next."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from research_eval.cli._render import Column, Format, amount, note, number, print_rows, printable
from research_eval.cli._study_view import counts_in_words
from research_eval.errors import IncompleteError, RunError
from research_eval.hpo.trials import TrialState
from research_eval.runlog import duration

if TYPE_CHECKING:
    from research_eval.hpo import StudyResult, StudySpec
    from research_eval.hpo.trials import Trial

CONFIRMING_SEEDS = 5
"""How many fresh seeds are suggested where none were asked for."""

_MAX_PARAMS = 4
"""Parameters of a trial that a table shows; all of them are in JSON."""


def trial_row(trial: Trial, names: Sequence[str]) -> dict[str, Any]:
    """Return a trial as one flat row.

    Args:
        trial: The trial.
        names: Of the objectives.
    """
    costs = {
        name: trial.runs[0].value(name) if trial.runs else None
        for name in ("param_count", "total_training_time_seconds")
    }
    confirmed = {
        f"confirmed_{name}": _mean([run.value(name) for run in trial.confirmed]) for name in names
    }
    return {
        "trial": trial.number,
        "arm": trial.arm,
        "state": str(trial.state),
        **dict(zip(names, trial.values or [None] * len(names), strict=True)),
        **(confirmed if trial.confirmed else {}),
        "is_feasible": trial.is_feasible,
        "param_count": costs["param_count"],
        "seconds": costs["total_training_time_seconds"],
        "params": dict(trial.params),
        "repairs": list(trial.repairs),
        "runs": [run.experiment_id for run in trial.runs],
        "confirmed": [run.experiment_id for run in trial.confirmed],
        "error": trial.error,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def trial_columns(names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> list[Column]:
    """Return the columns of a table of trials.

    Args:
        names: Of the objectives.
        rows: What is shown, from `trial_row`.
    """
    keys = dict.fromkeys(key for row in rows for key in row)
    confirmed = [f"confirmed_{name}" for name in names if f"confirmed_{name}" in keys]
    scores = [*names, *confirmed]
    return [
        Column("trial", "trial", is_number=True),
        Column("arm", "arm"),
        Column("state", "state", lambda state: printable(state).lower()),
        *(
            Column(key, key.replace("_", " ", 1) if key in confirmed else key, number, True)
            for key in scores
        ),
        Column("param_count", "parameters", amount, is_number=True, is_optional=True),
        Column("seconds", "time", duration, is_number=True, is_optional=True),
        Column("params", "values", params_in_words, is_optional=True),
    ]


def params_in_words(params: Mapping[str, Any]) -> str:
    """Return the first values of a trial under their last names, and how many more there are."""
    shown = list(params.items())[:_MAX_PARAMS]
    told = [f"{path.rpartition('.')[2]} {_value(value)}" for path, value in shown]
    more = len(params) - len(shown)
    return ", ".join([*told, *([f"{more} more"] if more else [])])


def _value(value: Any) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return (
        number(value)
        if is_number
        else printable(value if isinstance(value, str) else json.dumps(value))
    )


def show_result(spec: StudySpec, result: StudyResult, form: Format, *, is_new: bool) -> None:
    """Print the best of each arm, the front if there are several objectives, and what to do next.

    Args:
        spec: What was asked.
        result: What was found.
        form: Which form.
        is_new: Whether anything was run in this session.
    """
    standing = result.standing
    if not is_new and standing.finished >= standing.total:
        note(
            f"study {spec.name} is finished: it has all of its {standing.total} trials; "
            "a higher --n-trials adds more"
        )
    note(f"{standing.finished} of {standing.total} trials: {counts_in_words(standing.counts)}")
    for arm, reason in result.closed.items():
        note(f"{printable(arm)} got fewer trials than its share: {reason}")
    names = [objective.name for objective in spec.parsed_objectives]
    _print_trials(
        result.best.values(), names, form, title="best of each arm" if form is Format.TABLE else ""
    )
    if len(names) > 1 and form is Format.TABLE:
        _print_trials(result.front, names, form, title="\nno other trial is better in everything")
    if spec.share_budget and len({trial.arm for trial in result.trials}) > 1:
        note("one search over all arms gives them unequal chances: this says nothing about arms")
    _say_files(result)
    _say_next(spec, result)


def _print_trials(
    trials: Iterable[Trial], names: Sequence[str], form: Format, *, title: str
) -> None:
    rows = [trial_row(trial, names) for trial in trials]
    print_rows(rows, trial_columns(names, rows), form, title=title)


def _say_files(result: StudyResult) -> None:
    note(f"all trials: {printable(near(result.table))}")
    for arm, file in result.files.items():
        note(f"best of {printable(arm)}: {printable(near(file))}")


def near(path: Path) -> str:
    """Return a path as it is written from here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _say_next(spec: StudySpec, result: StudyResult) -> None:
    if result.files and not spec.confirm:
        files = [near(file) for file in result.files.values()]
        first = next((run.seed or 0 for trial in result.best.values() for run in trial.runs), 0)
        seeds = f"{first + spec.seeds}-{first + spec.seeds + CONFIRMING_SEEDS - 1}"
        command = _command("run", *files, "--seeds", seeds)
        note(f"next, the best on seeds that the search has not seen: {command}")
    else:
        note(f"next: {_command('studies', 'show', spec.name)}")


def _command(*words: str) -> str:
    return printable(shlex.join(["research-eval", *words]))


def raise_if_nothing(result: StudyResult) -> None:
    """Raise if the study fell short.

    Raises:
        RunError: If no trial came to a score.
        IncompleteError: If there are fewer trials than asked for.
    """
    standing = result.standing
    scored = sum(standing.counts.get(s, 0) for s in (TrialState.COMPLETED, TrialState.PRUNED))
    if standing.finished and not scored:
        failed = next(trial for trial in result.trials if trial.is_finished)
        why = (failed.error or "").strip().rpartition("\n")[2]
        raise RunError(
            f"none of {standing.finished} trials came to a score; trial {failed.number} of "
            f"{failed.arm} was {failed.state}{f': {why}' if why else ''}"
        )
    if standing.finished < standing.total:
        raise IncompleteError(
            f"{standing.finished} of {standing.total} trials are finished; "
            "the same command continues"
        )
