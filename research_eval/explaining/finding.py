"""What a finding is, what declares it, and the commands that test it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from research_eval.explaining.pair import Pair
    from research_eval.explaining.side import Side

MATTERS = 0.1
"""What is worth less than this share of the difference is left out."""

UNEQUAL = "a tenth of the difference: what is worth less cannot be what makes it"
"""Reason of `MATTERS`, for the rules whose threshold it is."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command of `research-eval`, as words.

    Attributes:
        words: Behind the name of the program.
        takes_db: Whether it opens the store, so that `--db` belongs to it.
    """

    words: tuple[str, ...]
    takes_db: bool = True

    def text(self, db: str | None = None) -> str:
        """Return the line that a shell runs, for the store that was asked for."""
        place = ["--db", db] if db is not None and self.takes_db else []
        return shlex.join(["research-eval", *self.words, *place])


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a rule found.

    Attributes:
        sentence: With its numbers.
        numbers: The same for machines, by name.
        strength: The number over the threshold, 1 or more; how many thresholds it is.
        effect: How much of the difference it could be worth, in units of the metric; None if the
            records do not say.
        commands: What tests it, in this order.
    """

    sentence: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    strength: float = 1.0
    effect: float | None = None
    commands: tuple[Command, ...] = ()


@dataclass(frozen=True, slots=True)
class Lack:
    """Evidence that is not on record.

    Attributes:
        what: As the subject of a sentence.
        commands: What would record it; empty if nothing does any more.
    """

    what: str
    commands: tuple[Command, ...] = ()


Find = Callable[["Pair", "Side", "Side", float], Finding | Lack | None]
"""Looks at one side beside the other: is it at a disadvantage?"""


class Bearing(IntEnum):
    """How a finding bears on the difference."""

    PREMISE = 0
    """What makes the comparison another one than was meant."""
    EXPLAINS = 1
    """The side that is behind is at a disadvantage."""
    DESPITE = 2
    """The side that is ahead is: without it, the difference might be larger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Declares a finding.

    Attributes:
        name: Of the finding, for machines.
        title: The finding in a few words.
        evidence: What of the records it looks at.
        threshold: From which number on it speaks.
        limit: What the threshold is compared with; `{}` is the threshold.
        reason: Source or reason of the threshold.
        test: What its command does, in words.
        find: Evidence to finding.
        is_premise: Whether it concerns both sides alike, and comes first.
        needs_end: Whether it means nothing before both sides have ended.
    """

    name: str
    title: str
    evidence: str
    threshold: float
    limit: str
    reason: str
    test: str
    find: Find
    is_premise: bool = False
    needs_end: bool = False

    @property
    def limit_in_words(self) -> str:
        """The threshold with what is compared with it."""
        return self.limit.format(f"{self.threshold:g}")


@dataclass(frozen=True, slots=True)
class Explained:
    """A finding in its place.

    Attributes:
        side: Label of the side that it is about; empty for both.
        share: `effect` over the difference; None if either is not known, or it is seed noise.
    """

    rule: Rule
    bearing: Bearing
    side: str
    finding: Finding
    share: float | None

    @property
    def order(self) -> tuple[int, bool, float]:
        """Premises, then what explains; of these first what is measured, the largest first."""
        effect = self.finding.effect
        size = self.finding.strength if effect is None else effect
        return self.bearing, effect is None, -size


def in_order(found: Sequence[Explained]) -> tuple[Explained, ...]:
    """Return findings as they are told."""
    return tuple(sorted(found, key=lambda each: each.order))
