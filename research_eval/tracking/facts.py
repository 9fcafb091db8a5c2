"""What is known of a run without asking its script; collecting it takes some 0.1 s."""

from __future__ import annotations

import json
import os
from pathlib import Path

from research_eval import provenance, system


def facts(folder: Path, *, git_diff: bool) -> dict[str, str | None]:
    """Return facts under their names in `NewRun`.

    Args:
        folder: Working directory of the script.
        git_diff: Whether uncommitted changes are wanted.
    """
    commit, diff = provenance.git_state(folder, with_diff=git_diff)
    environment = provenance.environment() | {"directory": str(folder)}
    return {
        "git_commit": commit,
        "git_diff": diff,
        "argv": provenance.command(),
        "hardware": _hardware(),
        "env_details_json": json.dumps(environment),
    }


def _hardware() -> str:
    """Return a name of the machine for comparing times: its GPUs, or else its CPU."""
    try:
        names = system.gpu_names()
    except OSError:  # the sampler says why
        names = []
    if not names:
        return f"cpu:{provenance.cpu_model()}:{os.cpu_count()} CPUs"
    return f"cuda:{names[0]}" + (f" x {len(names)}" if len(names) > 1 else "")
