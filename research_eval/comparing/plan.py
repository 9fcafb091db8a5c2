"""The plan of a comparison: a file that is written before the first run, and never changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from research_eval.config import canonical_json
from research_eval.errors import ConfigError
from research_eval.files import replace_file
from research_eval.records import leaves

SCHEMA = "research-eval comparison plan"
VERSION = 1

MAX_TOLD = 8
"""Differences that a message names."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked, and with what it was going to be answered.

    Attributes:
        name: Of the comparison, and of its study.
        written: When, UTC.
        question: Arms, cost, budget, metric, contrasts, seeds and ranges, as JSON values: all
            that an answer depends on. Another one is another comparison.
        made_by: Versions of what was going to run it, and of the code of each arm.
    """

    name: str
    written: str
    question: Mapping[str, Any]
    made_by: Mapping[str, Any]

    @classmethod
    def new(cls, name: str, question: Mapping[str, Any], made_by: Mapping[str, Any]) -> Self:
        """Return a plan of now."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(name, now, *json.loads(json.dumps([question, made_by])))

    @property
    def hash(self) -> str:
        """Identity of the question."""
        return hashlib.sha256(canonical_json(self.question).encode()).hexdigest()

    def write(self, path: Path) -> None:
        """Write the file.

        Raises:
            StoreError: If it cannot be written.
        """
        tree = {"schema": SCHEMA, "version": VERSION, **asdict(self), "question_hash": self.hash}
        replace_file(path, json.dumps(tree, indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Return the plan that a file holds; None if there is no file.

        Raises:
            ConfigError: If it is no plan of this version, or its question was edited.
        """
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
            plan = cls(*(tree[name] for name in cls.__slots__))
            is_ours = (tree["schema"], tree["version"]) == (SCHEMA, VERSION)
            is_whole = tree["question_hash"] == plan.hash
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{path} is no plan of a comparison: {error!r}") from None
        if not is_ours:
            raise ConfigError(f"{path} is no plan that this version can read")
        if not is_whole:
            raise ConfigError(
                f"{path} was changed after it was written; put it back as it was, or start anew "
                "under another --study-name"
            )
        return plan

    def require_same(self, now: Plan, path: Path) -> None:
        """Check that the same is asked as when the plan was written.

        Raises:
            ConfigError: With what differs.
        """
        before, asked = (dict(leaves(each.question)) for each in (self, now))
        changed = [p for p in {**before, **asked} if before.get(p) != asked.get(p)]
        if not changed:
            return
        told = [
            f"{each} was {json.dumps(before.get(each))}, now {json.dumps(asked.get(each))}"
            for each in changed[:MAX_TOLD]
        ]
        more = len(changed) - MAX_TOLD
        raise ConfigError(
            f"comparison {self.name} was planned otherwise on {self.written[:10]} ({path.name}): "
            + "; ".join([*told, *([f"{more} more"] if more > 0 else [])])
            + ". The same question continues it; --study-name starts another one"
        )
