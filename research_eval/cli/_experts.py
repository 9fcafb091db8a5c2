"""What a run's experts did, from the store, as tables or JSON. Nothing here loads torch.

E experts, G groups (domains or labels), H hyperedges, P steps of a path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from research_eval.cli._render import (
    Column,
    Format,
    note,
    number,
    print_rows,
    print_sections,
    printable,
    write,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from research_eval.records import ExpertStats, RunRecord
    from research_eval.store import Store

    Array = npt.NDArray[np.generic]

ARRAYS = (
    "load_share",
    "coactivation",
    "by_group",
    "coupling",
    "similarity",
    "members",
    "path_usage",
    "transitions",
)
"""What is shown; `chosen`, a sample of single choices, is kept for comparing routers over time."""

BAR_WIDTH = 24
MAX_COLUMNS = 16
"""Experts up to which a matrix is shown whole; beyond it, its largest entries are."""

MAX_GROUPS = 8
MAX_LINES = 20

Latest = Mapping[str, Mapping[int, "ExpertStats"]]


def show_experts(record: RunRecord, store: Store, form: Format) -> None:
    """Print what the last evaluation measured of a run's experts."""
    latest = {
        name: {stats.layer: stats for stats in store.expert_stats(record.experiment_id, name)}
        for name in ARRAYS
    }
    latest = {name: by_layer for name, by_layer in latest.items() if by_layer}
    measures = _measures(record)
    if form is not Format.TABLE:
        print_sections(_as_values(record, latest, measures), form)
        return
    if not latest:
        write(f"run {record.experiment_id} has no experts: nothing is recorded of any")
        return
    steps = sorted({stats.step for by_layer in latest.values() for stats in by_layer.values()})
    write(
        f"{printable(record.experiment_name)} ({record.experiment_id}): "
        f"validation at step {', '.join(map(str, steps))}"
    )
    for title, rows, columns in _tables(latest, measures):
        write("")
        print_rows(rows, columns, form, title=title)
    for name, reason in record.flags.items():
        note(f"{printable(name)}: {printable(reason)}")


