"""The commands that findings name, each complete: none needs a file that another has not written.

A run is repeated with something changed by writing its configuration to a file first
(`runs config`). A run of another program cannot be repeated here; then runs are put side by side.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from research_eval.explain.finding import Command
from research_eval.explain.side import Side
from research_eval.files import safe_name
from research_eval.knobs import is_number
from research_eval.schemas import marked_fields

EVERY_SEED = 5
"""Seeds that are asked for where there is one: with three the interval is twice as wide."""


def config_file(side: Side) -> str:
    """Return the file that a side's configuration is written to."""
    return f"{safe_name(side.run.experiment_id)[:8]}.json"


def write_config(side: Side) -> Command:
    """Write the configuration of a side."""
    return Command(("runs", "config", side.run.experiment_id, "-o", config_file(side)))


def rerun(
    side: Side, settings: Mapping[str, Any], *, sweep: str = "", seeds: str = ""
) -> tuple[Command, ...]:
    """Run a side again with other settings.

    Args:
        side: Which side.
        settings: New values by dotted path.
        sweep: `path=values` of which each is tried.
        seeds: As `--seeds` reads them; those of the side by default.
    """
    if not side.is_ours:
        return (Command(("runs", "show", side.run.experiment_id)),)
    changes = [f"{path}={_text(value)}" for path, value in settings.items()]
    swept = ["--sweep", sweep] if sweep else []
    words = ("run", config_file(side), *changes, *swept, "--seeds", seeds or side.seeds)
    return write_config(side), Command(words)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def sweep_around(side: Side, path: str, factors: tuple[float, ...]) -> tuple[Command, ...]:
    """Run a side with multiples of one of its numbers; 0 is left alone."""
    value = side.params.get(path)
    values = [float(f"{value * factor:.3g}") for factor in factors] if is_number(value) else []
    return rerun(side, {}, sweep=f"{path}={','.join(map(json.dumps, values))}")


def more_seeds(side: Side, count: int) -> tuple[Command, ...]:
    """Run a side until it has so many seeds."""
    if not side.is_ours:
        return ()
    have = {run.seed or 0 for run in side.runs}
    fresh = [seed for seed in range(count + len(have)) if seed not in have]
    wanted = sorted([*have, *fresh[: max(0, count - len(have))]])
    is_count = wanted == list(range(len(wanted)))
    seeds = str(len(wanted)) if is_count else ",".join(map(str, wanted))
    return rerun(side, {}, seeds=seeds)


def evaluate(side: Side, *options: str) -> tuple[Command, ...]:
    """Evaluate a run of a side."""
    if not side.is_ours:
        return ()
    return (Command(("evaluate", side.run.experiment_id, *options)),)


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
        Command(("run", made, "--seeds", other.seeds)),
    )
