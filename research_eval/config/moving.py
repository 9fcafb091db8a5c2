"""Files that a configuration names relative to its own folder, seen from another one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from research_eval.records import leaves


def files_beside(tree: Mapping[str, Any], base_dir: Path) -> list[str]:
    """Return what a configuration names relative to its own folder: plug-ins and data.

    Args:
        tree: Its JSON values.
        base_dir: Its folder.
    """
    values = [(path, value) for path, value in leaves(tree) if isinstance(value, str)]
    plugins = [value for path, value in values if ".py:" in value and _is_component(path)]
    data = [
        value
        for path, value in values
        if path.startswith("dataset_params.") and value and (base_dir / value).exists()
    ]
    found = dict.fromkeys((*plugins, *data))
    return [name for name in found if not Path(name).expanduser().is_absolute()]


def _is_component(path: str) -> bool:
    return path in ("model_type", "dataset_name") or path.startswith("model_params.")


def seen_from(tree: Any, base_dir: Path, folder: Path) -> Any:
    """Return a configuration with relative names of files as they are seen from a folder."""
    if folder.resolve() == base_dir.resolve():
        return tree
    names = {
        name: os.path.relpath((base_dir / name).resolve(), folder.resolve())
        for name in files_beside(tree, base_dir)
    }

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: moved(inner) for key, inner in value.items()}
        return names.get(value, value) if isinstance(value, str) else value

    return moved(tree) if names else tree
