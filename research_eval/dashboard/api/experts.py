"""What the experts of a run did: load over time, matrices of one evaluation, measures.

E experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from research_eval.dashboard.answers import ProblemError, drawn
from research_eval.dashboard.asking import Ask
from research_eval.dashboard.site import Site
from research_eval.metrics import EXPERT_METRICS, METRICS
from research_eval.records import RunRecord

MAX_STEPS = 120
"""Evaluations whose load is sent at once: evenly chosen ones of more."""

MAX_VALUES = 400_000
"""Numbers in one answer."""

_DROPPED = tuple(metric for metric in METRICS if metric.name.startswith("train_drop_rate"))


def overview(site: Site, ask: Ask) -> dict[str, Any]:
    """Return which arrays and measures there are, and the load of every expert over time."""
    run = site.run(ask.part("run"))
    ask.check()
    arrays = site.browser.expert_arrays(run.experiment_id)
    return {
        "id": run.experiment_id,
        "name": run.experiment_name,
        "model_type": run.model_type,
        "status": run.status,
        "flags": run.flags,
        "measures": _measures(run),
        "arrays": {
            name: {"layers": found.layers, "steps": found.steps, "shape": found.shape}
            for name, found in arrays.items()
        },
        "load": _load(site, run, arrays["load_share"].steps) if "load_share" in arrays else None,
    }


def _load(site: Site, run: RunRecord, steps: Sequence[int]) -> dict[str, Any]:
    by_step = site.browser.expert_array(run.experiment_id, "load_share", _some(steps))
    layers = sorted({layer for by_layer in by_step.values() for layer in by_layer})
    return {
        "steps": list(by_step),
        "layers": layers,
        "values": [
            [_rounded(by_layer.get(layer)) for layer in layers] for by_layer in by_step.values()
        ],
        "of": len(steps),
    }


def _rounded(load_E: npt.NDArray[np.generic] | None) -> list[float | None] | None:
    return None if load_E is None else drawn(np.round(load_E.astype(float), 5))


def _some(steps: Sequence[int]) -> list[int]:
    if len(steps) <= MAX_STEPS:
        return list(steps)
    places = np.linspace(0, len(steps) - 1, MAX_STEPS).round().astype(int)
    return [steps[place] for place in places]


def _measures(run: RunRecord) -> list[dict[str, Any]]:
    """Return the metrics about experts that the run has: by layer, with their meaning."""
    found = []
    for metric in (*EXPERT_METRICS, *_DROPPED):
        prefix, per_layer, _ = metric.name.partition("{layer}")
        layers = {
            name.removeprefix(prefix): name
            for name in run.metrics
            if (per_layer and name.startswith(prefix) and name.removeprefix(prefix).isdecimal())
            or name == metric.name
        }
        if layers:
            short = prefix.removeprefix("val_").removesuffix("_layer").replace("_", " ")
            found.append(
                {
                    "name": short,
                    "meaning": metric.meaning,
                    "metrics": [
                        layers[layer] for layer in sorted(layers, key=lambda n: (len(n), n))
                    ],
                    "last": [
                        run.value(layers[n]) for n in sorted(layers, key=lambda n: (len(n), n))
                    ],
                }
            )
    return found


def array(site: Site, ask: Ask) -> dict[str, Any]:
    """Return the arrays of one name at one step, the last by default, by layer."""
    run, name = site.run(ask.part("run")), ask.part("name")
    step = ask.whole("step", None, low=-(2**62), high=2**62)
    ask.check()
    known = site.browser.expert_arrays(run.experiment_id)
    if name not in known:
        names = ", ".join(known) or "none"
        raise ProblemError(404, f"run {run.experiment_id} has no array '{name}'; it has {names}")
    chosen = known[name].steps[-1] if step is None else step
    by_layer = site.browser.expert_array(run.experiment_id, name, [chosen]).get(chosen)
    if by_layer is None:
        raise ProblemError(404, f"'{name}' was not recorded at step {chosen}")
    if sum(values.size for values in by_layer.values()) > MAX_VALUES:
        raise ProblemError(
            400, f"'{name}' has more than {MAX_VALUES:,} numbers; read it with Store"
        )
    return {
        "step": chosen,
        "steps": known[name].steps,
        "layers": {
            layer: [drawn(row) for row in np.atleast_2d(values).astype(float)]
            for layer, values in sorted(by_layer.items())
        },
    }
