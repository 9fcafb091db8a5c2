"""From JSON text and `path=value` overrides to a plain tree, with every mistake named."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from research_eval.errors import ConfigError, Issue
from research_eval.knobs import Params


class _Object(dict[str, Any]):
    """A JSON object that remembers which of its keys appeared twice."""

    duplicates: tuple[str, ...] = ()


def _object_of(pairs: list[tuple[str, Any]]) -> _Object:
    made = _Object(pairs)
    keys = [key for key, _ in pairs]
    made.duplicates = tuple(sorted({key for key in keys if keys.count(key) > 1}))
    return made


def read_json(
    text: str, source: str, overrides: Iterable[str] = ()
) -> tuple[dict[str, Any], list[Issue]]:
    """Parse the text of a configuration and set its overrides.

    Args:
        text: One JSON object.
        source: What to call it in messages, usually its file name.
        overrides: `path=value` settings that replace what the text says.

    Returns:
        The tree, and an issue for each key that appears twice and each override that is none.

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
    except ValueError as error:  # an integer of more digits than Python converts
        raise ConfigError(f"{source} is not JSON: {error}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{source} must hold one JSON object, not {json.dumps(tree)[:40]}")
    issues = _apply_overrides(tree, overrides)
    return tree, [*_duplicates(tree, ""), *issues]


def _duplicates(value: object, path: str) -> Iterable[Issue]:
    if isinstance(value, dict):
        for key in getattr(value, "duplicates", ()):
            yield Issue(f"{path}{key}", "appears twice; keep one")
        for key, inner in value.items():
            yield from _duplicates(inner, f"{path}{key}.")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _duplicates(inner, f"{path}{index}.")


def _apply_overrides(tree: dict[str, Any], overrides: Iterable[str]) -> list[Issue]:
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
        node[leaf] = value_of(text)
    return issues


def value_of(text: str) -> Any:
    """Return the JSON value, or the text itself: `model_type=moe` needs no quotes."""
    try:
        return json.loads(text, object_pairs_hook=_object_of)
    except ValueError:
        return text


def without_unreadable(tree: dict[str, Any]) -> tuple[dict[str, Any], list[Issue]]:
    """Return the tree with null for numbers that cannot be stored, and an issue for each.

    Python's parser lets pass what JSON and databases cannot hold: NaN, infinities, integers of
    more than 64 bits, and halves of characters, which become question marks.
    """
    issues: list[Issue] = []
    readable: dict[str, Any] = _readable(tree, "", issues)
    return readable, issues


def _readable(value: Any, path: str, issues: list[Issue]) -> Any:
    inside = f"{path}." if path else ""
    match value:
        case dict():
            return {
                _text(key, path, issues): _readable(each, f"{inside}{key}", issues)
                for key, each in value.items()
            }
        case list():
            return [_readable(each, f"{inside}{i}", issues) for i, each in enumerate(value)]
        case float() if not math.isfinite(value):
            issues.append(Issue(path, f"must be a finite number, got {json.dumps(value)}"))
            return None
        case int() if abs(value) >= 2**63:
            issues.append(Issue(path, "must be an integer of at most 64 bits"))
            return None
        case str():
            return _text(value, path, issues)
    return value


def _text(value: str, path: str, issues: list[Issue]) -> str:
    text = value.encode(errors="replace").decode()
    if text != value:
        issues.append(Issue(path, f"must hold Unicode text, got {json.dumps(value)}"))
    return text


def apply_aliases(tree: dict[str, Any], aliases: Mapping[str, str]) -> list[Issue]:
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


def move(
    tree: dict[str, Any], moved: Mapping[str, str], sections: Mapping[str, type[Params]]
) -> list[Issue]:
    """Move fields that older configurations keep in another section, in place.

    A field stays where it is, and will be reported there, if the new section does not have it.

    Args:
        tree: A configuration.
        moved: Old path to new path.
        sections: The classes of those sections that are known.

    Returns:
        An issue for each field that is given in both places.
    """
    issues = []
    for old, new in moved.items():
        (old_section, old_key), (new_section, new_key) = old.split("."), new.split(".")
        source = tree.get(old_section)
        known = sections.get(new_section)
        if not isinstance(source, dict) or old_key not in source:
            continue
        target = tree.setdefault(new_section, {})
        if not isinstance(target, dict) or (known and new_key not in known.model_fields):
            continue
        if new_key in target:
            issues.append(Issue(old, f"means the same as {new}, which is given too; keep one"))
        else:
            target[new_key] = source[old_key]
        del source[old_key]
    return issues
