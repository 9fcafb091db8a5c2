"""A study as someone at a terminal follows it: `StudyAudience`s for terminals and for logs."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from research_eval.cli._render import console, note, number, printable
from research_eval.hpo.trials import TrialState
from research_eval.runlog import INTERVAL_S, duration, progress_line

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live
    from rich.table import Table

    from research_eval.hpo.trials import Standing, Trial
    from research_eval.training.progress import Progress

_BARS = "▁▂▃▄▅▆▇█"
_NOT_FINITE = "!"
_CURVE_WIDTH = 20
_BAR_WIDTH = 12
_REDRAWS_PER_S = 4


def sparkline(values: list[float], width: int = _CURVE_WIDTH) -> str:
    """Return the last values as a row of bars between their least and their greatest."""
    shown = values[-width:]
    finite = [value for value in shown if math.isfinite(value)]
    if not finite:
        return _NOT_FINITE * len(shown)
    low, span = min(finite), max(finite) - min(finite)
    top = len(_BARS) - 1
    return "".join(
        _BARS[round(top * (value - low) / span) if span else top // 2]
        if math.isfinite(value)
        else _NOT_FINITE
        for value in shown
    )


def counts_in_words(counts: Mapping[TrialState, int], *, running: str = "running") -> str:
    """Return how many trials there are of each state: `3 running, 40 completed, 2 pruned`.

    Args:
        counts: By state.
        running: What to call trials that have begun; a reader does not know who carries them out.
    """
    words = {state: state.lower() for state in TrialState} | {TrialState.RUNNING: running}
    return ", ".join(f"{counts[state]} {words[state]}" for state in words if counts.get(state))


def standing_in_words(standing: Standing) -> str:
    """Return where a study is, in a line."""
    left = "" if standing.seconds_left is None else f", {duration(standing.seconds_left)} left"
    doing = ", confirming winners" if standing.confirming else ""
    known = counts_in_words(standing.counts)
    return f"{standing.finished} of {standing.total} trials{left}{doing}: {known}"


def trial_in_words(trial: Trial) -> str:
    """Return what became of a trial."""
    values = ", ".join(number(value) for value in trial.values)
    broken = "" if trial.is_feasible else ", breaks a constraint"
    why = f": {trial.error.strip().splitlines()[-1]}" if trial.error and trial.error.strip() else ""
    return f"{trial.state.lower()}{f' at {values}' if values else ''}{broken}{why}"


def confirmed_in_words(trial: Trial) -> str:
    """Return on which fresh seeds a winner was run, and how those runs ended."""
    told = (f"seed {run.seed} {run.status.lower()}" for run in trial.confirmed)
    return f"is confirmed: {', '.join(told)}"


class StudyLines:
    """For logs: a line for each trial that ends, and progress every 10 s at most."""

    def __init__(self) -> None:
        self.num_started = 0
        self._shown_at: dict[tuple[int, int], float] = {}

    def say(self, line: str) -> None:
        """Print the line."""
        note(printable(line))

    def started(self, trial: Trial, seed: int) -> None:
        """Remember that nothing was shown of the run yet."""
        self.num_started += 1
        self._shown_at[trial.number, seed] = time.monotonic()

    def progress(self, trial: Trial, seed: int, now: Progress) -> None:
        """Print the state if it is due."""
        shown_at = self._shown_at.setdefault((trial.number, seed), time.monotonic())
        if time.monotonic() - shown_at >= INTERVAL_S:
            self._shown_at[trial.number, seed] = time.monotonic()
            self.say(f"trial {trial.number} {trial.arm} seed {seed}  {progress_line(now)}")

    def reported(self, trial: Trial, seed: int, step: int, value: float) -> None:
        """Leave curves to those who look."""

    def ended(self, trial: Trial, standing: Standing) -> None:
        """Print what became of the trial, the best of its arm, and where the study is."""
        best = standing.best.get(trial.arm)
        known = f"; best of {trial.arm}: {_score(best)}" if best else ""
        line = f"trial {trial.number} {trial.arm} {trial_in_words(trial)}{known}"
        if standing.confirming:
            line = f"trial {trial.number} {trial.arm} {confirmed_in_words(trial)}"
        self.say(f"{line}  [{standing_in_words(standing)}]")


def _score(best: Trial) -> str:
    return f"{', '.join(number(value) for value in best.values)} in trial {best.number}"


@dataclass(slots=True)
class _Running:
    """A run that goes on."""

    arm: str
    now: Progress | None = None
    curve: list[float] = field(default_factory=list)


class StudyScreen:
    """For terminals: what runs with its curves, the best of each arm, counts, and what is left.

    Args:
        live: Started, and stopped by whoever made it.
        study: Name of the study.
    """

    def __init__(self, live: Live, study: str) -> None:
        self.num_started = 0
        self._live = live
        self._study = study
        self._runs: dict[tuple[int, int], _Running] = {}
        self._standing: Standing | None = None
        self._drawn_at = 0.0

    def say(self, line: str) -> None:
        """Print the line above the view."""
        self._live.console.print(printable(line))

    def started(self, trial: Trial, seed: int) -> None:
        """Show the run."""
        self.num_started += 1
        self._runs[trial.number, seed] = _Running(trial.arm)
        self._draw()

    def progress(self, trial: Trial, seed: int, now: Progress) -> None:
        """Move the bar of the run."""
        self._runs.setdefault((trial.number, seed), _Running(trial.arm)).now = now
        self._draw()

    def reported(self, trial: Trial, seed: int, step: int, value: float) -> None:  # noqa: ARG002 - bars are even
        """Lengthen the curve of the run."""
        self._runs.setdefault((trial.number, seed), _Running(trial.arm)).curve.append(value)
        self._draw()

    def ended(self, trial: Trial, standing: Standing) -> None:
        """Take the trial's runs away, and say so if it is the best of its arm or failed."""
        self._runs = {key: run for key, run in self._runs.items() if key[0] != trial.number}
        self._standing = standing
        best = standing.best.get(trial.arm)
        if standing.confirming:
            self.say(f"trial {trial.number} {trial.arm} {confirmed_in_words(trial)}")
        elif best is not None and best.number == trial.number:
            self.say(f"best of {trial.arm} so far: {_score(trial)}")
        elif trial.state in (TrialState.FAILED, TrialState.LOST):
            self.say(f"trial {trial.number} {trial.arm} {trial_in_words(trial)}")
        self._draw(is_due=True)

    def _draw(self, *, is_due: bool = False) -> None:
        if is_due or time.monotonic() - self._drawn_at >= 1 / _REDRAWS_PER_S:
            self._drawn_at = time.monotonic()
            self._live.update(self._view(), refresh=True)

    def _view(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        where = "starting" if self._standing is None else standing_in_words(self._standing)
        parts: list[RenderableType] = [Text(printable(f"{self._study}: {where}"), style="bold")]
        if self._standing is not None and self._standing.best:
            parts.append(self._best(self._standing.best))
        if self._runs:
            parts.append(self._running())
        return Group(*parts)

    def _best(self, best: Mapping[str, Trial]) -> RenderableType:
        table = _table("arm", "best", "trial")
        for arm, trial in sorted(best.items()):
            table.add_row(printable(arm), ", ".join(map(number, trial.values)), str(trial.number))
        return table

    def _running(self) -> RenderableType:
        table = _table("trial", "arm", "seed", "", "step", "loss", "scores", "curve", "left")
        for (trial, seed), run in sorted(self._runs.items()):
            table.add_row(str(trial), printable(run.arm), str(seed), *_state(run))
        return table


def _table(*titles: str) -> Table:
    from rich import box
    from rich.table import Table

    return Table(*titles, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)


def _state(run: _Running) -> tuple[str, ...]:
    now = run.now
    if now is None:
        return ("", "", "", "", sparkline(run.curve), "")
    done = round(_BAR_WIDTH * now.step / max(1, now.total_steps))
    scores = "  ".join(f"{name} {value:.4g}" for name, value in now.scores.items())
    return (
        "━" * done + "╺" * (_BAR_WIDTH - done),
        f"{now.step}/{now.total_steps}",
        f"{now.loss:.4f}",
        printable(scores),
        sparkline(run.curve),
        duration(now.seconds_left),
    )


@contextmanager
def study_view(study: str) -> Iterator[StudyLines | StudyScreen]:
    """Give the view that suits stderr, and clear it away at the end.

    Args:
        study: Name of the study.
    """
    err = console(stderr=True)
    if not err.is_terminal or err.is_dumb_terminal:
        yield StudyLines()
        return
    from rich.live import Live

    with Live(console=err, auto_refresh=False, transient=True) as live:
        yield StudyScreen(live, study)
