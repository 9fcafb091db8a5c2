"""What a study leaves as files: a table of all trials, and the best configurations."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from research_eval.files import append_to_file, replace_file
from research_eval.hpo.spec import Objective
from research_eval.hpo.trials import Trial

_DERIVED = ("origin", "seed")


class Table:
    """The CSV with one row for each trial that has ended, brought up to date after every one.

    Args:
        path: Of the file.
        objectives: Of the study.
    """

    def __init__(self, path: Path, objectives: Sequence[Objective]) -> None:
        self.path = path
        self._objectives = objectives
        self._rows: dict[int, dict[str, Any]] = {}
        self._columns: dict[str, None] = {}
        self._written: list[int] = []

    def update(self, trials: Iterable[Trial]) -> None:
        """Write the rows of trials that have ended.

        A new row is one write at the end of the file, so a study of any length writes each once.
        What changes more makes a file that takes the place of the old one.

        Raises:
            StoreError: If it cannot be written.
        """
        changed = {trial.number: self._row(trial) for trial in trials if trial.is_finished}
        if not changed:
            return
        columns = self._columns | dict.fromkeys(name for row in changed.values() for name in row)
        is_addition = len(columns) == len(self._columns) and not changed.keys() & self._rows.keys()
        self._columns = columns
        self._rows |= changed
        if self._written and is_addition and append_to_file(self.path, self._lines(changed)):
            self._written += changed
        else:
            self._rewrite()

    def put_in_order(self) -> None:
        """Order the rows by number; while trials run side by side, they stand as they ended.

        Raises:
            StoreError: If it cannot be written.
        """
        if self._written != sorted(self._written):
            self._rewrite()

    def _rewrite(self) -> None:
        ordered = sorted(self._rows)
        self._written = []  # until it is done
        replace_file(self.path, self._line(lambda name, _: name) + self._lines(ordered))
        self._written = ordered

    def _lines(self, numbers: Iterable[int]) -> str:
        return "".join(self._line(self._rows[number].get) for number in numbers)

    def _line(self, value_of: Callable[[str, str], Any]) -> str:
        text = io.StringIO(newline="")
        values = [value_of(name, "") for name in self._columns]
        csv.writer(text, lineterminator="\n").writerow(values)
        return text.getvalue()

    def _row(self, trial: Trial) -> dict[str, Any]:
        values = trial.values or [""] * len(self._objectives)
        pairs = zip(self._objectives, values, strict=True)
        return {
            "trial_number": trial.number,
            "arm": trial.arm,
            "state": str(trial.state),
            **{f"value_{objective.name}": value for objective, value in pairs},
            "is_feasible": trial.is_feasible,
            "runs": " ".join(run.experiment_id for run in trial.runs),
            "confirmed": " ".join(run.experiment_id for run in trial.confirmed),
            "repairs": "; ".join(trial.repairs),
            "error": (trial.error or "").strip().rpartition("\n")[2],
            **{f"params_{path}": json.dumps(value) for path, value in trial.params.items()},
        }


def write_best(folder: Path, study: str, best: Iterable[Trial]) -> dict[str, Path]:
    """Write the configuration of each arm's best trial as a file that `run` accepts.

    Raises:
        StoreError: If one cannot be written.
    """
    written = {}
    for trial in best:
        config = json.loads(trial.runs[0].full_config_json)
        if "params" in config:  # the arguments of a function
            config = config["params"]
        else:
            config = {k: v for k, v in config.items() if k not in _DERIVED}
        path = folder / f"{study}_best_{trial.arm.replace('/', '_')}.json"
        replace_file(path, json.dumps(config, indent=2) + "\n")
        written[trial.arm] = path
    return written
