"""From JSON text and `path=value` overrides to a plain tree, with every mistake named."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from research_eval.errors import ConfigError, Issue


class _Object(dict[str, Any]):
    """A JSON object that remembers which of its keys appeared twice."""

    duplicates: tuple[str, ...] = ()


def _object_of(pairs: list[tuple[str, Any]]) -> _Object:
    made = _Object(pairs)
    keys = [key for key, _ in pairs]
    made.duplicates = tuple(sorted({key for key in keys if keys.count(key) > 1}))
    return made


def read_json(text: str, source: str) -> tuple[dict[str, Any], list[Issue]]:
    """Parse the text of a configuration.

    Args:
        text: One JSON object.
        source: What to call it in messages, usually its file name.

    Returns:
        The tree, and an issue for each key that appears twice in one object.

    Raises:
        ConfigError: If the text is not JSON, or not an object.
    """
    try:
        tree = json.loads(text, object_pairs_hook=_object_of)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{source} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None
    except RecursionError:
        raise ConfigError(f"{source} is nested too deeply") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{source} must hold one JSON object, not {type(tree).__name__}")
    return tree, list(_duplicates(tree, ""))


def _duplicates(value: object, path: str) -> Iterable[Issue]:
    if isinstance(value, _Object):
        for key in value.duplicates:
            yield Issue(f"{path}{key}", "appears twice; keep one")
        for key, inner in value.items():
            yield from _duplicates(inner, f"{path}{key}.")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _duplicates(inner, f"{path}{index}.")


def apply_overrides(tree: dict[str, Any], overrides: Iterable[str]) -> list[Issue]:
    """Set `path=value` in a tree, in place.

    Args:
        tree: A configuration.
        overrides: Dotted paths with a JSON value each; what is not JSON is taken as text.

    Returns:
        An issue for each override that cannot be applied.
    """
    issues = []
    for override in overrides:
        path, separator, text = override.partition("=")
        *parents, leaf = path.split(".")
        if not separator or not all([*parents, leaf]):
            issues.append(Issue("", f"'{override}' is not an override; write path=value"))
            continue
        node: Any = tree
        for parent in parents:
            node = node.setdefault(parent, {}) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            issues.append(Issue(path, "lies inside a value that has no fields"))
            continue
        node[leaf] = _value_of(text)
    return issues


def _value_of(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def apply_aliases(tree: dict[str, Any], aliases: dict[str, str]) -> list[Issue]:
    """Rename alias keys of one section to the fields they mean, in place.

    Returns:
        An issue for each alias that stands beside its canonical name.
    """
    issues = []
    for alias, name in aliases.items():
        if alias not in tree:
            continue
        if name in tree:
            issues.append(Issue(alias, f"means the same as {name}, which is given too; keep one"))
        else:
            tree[name] = tree[alias]
        del tree[alias]
    return issues


def move(tree: dict[str, Any], moved: dict[str, str]) -> list[Issue]:
    """Move fields that older configurations keep in another section, in place.

    Returns:
        An issue for each field that is given in both places.
    """
    issues = []
    for old, new in moved.items():
        (old_section, old_key), (new_section, new_key) = old.split("."), new.split(".")
        source, target = tree.get(old_section), tree.setdefault(new_section, {})
        if not isinstance(source, dict) or old_key not in source or not isinstance(target, dict):
            continue
        if new_key in target:
            issues.append(Issue(old, f"means the same as {new}, which is given too; keep one"))
        else:
            target[new_key] = source[old_key]
        del source[old_key]
    return issues
