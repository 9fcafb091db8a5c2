"""What the recorded JSON Schema of a configuration says about its fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def marked_fields(schema: Mapping[str, Any], mark: str) -> dict[str, Any]:
    """Return what a JSON Schema says under a mark such as `x-knob`, by dotted path."""
    definitions = schema.get("$defs", {})
    found: dict[str, Any] = {}

    def walk(node: Mapping[str, Any], path: str) -> None:
        for name, each in node.get("properties", {}).items():
            if mark in each:
                found[path + name] = each[mark]
            reference = str(each.get("$ref", ""))
            inner = definitions.get(reference.rpartition("/")[2]) if reference else None
            if inner is not None:
                walk(inner, f"{path}{name}.")

    walk(schema, "")
    return found
