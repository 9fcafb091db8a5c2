"""An explanation as lines of text."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from research_eval.analysis.words import counted, listed
from research_eval.explaining.finding import Bearing, Explained
from research_eval.explaining.side import Side, told
from research_eval.quantities import number

if TYPE_CHECKING:
    from research_eval.explaining.explanation import Explanation
    from research_eval.explaining.pair import Pair

WIDTH = 96
"""Characters in a line of prose."""

HEADINGS = {
    Bearing.PREMISE: "before anything else",
    Bearing.EXPLAINS: "what could explain it, the largest first",
    Bearing.DESPITE: "the other way round: without this, {ahead} might be further ahead",
}

UNDECIDED = {
    Bearing.EXPLAINS: "what is against {behind}, unless seeds differ as much",
    Bearing.DESPITE: "what is against {ahead}, unless seeds differ as much",
}
"""Headings where seed noise is not known: one seed each often differs by a threshold."""


def lines(found: Explanation, db: str | None = None) -> Iterator[str]:
    """Yield what a person reads.

    Args:
        found: The explanation.
        db: The store that was asked for, for the commands.
    """
    pair = found.pair
    yield from _wrapped(verdict(pair))
    for side in (pair.a, pair.b):
        for note in (*side.notes, *_state(side)):
            yield from _wrapped(note, "  ")
    if not found.findings:
        yield ""
        yield from _wrapped(nothing(found))
    heading = ""
    for place, each in enumerate(found.findings, 1):
        current = _heading(pair, each.bearing)
        if current != heading:
            heading = current
            yield from ("", heading)
        yield from _finding(place, each, db)
    yield from _closing(found, db)


def verdict(pair: Pair) -> str:
    """Return the difference in a sentence."""
    if not all(map(len, pair.values.values())):
        missing = [side.label for side in (pair.a, pair.b) if not len(pair.values[side.label])]
        has = "has" if len(missing) == 1 else "have"
        return f"{listed(missing)} {has} no {pair.metric} to compare"
    ahead = pair.other(pair.behind) if pair.behind else pair.a
    other = pair.other(ahead)
    shown = [f"{side.label} {told(pair.values[side.label], _precisely)}" for side in (ahead, other)]
    seeds = [counted(len(pair.values[side.label]), "run") for side in (ahead, other)]
    where = f"{pair.metric}" + (f" at step {pair.step:,}" if pair.step is not None else "")
    head = f"{where}: {shown[0]} ({seeds[0]}), {shown[1]} ({seeds[1]})"
    if not pair.gap:
        return f"{head}; they are equal"
    gap = number(pair.gap)
    if pair.is_one_configuration:
        return f"{head}; {ahead.label} is ahead by {gap}"
    if pair.is_shown is None:
        return f"{head}; {ahead.label} is ahead by {gap}, whether by seed noise is not known"
    if not pair.is_shown:
        return f"{head}; the difference of {gap} ± {number(pair.half)} is within seed noise"
    return f"{head}; {ahead.label} is ahead by {gap} ± {number(pair.half)}, more than seed noise"


def _precisely(value: float) -> str:
    """Show a single score so that near ones are told apart."""
    return f"{value:.6g}"


def _state(side: Side) -> list[str]:
    """Say what became of runs that did not end well, or not yet."""
    statuses = Counter(str(run.status) for run in (*side.runs, *side.others))
    if set(statuses) == {"COMPLETED"} and not side.others:
        return []
    ended = listed(f"{count} {status}" for status, count in statuses.items())
    return [f"{side.label}: {ended}"]


def _wrapped(text: str, indent: str = "") -> list[str]:
    """Return a sentence as lines; commands are never divided."""
    return textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )


def nothing(found: Explanation) -> str:
    """Say why there is no finding."""
    pair = found.pair
    if pair.is_one_configuration:
        return (
            f"nothing to explain: {pair.a.label} and {pair.b.label} are one configuration, of the "
            "same code and data, with other seeds; what differs is seed noise"
        )
    return (
        "no finding: no number on record differs between them by more than the thresholds of "
        "research-eval explain (and the seed noise, where it is known)"
    )


def _heading(pair: Pair, bearing: Bearing) -> str:
    behind = pair.behind or pair.a
    text = HEADINGS[bearing] if pair.is_shown else UNDECIDED.get(bearing, HEADINGS[bearing])
    return text.format(behind=behind.label, ahead=pair.other(behind).label)


def _finding(place: int, each: Explained, db: str | None) -> Iterator[str]:
    finding = each.finding
    worth = ""
    if finding.effect is not None:
        worth = f": up to {number(finding.effect)}"
        worth += "" if each.share is None else f", {_part(each.share)}"
    yield f"{place}. {each.rule.title}{worth}"
    yield from _wrapped(finding.sentence, "   ")
    if finding.commands:
        yield from _wrapped(f"test, which {each.rule.test}:", "   ")
    yield from (f"     {command.text(db)}" for command in finding.commands)


def _part(share: float) -> str:
    return f"{share:.0%} of the difference" if share <= 1 else "more than the whole difference"


def _closing(found: Explanation, db: str | None) -> Iterator[str]:
    if found.lacks:
        yield from ("", "not on record, so nothing is said about it")
    for lack in found.lacks:
        if len(lack.commands) == 1:
            yield from _wrapped(f"- {lack.what}")
            yield f"     {lack.commands[0].text(db)}"
    if others := [lack.what for lack in found.lacks if len(lack.commands) != 1]:
        yield from _wrapped(f"- {'; '.join(others)} (commands: --format json)")
    if found.waiting:
        titles = listed(rule.title for rule in found.waiting)
        yield ""
        yield from _wrapped(f"needs a finished run on both sides: {titles}")