def _as_values(
    record: RunRecord, latest: Latest, measures: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    arrays = {
        name: {
            str(layer): {"step": stats.step, "values": stats.values.tolist()}
            for layer, stats in by_layer.items()
        }
        for name, by_layer in latest.items()
    }
    run = {"experiment_id": record.experiment_id, "experiment_name": record.experiment_name}
    scores = {
        row["measure"]: {where: row[where] for where in row if where not in ("measure", "meaning")}
        for row in measures
    }
    return {"run": run, "measures": scores, **arrays}


def _measures(record: RunRecord) -> list[dict[str, Any]]:
    """Return a row per measure with its last value in each layer, or in all."""
    from research_eval.metrics import EXPERT_METRICS

    rows = []
    for metric in EXPERT_METRICS:
        prefix, per_layer, _ = metric.name.partition("{layer}")
        values = {
            f"layer {name.removeprefix(prefix)}" if per_layer else "all": summary.value
            for name, summary in record.metrics.items()
            if (name.startswith(prefix) and name.removeprefix(prefix).isdecimal())
            or name == metric.name
        }
        if values:
            measure = prefix.removeprefix("val_").removesuffix("_layer").replace("_", " ")
            ordered = sorted(values, key=lambda where: (len(where), where))
            rows.append(
                {"measure": measure, **{w: values[w] for w in ordered}, "meaning": metric.meaning}
            )
    return rows


Table = tuple[str, Sequence[Mapping[str, Any]], Sequence[Column]]


def _tables(latest: Latest, measures: Sequence[Mapping[str, Any]]) -> Iterator[Table]:
    """Yield title, rows and columns of each table."""
    where = dict.fromkeys(name for row in measures for name in row)
    columns = [
        Column(w, w, number, is_number=True) for w in where if w not in ("measure", "meaning")
    ]
    yield (
        "measures",
        measures,
        [
            Column("measure", "", is_fixed=True),
            *columns,
            Column("meaning", "meaning"),
        ],
    )
    for layer, stats in latest.get("load_share", {}).items():
        yield _loads(layer, stats.values, latest)
    for layer, stats in latest.get("coupling", {}).items():
        yield _matrix(f"layer {layer}: what an expert (row) takes from each", stats.values)
    for layer, stats in latest.get("similarity", {}).items():
        yield _matrix(f"layer {layer}: cosine similarity of outputs", stats.values)
    for layer, stats in latest.get("members", {}).items():
        yield _hyperedges(layer, stats.values)
    if usage := latest.get("path_usage"):
        shares = {f"step {step + 1}": stats.values for step, stats in usage.items()}
        yield _shares("path: share of all that visit each expert", shares, "ended")
    for stats in latest.get("transitions", {}).values():
        shares = {f"from {expert}": row for expert, row in enumerate(stats.values)}
        yield _shares("path: where it goes on from each expert", shares, "ends")


def _loads(layer: int, share_E: Array, latest: Latest) -> Table:
    """Return how much each expert does, for whom, and together with which other."""
    title, shares = f"layer {layer}: load", share_E.tolist()
    most = max([*shares, 1e-9])
    rows = [
        {"expert": str(e), "share": share, "bar": "█" * round(BAR_WIDTH * share / most)}
        for e, share in enumerate(shares)
    ]
    columns = [
        Column("expert", "expert", is_number=True),
        Column("share", "share", _percent, is_number=True),
        Column("bar", f"(even: {_percent(1 / len(shares))})"),
    ]
    if together := latest.get("coactivation", {}).get(layer):
        partners = [_partner(row, e) for e, row in enumerate(together.values.tolist())]
        if any(partners):
            rows = [row | {"with": with_} for row, with_ in zip(rows, partners, strict=True)]
            columns.append(Column("with", "most often with"))
    if served := latest.get("by_group", {}).get(layer):
        counts_GE = served.values.tolist()[:MAX_GROUPS]
        totals = [max(sum(column), 1) for column in zip(*served.values.tolist(), strict=True)]
        for group, counts in enumerate(counts_GE):
            name = f"group {group}"
            rows = [
                row | {name: count / total}
                for row, count, total in zip(rows, counts, totals, strict=True)
            ]
            columns.append(Column(name, name, _percent, is_number=True, is_optional=True))
        title += f"; share from {len(counts_GE)} of {len(served.values)} groups"
    return title, rows, columns


def _partner(together: Sequence[int], expert: int) -> str | None:
    """Return the expert that most often works on the same token, and for what share of them."""
    others = [count if e != expert else 0 for e, count in enumerate(together)]
    best = max(range(len(others)), key=others.__getitem__)
    return f"{best} ({_percent(others[best] / together[expert])})" if others[best] else None


def _matrix(title: str, values: Array) -> Table:
    """Return a square matrix, or its largest entries outside the diagonal where it is wide."""
    cells = values.tolist()
    size = len(cells)
    if size <= MAX_COLUMNS:
        return title, *_grid({str(e): row for e, row in enumerate(cells)}, number)
    ranked = sorted(
        ((v, i, j) for i, row in enumerate(cells) for j, v in enumerate(row) if i != j),
        reverse=True,
    )
    rows = [{"expert": i, "other": j, "value": value} for value, i, j in ranked[:MAX_LINES]]
    columns = [
        Column("expert", "expert", is_number=True),
        Column("other", "other", is_number=True),
        Column("value", "value", number, is_number=True),
    ]
    return f"{title}; the {len(rows)} largest of {size * (size - 1)}", rows, columns


def _hyperedges(layer: int, members_HE: Array) -> Table:
    edges = members_HE.tolist()
    rows = [
        {
            "hyperedge": h,
            "experts": ", ".join(str(e) for e, share in enumerate(edge) if share > 0.5),
        }
        for h, edge in enumerate(edges[:MAX_LINES])
    ]
    title = f"layer {layer}: experts of each hyperedge"
    if len(edges) > MAX_LINES:
        title += f"; the first {MAX_LINES} of {len(edges)}"
    return title, rows, [Column("hyperedge", "", is_number=True), Column("experts", "experts")]


def _shares(title: str, shares: Mapping[str, Array], rest: str) -> Table:
    """Return rows of shares, and what is missing to 1 in each."""
    lists = {name: values.tolist() for name, values in shares.items()}
    whole = {name: [*values, max(0.0, 1 - sum(values))] for name, values in lists.items()}
    return title, *_grid(whole, _percent, rest)


def _grid(
    cells: Mapping[str, Sequence[float]], show: Callable[[Any], str], last: str | None = None
) -> tuple[Sequence[Mapping[str, Any]], Sequence[Column]]:
    width = len(next(iter(cells.values())))
    names = [str(e) for e in range(width - (last is not None))] + ([last] if last else [])
    rows = [{"": row, **dict(zip(names, values, strict=True))} for row, values in cells.items()]
    columns = [Column("", "", is_fixed=True)]
    return rows, [*columns, *(Column(n, n, show, is_number=True) for n in names)]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
