"""research-eval: an experiment platform for mixture-of-experts research.

    import research_eval

    record = research_eval.run("examples/configs/moe_parity.json")
    print(record.status, record.value("final_val_f1"))

    with research_eval.track("any script", config={"lr": 1e-3}) as run:
        run.log({"train/loss": 0.31}, step=10)

Names load on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from research_eval.api import run
    from research_eval.comparing import compare
    from research_eval.evaluation.evaluate import evaluate
    from research_eval.explaining import explain
    from research_eval.generation.writing import generate
    from research_eval.hpo import optimize
    from research_eval.recorded import load_data, load_model
    from research_eval.registry import DATASETS_MAP, MODELS_MAP, ROUTERS_MAP
    from research_eval.store import Store
    from research_eval.tracking import TrackedRun, track

__all__ = [
    "DATASETS_MAP",
    "MODELS_MAP",
    "ROUTERS_MAP",
    "Store",
    "TrackedRun",
    "compare",
    "evaluate",
    "explain",
    "generate",
    "load_data",
    "load_model",
    "optimize",
    "run",
    "track",
]

_HOMES = {
    "DATASETS_MAP": "registry",
    "MODELS_MAP": "registry",
    "ROUTERS_MAP": "registry",
    "Store": "store",
    "TrackedRun": "tracking",
    "compare": "comparing",
    "evaluate": "evaluation.evaluate",
    "explain": "explaining",
    "generate": "generation.writing",
    "load_data": "recorded",
    "load_model": "recorded",
    "optimize": "hpo",
    "run": "api",
    "track": "tracking",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
