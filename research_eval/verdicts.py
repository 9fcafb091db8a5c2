"""What `research-eval check` found out about plug-in files, kept by the content of their code."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from research_eval import provenance
from research_eval.config import Experiment
from research_eval.prepare import cache_dir, components
from research_eval.registry import PluginReference, plugin_reference
from research_eval.spec import Task


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a component's promises.

    Attributes:
        component: Its file and name, for those who look into the folder.
        settings: With which it was checked, as `path=value`.
        broken: Promises that it does not keep.
    """

    component: str
    settings: Sequence[str]
    broken: Sequence[str]


def keep(reference: PluginReference, kind: str, task: Task, verdict: Verdict) -> None:
    """Keep the verdict on a plug-in for a task; it replaces an earlier one on the same code."""
    file = _file(reference, kind, task)
    file.parent.mkdir(parents=True, exist_ok=True)
    written = file.with_name(f"{file.name}.{os.getpid()}")
    written.write_text(json.dumps(asdict(verdict), indent=2), encoding="utf-8")
    written.replace(file)


def find(reference: PluginReference, kind: str, task: Task) -> Verdict | None:
    """Return the verdict on the present code of a plug-in; None if it was never checked."""
    found = _read(_file(reference, kind, task))
    return None if found is None else Verdict(**found)


def flags(experiment: Experiment, task: Task) -> dict[str, str]:
    """Return what must stand beside the scores of a run with plug-ins: reasons by flag.

    A component of a file counts as checked if its present code kept its promises for the task.
    """
    unchecked, broken = [], []
    for kind, name in components(experiment):
        reference = plugin_reference(name, experiment.base_dir)
        if reference is None:
            continue
        found = find(reference, kind, task)
        if found is None:
            unchecked.append(f"run research-eval check {spelled(reference)}")
        elif found.broken:
            settings = f" with {', '.join(found.settings)}" if found.settings else ""
            broken.append(f"{spelled(reference)}{settings} breaks: {' '.join(found.broken)}")
    named = {"unchecked": unchecked, "check_broken": broken}
    return {flag: "; ".join(reasons) for flag, reasons in named.items() if reasons}


def _file(reference: PluginReference, kind: str, task: Task) -> Path:
    code = provenance.code_hash([reference.file])
    return cache_dir() / "checks" / f"{code}-{kind}-{reference.attribute}-{task}.json"


def _read(file: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return found


def spelled(reference: PluginReference) -> str:
    """Return the name by which the command finds the plug-in from here."""
    here = Path.cwd()
    if reference.file.is_relative_to(here):
        return f"./{reference.file.relative_to(here)}:{reference.attribute}"
    return str(reference)
