"""`explain`: why one run, or group of seeds, is ahead of another. Torch is not loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from research_eval.cli._options import DbOption, FormatOption
from research_eval.cli._render import Column, Format, print_rows, printable, to_json, write
from research_eval.cli.runs import reading

if TYPE_CHECKING:
    from research_eval.explaining import Explanation

SideArgument = Annotated[
    str,
    typer.Argument(
        metavar="A",
        help="An id, its beginning, a name of a run or of its seeds, last, best, or STUDY:ARM.",
    ),
]
VersusOption = Annotated[str, typer.Option("--vs", metavar="B", help="The other one, likewise.")]
MetricOption = Annotated[
    str | None,
    typer.Option(
        metavar="METRIC[:MAX|MIN]",
        help="What decides; final_val_f1 or final_val_loss by default.",
    ),
]
AllSeedsOption = Annotated[
    bool,
    typer.Option("--all-seeds", help="Take every recorded seed of the configurations named."),
]


def explain(
    a: SideArgument,
    versus: VersusOption,
    metric: MetricOption = None,
    all_seeds: AllSeedsOption = False,
    database: DbOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Say why A is ahead of B, or behind: findings in order, each with a command that tests it.

    A finding is told only if its number says so; what the records do not say is listed at the
    end, with the command that would record it.
    """
    from research_eval.explaining.explanation import explain_in
    from research_eval.explaining.telling import lines

    with reading(database) as store, store.kept_open():
        found = explain_in(store, a, versus, metric=metric, all_seeds=all_seeds)
    match form:
        case Format.JSON:
            write(to_json(_plain(found, database)))
        case Format.CSV:
            print_rows(_rows(found, database), [Column("finding", "finding")], form)
        case Format.TABLE:
            for line in lines(found, database):
                write(printable(line))


def _rows(found: Explanation, db: str | None) -> list[dict[str, Any]]:
    return [
        {
            "finding": each.rule.name,
            "title": each.rule.title,
            "bearing": each.bearing.name.lower(),
            "side": each.side or None,
            "sentence": each.finding.sentence,
            "effect": each.finding.effect,
            "share": each.share,
            "strength": each.finding.strength,
            "numbers": dict(each.finding.numbers),
            "threshold": each.rule.threshold,
            "limit": each.rule.limit_in_words,
            "reason": each.rule.reason,
            "commands": [command.text(db) for command in each.finding.commands],
        }
        for each in found.findings
    ]


def _plain(found: Explanation, db: str | None) -> dict[str, Any]:
    """Return an explanation as JSON values."""
    from research_eval.explaining.telling import nothing, verdict

    pair = found.pair
    sides = {
        name: {
            "label": side.label,
            "runs": [run.experiment_id for run in side.runs],
            "without_score": [run.experiment_id for run in side.others],
            "values": pair.values[side.label].tolist(),
            "notes": list(side.notes),
        }
        for name, side in (("a", pair.a), ("b", pair.b))
    }
    return {
        **sides,
        "metric": pair.metric,
        "direction": pair.direction,
        "step": pair.step,
        "behind": pair.behind.label if pair.behind else None,
        "difference": pair.gap,
        "half_interval": pair.half,
        "verdict": verdict(pair),
        "findings": _rows(found, db),
        "no_finding": None if found.findings else nothing(found),
        "not_on_record": [
            {"what": lack.what, "commands": [command.text(db) for command in lack.commands]}
            for lack in found.lacks
        ],
        "waits_for_the_end": [rule.name for rule in found.waiting],
    }
