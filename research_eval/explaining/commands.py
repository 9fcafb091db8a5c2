"""The commands that findings name, each complete: none needs a file that another has not written.

A run is repeated with something changed by writing its configuration to a file first
(`runs config`). A run of another program cannot be repeated here; then runs are put side by side.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from research_eval.explaining.finding import Command
from research_eval.explaining.side import Side
from research_eval.files import safe_name
from research_eval.knobs import is_number
from research_eval.records import RunStatus
from research_eval.schemas import marked_fields

LR = "optimizer_params.lr"
KEEP = "training_params.keep_checkpoints"

EVERY_SEED = 5
"""Seeds that are asked for where there is one: with three the interval is twice as wide."""


def config_file(side: Side) -> str:
    """Return the file that a side's configuration is written to."""
    return f"{safe_name(side.run.experiment_id)[:8]}.json"


def write_config(side: Side) -> Command:
    """Write the configuration of a side."""
    return Command(("runs", "config", side.run.experiment_id, "-o", config_file(side)))


def rerun(
    side: Side, settings: Mapping[str, Any], *, sweep: str = "", seeds: Sequence[int] = ()
) -> tuple[Command, ...]:
    """Run a side again with other settings.

    Args:
        side: Which side.
        settings: New values by dotted path.
        sweep: `path=values` of which each is tried.
        seeds: Ascending; those of the side by default.
    """
    if not side.is_ours:
        return (Command(("runs", "show", side.run.experiment_id)),)
    changes = [f"{path}={_text(value)}" for path, value in settings.items()]
    swept = ["--sweep", sweep] if sweep else []
    if first := (*changes, sweep)[0]:  # else the name would mean several configurations
        what = first.partition("=")[0].rpartition(".")[2]
        changes = [f"experiment_name={side.run.experiment_name[:150]}_{what}", *changes]
    words = ("run", config_file(side), *changes, *swept, "--seeds", as_option(seeds or side.seeds))
    return write_config(side), Command(words)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def sweep_around(side: Side, path: str, factors: tuple[float, ...]) -> tuple[Command, ...]:
    """Run a side with multiples of one of its numbers; 0 is left alone."""
    value = side.params.get(path)
    values = [float(f"{value * factor:.3g}") for factor in factors] if is_number(value) else []
    return rerun(side, {}, sweep=f"{path}={','.join(map(json.dumps, values))}")


def more_seeds(side: Side, count: int) -> tuple[Command, ...]:
    """Run a side until it has so many seeds; fresh ones follow the greatest."""
    if not side.is_ours:
        return ()
    have = side.seeds
    more = range(have[-1] + 1, have[-1] + 1 + max(0, count - len(have)))
    return rerun(side, {}, seeds=(*have, *more))


def as_option(seeds: Sequence[int]) -> str:
    """Return seeds as `--seeds` reads them, as short as may be."""
    first, last = seeds[0], seeds[-1]
    if [*seeds] == [*range(len(seeds))]:
        return str(len(seeds))
    if len(seeds) == 1:
        return f"{first},"
    is_range = [*seeds] == [*range(first, last + 1)]
    return f"{first}-{last}" if is_range else ",".join(map(str, seeds))


def evaluate(side: Side, *options: str) -> tuple[Command, ...]:
    """Evaluate a finished run of a side; without weights it must be run again first."""
    finished = [run for run in side.runs if run.status is RunStatus.COMPLETED]
    if not side.is_ours or not finished:
        return ()
    if side.params.get(KEEP) == "none":
        return again(rerun(side, {KEEP: "best"}))
    return (Command(("evaluate", finished[-1].experiment_id, *options)),)


def again(commands: tuple[Command, ...]) -> tuple[Command, ...]:
    """Let the last command run also what is recorded: what it changes is no part of a result."""
    *before, last = commands
    words = (*last.words, "--again") if last.words[0] == "run" else last.words
    return (*before, Command(words, last.takes_db))


def at_cost_of(side: Side, other: Side, axis: str) -> tuple[Command, ...]:
    """Run the other architecture at the cost of this one; what only it has stays as it is."""
    if not (side.is_ours and other.is_ours):
        return (Command(("runs", "diff", side.run.experiment_id, other.run.experiment_id)),)
    defaults = marked_fields(other.schema, "default")
    own = [
        f"{path}={_text(value)}"
        for path, value in other.params.items()
        if path.startswith("model_params.")
        and path not in side.params
        and value != defaults.get(path, value)
    ]
    made = f"{config_file(other).removesuffix('.json')}_at_{config_file(side)}"
    model = other.component("model_type")
    matched = ("match", config_file(side), "--to", model, "--on", axis, *own, "-o", made)
    return (
        write_config(side),
        Command((*matched, "--no-step-time"), takes_db=False),
        Command(("run", made, "--seeds", as_option(other.seeds))),
    )
