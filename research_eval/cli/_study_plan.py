"""What a study would do, before it does it: what is searched, and what that costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from research_eval.cli._crew import Crew
from research_eval.cli._progress import display
from research_eval.cli._render import Column, Format, amount, note, print_rows, size, to_json, write
from research_eval.parameters import range_in_words
from research_eval.runlog import duration

if TYPE_CHECKING:
    from research_eval.cli._progress import Display
    from research_eval.hpo.forecast import Forecast
    from research_eval.hpo.spec import StudySpec
    from research_eval.knobs import Knob
    from research_eval.training.progress import Progress

Ranges = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""What is searched: by arm and dotted path, a range as schemas have it."""

SPACE = (Column("parameter", "parameter"), Column("range", "range"), Column("arms", "searched in"))


def ranges_of(spaces: Mapping[str, Mapping[str, Knob]]) -> Ranges:
    """Return the ranges of a study that is not recorded yet."""
    return {
        arm: {
            path: {"kind": type(knob).__name__, **asdict(knob)}  # type: ignore[call-overload]  # every knob is a dataclass
            for path, knob in knobs.items()
        }
        for arm, knobs in spaces.items()
    }


def space_rows(ranges: Ranges) -> list[dict[str, Any]]:
    """Return a row for each parameter and range, with the arms that search it."""
    found: dict[tuple[str, str], list[str]] = {}
    for arm, knobs in ranges.items():
        for path, knob in knobs.items():
            found.setdefault((path, range_in_words(knob)), []).append(arm)
    return [
        {
            "parameter": path,
            "range": text,
            "arms": "all" if len(arms) == len(ranges) > 1 else ", ".join(arms),
        }
        for (path, text), arms in sorted(found.items(), key=lambda pair: -len(pair[1]))
    ]


def show_plan(spec: StudySpec, ranges: Ranges) -> None:
    """Print to the terminal at stderr what is about to be searched."""
    note(in_words(spec, tuple(ranges)))
    print_rows(space_rows(ranges), SPACE, Format.TABLE, stderr=True)


def in_words(spec: StudySpec, arms: Sequence[str]) -> str:
    """Return in a line what a study is asked."""
    shares = spec.shares(arms)
    parts = [
        f"study {spec.name}: {spec.n_trials} trials, "
        + ("shared by " if spec.share_budget else "")
        + ", ".join(arm if spec.share_budget else f"{n} of {arm}" for arm, n in shares.items()),
        "for " + ", ".join(map(str, spec.parsed_objectives)),
    ]
    parts += [f"with {', '.join(map(str, spec.bounds))}"] if spec.bounds else []
    parts += [f"{spec.seeds} seeds each"] if spec.seeds > 1 else []
    parts += [f"winners confirmed on {spec.confirm} fresh seeds"] if spec.confirm else []
    parts += [f"each scaled to {spec.match}"] if spec.match else []
    parts += [f"warm start from {spec.warm_start}"] if spec.warm_start else []
    return "; ".join(parts)


class _Preparing:
    """A `Watcher` of data that is prepared for an arm."""

    def __init__(self, shown: Display) -> None:
        self._shown = shown

    def say(self, line: str) -> None:
        """Show the line."""
        self._shown.say(line)

    def progress(self, now: Progress) -> None:
        """Ignore the state: nothing is trained to its end."""


COSTS = (
    Column("arm", "arm"),
    Column("trials", "trials", is_number=True),
    Column("runs", "runs", is_number=True),
    Column("searched", "searched", is_number=True),
    Column("param_count", "parameters", lambda ends: _ends(amount, ends), is_number=True),
    Column("seconds_each", "time of a run", lambda ends: _ends(duration, ends), is_number=True),
    Column("seconds", "time in all", lambda ends: _ends(duration, ends), is_number=True),
    Column("memory_bytes", "memory of a run", lambda ends: _ends(size, ends), is_number=True),
    Column("disk_bytes", "disk in all", lambda ends: _ends(size, ends), is_number=True),
)
"""Both ends of what an arm may cost: its smallest and its largest configuration."""


def show_forecast(spec: StudySpec, crew: Crew, form: Format) -> None:
    """Print what is searched and what it would cost; nothing is recorded."""
    found = forecast_of(spec, crew)
    costs = found["arms"]
    if form is Format.JSON:
        write(to_json(found))
        return
    if form is Format.TABLE:
        write(found["in_words"])
        print_rows(found["space"], SPACE, form)
        write("")
    print_rows(costs, COSTS, form)
    workers = max(1, crew.workers)
    total = [sum(cost["seconds"][end] for cost in costs) / workers for end in (0, 1)]
    many = f"{workers} worker{'s' if workers > 1 else ''}"
    note(
        f"in all {_ends(duration, total)} with {many} if no trial is pruned, "
        "between the smallest and the largest configurations, at the pace of this machine now"
    )


def forecast_of(spec: StudySpec, crew: Crew) -> dict[str, Any]:
    """Return what a study searches and what it would cost, as JSON values."""
    from research_eval.executors import threads_each
    from research_eval.hpo.configurations import Configurations
    from research_eval.hpo.forecast import forecast

    problem = Configurations(spec)
    spaces = {arm: space.knobs for arm, space in problem.spaces.items()}
    threads = threads_each(max(1, crew.workers))
    with display() as shown:
        forecasts = forecast(problem, _Preparing(shown), num_threads=threads)
    return {
        "study": spec.name,
        "in_words": in_words(problem.spec, tuple(spaces)),
        "space": space_rows(ranges_of(spaces)),
        "arms": [_cost(each, len(spaces[each.arm])) for each in forecasts],
    }


def _cost(found: Forecast, searched: int) -> dict[str, Any]:
    ends = (found.smallest, found.largest)
    return {
        "arm": found.arm,
        "trials": found.trials,
        "runs": found.runs,
        "searched": searched,
        "param_count": [end.plan.param_count for end in ends],
        "seconds_each": [end.seconds for end in ends],
        "seconds": [found.runs * end.seconds for end in ends],
        "memory_bytes": [end.plan.memory_bytes for end in ends],
        "disk_bytes": [found.runs * end.plan.kept_bytes for end in ends],
    }


def _ends(show: Any, ends: Any) -> str:
    low, high = map(show, sorted(ends))
    return low if low == high else f"{low} - {high}"
