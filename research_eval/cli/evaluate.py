"""`evaluate`: look again at what a recorded run learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from research_eval.cli._batch import OneRun
from research_eval.cli._options import DbOption, FormatOption
from research_eval.cli._progress import display
from research_eval.cli._render import (
    Column,
    Format,
    note,
    number,
    print_rows,
    printable,
    to_json,
    write,
)
from research_eval.cli.runs import RunArgument

if TYPE_CHECKING:
    import pandas as pd

    from research_eval.evaluation.evaluate import Evaluation
    from research_eval.records import RunRecord


class SplitChoice(StrEnum):
    """Which rows."""

    VALIDATION = "validation"
    TEST = "test"
    TRAIN = "train"


class RoutingChoice(StrEnum):
    """What decides which experts work."""

    LEARNED = "learned"
    RANDOM = "random"
    UNIFORM = "uniform"
    SHUFFLED = "shuffled"


class WeightsChoice(StrEnum):
    """Which of the weights that a run kept."""

    SELECTED = "selected"
    BEST = "best"
    LAST = "last"


SCORES = ("loss", "f1", "acc", "perplexity", "bits_per_byte", "word_perplexity")


SplitOption = Annotated[
    SplitChoice, typer.Option(help="Which rows; test is refused for trials of a search.")
]
DatasetOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Other data: a JSON file with dataset_name and dataset_params, as in a configuration.",
    ),
]
RoutingOption = Annotated[
    RoutingChoice,
    typer.Option(
        help="What decides which experts work: what was learned, experts by chance, every "
        "expert alike, or the decisions of other tokens."
    ),
]
LatencyOption = Annotated[
    bool, typer.Option("--latency", help="Also measure how long a forward pass takes.")
]
WeightsOption = Annotated[
    WeightsChoice, typer.Option(help="Which; selected are those that its scores describe.")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
AgainOption = Annotated[
    bool, typer.Option("--again", help="Evaluate also what is recorded already.")
]


def evaluate(
    run: RunArgument,
    split: SplitOption = SplitChoice.VALIDATION,
    dataset: DatasetOption = None,
    routing: RoutingOption = RoutingChoice.LEARNED,
    latency: LatencyOption = False,
    weights: WeightsOption = WeightsChoice.SELECTED,
    device: DeviceOption = "auto",
    again: AgainOption = False,
    database: DbOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Evaluate a recorded run row by row, and record that beside it.

    Predictions are kept as Parquet; quality is shown by label, by domain and by length. Another
    routing than the learned one tells what the learned one is worth.
    """
    from research_eval.evaluation.evaluate import evaluate as carry_out
    from research_eval.store.engine import parse_address
    from research_eval.store.location import locate
    from research_eval.training.progress import Watcher

    place = database or locate(create=False)
    note(f"database: {printable(parse_address(place))}")
    with display() as shown:
        watcher: Watcher = OneRun(f"evaluating {run}", shown)
        found = carry_out(
            run,
            split=split.value,
            dataset=dataset,
            routing=routing.value,
            latency=latency,
            weights=weights.value,
            device=device,
            db=place,
            again=again,
            watcher=watcher,
        )
    if found.action == "skipped":
        note("--again evaluates anew what is recorded already")
    _show(found, form)
    note(f"next: research-eval runs show {found.record.experiment_id}")


def _show(found: Evaluation, form: Format) -> None:
    from research_eval.breakdown import by_domain, by_label, by_length

    predictions = found.predictions().drop(columns="experts")
    tables = {
        "label": by_label(predictions),
        "domain": by_domain(predictions),
        "length": by_length(predictions),
    }
    whole = [_scores(each.record) for each in (found.learned, found) if each is not None]
    times = _latencies(found.latency)
    match form:
        case Format.JSON:
            write(to_json(_document(found, whole, tables, times)))
        case Format.CSV:
            print_rows(_flat(whole[-1], tables), (), form)
        case Format.TABLE:
            _print_tables(whole, tables, times)
            if found.verdict is not None:
                write(f"\n{printable(found.verdict)}")
            write(f"\npredictions: {printable(found.path)}")


def _scores(record: RunRecord) -> dict[str, Any]:
    told = {name: record.params[name] for name in ("split", "routing", "weights")}
    names = ("rows", *SCORES)
    scores = {name: record.value(f"eval_{name}") for name in names}
    told |= {name: value for name, value in scores.items() if value is not None}
    return told | {"rows": int(told["rows"])}


def _latencies(record: RunRecord | None) -> list[dict[str, Any]]:
    """Return a row for each batch size."""
    if record is None:
        return []
    return [
        {
            "batch_size": size,
            "p50_ms": record.value(f"eval_latency_ms_p50_batch{size}"),
            "p95_ms": record.value(f"eval_latency_ms_p95_batch{size}"),
            "contended": record.contended,
        }
        for size in record.params["latency_of_batches"]
    ]


def _document(
    found: Evaluation,
    whole: list[dict[str, Any]],
    tables: Mapping[str, pd.DataFrame],
    times: list[dict[str, Any]],
) -> dict[str, Any]:
    from research_eval.evaluation.comparing import recorded_costs

    return {
        "experiment_id": found.record.experiment_id,
        "parent": found.record.parent,
        "action": found.action,
        "scores": whole[-1],
        "learned": whole[0] if found.learned else None,
        "routing_costs": [asdict(cost) for cost in recorded_costs(found.record)],
        "verdict": found.verdict,
        **{f"by_{name}": _rows(table) for name, table in tables.items()},
        "latency": times,
        "predictions": str(found.path),
    }


def _flat(whole: dict[str, Any], tables: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Return a row for all rows together and one for each group."""
    rows = [{"by": "all", "group": "", **whole}]
    for name, table in tables.items():
        rows += [{"by": name, "group": _group(name, row), **row} for row in _rows(table)]
    return [{key: value for key, value in row.items() if key not in tables} for row in rows]


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def _group(name: str, row: Mapping[str, Any]) -> str:
    """Return what a row is about, such as `World` or `12-20`."""
    return str(row[name]) if name in row else f"{row['shortest']}-{row['longest']}"


def _print_tables(
    whole: list[dict[str, Any]],
    tables: Mapping[str, pd.DataFrame],
    times: list[dict[str, Any]],
) -> None:
    texts = [Column(name, name) for name in ("split", "routing", "weights")]
    print_rows(whole, [*texts, *_numbers(whole)], Format.TABLE)
    for name, table in tables.items():
        rows = [{**row, name: _group(name, row)} for row in _rows(table)]
        if rows:
            write("")
            print_rows(rows, [Column(name, name), *_numbers(rows)], Format.TABLE)
    if times:
        write("")
        sized = [
            Column("batch_size", "batch size", is_number=True),
            Column("p50_ms", "median ms", number, is_number=True),
            Column("p95_ms", "p95 ms", number, is_number=True),
        ]
        print_rows(times, sized, Format.TABLE)
        if times[0]["contended"]:
            note(
                "other work used this machine meanwhile: these times say little; repeat this later"
            )


def _numbers(rows: list[dict[str, Any]]) -> list[Column]:
    names = ("rows", *SCORES[1:3], "precision", "recall", "loss", *SCORES[3:])
    return [
        Column(name, name.replace("_", " "), number, is_number=True)
        for name in names
        if name in rows[0]
    ]
