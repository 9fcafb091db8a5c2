"""What a study leaves as files: a table of all trials, and the best configurations."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from research_eval.files import replace_file
from research_eval.hpo.spec import Objective
from research_eval.hpo.trials import Trial

_DERIVED = ("origin", "seed")


class Table:
    """The CSV with one row for each trial, brought up to date after every one.

    Args:
        path: Of the file.
        objectives: Of the study.
    """

    def __init__(self, path: Path, objectives: Sequence[Objective]) -> None:
        self.path = path
        self._objectives = objectives
        self._rows: dict[int, dict[str, Any]] = {}
        self._columns: dict[str, None] = {}
        self._lines: dict[int, str] = {}

    def update(self, trials: Iterable[Trial]) -> None:
        """Write the rows of these trials anew; a reader never sees half of the file.

        Raises:
            StoreError: If it cannot be written.
        """
        changed = {trial.number: self._row(trial) for trial in trials}
        self._rows |= changed
        new = dict.fromkeys(name for row in changed.values() for name in row)
        if not new.keys() <= self._columns.keys():
            self._columns |= new
            changed = self._rows
        self._lines |= {number: self._line(row.get) for number, row in changed.items()}
        lines = [self._line(lambda name, _: name)]
        lines += [self._lines[number] for number in sorted(self._lines)]
        replace_file(self.path, "".join(lines))

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
