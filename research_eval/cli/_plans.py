"""What configurations would cost, as `--dry-run` prints it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

from research_eval.cli._batch import OneRun
from research_eval.cli._progress import display
from research_eval.cli._records import SHORTEST_ID
from research_eval.cli._render import Column, Format, amount, print_rows, printable, size

if TYPE_CHECKING:
    from research_eval.config import Experiment
    from research_eval.store import Store


def show_plans(
    experiments: Mapping[str, Experiment],
    seeds: Sequence[int],
    database: str | None,
    form: Format,
    *,
    varied: Sequence[Column] = (),
    processes: int = 1,
) -> None:
    """Print what runs would cost, and which of them are recorded already.

    Args:
        experiments: By file and what is varied in it.
        seeds: Of each; empty for the configuration's own.
        database: As the option says.
        form: Which form.
        varied: Columns of what differs between the experiments, by dotted path.
        processes: How many share each run.
    """
    from research_eval import execute
    from research_eval.prepare import plan, prepare
    from research_eval.records import leaves

    rows = []
    with existing(database) as store, display() as shown:
        for label, experiment in experiments.items():
            config = experiment.config
            prepared = prepare(experiment, OneRun(label, shown), processes=processes)
            done = [
                record
                for seed in seeds or [config.seed]
                for record in (execute.recorded(prepared.with_seed(seed), store) if store else ())
                if record.phase != "search"
            ]
            values = dict(leaves(config.model_dump(mode="json", by_alias=True)))
            rows.append(
                {
                    "config": label,
                    "experiment_name": config.experiment_name,
                    "model_type": config.model_type,
                    "dataset_name": config.dataset_name,
                    "runs": len(seeds or [config.seed]),
                    **{column.key: values.get(column.key) for column in varied},
                    **asdict(plan(prepared)),
                    "recorded": {r.experiment_id: str(r.status) for r in done},
                }
            )
    print_rows(rows, (*_LEFT, *varied, *_RIGHT), form)


@contextmanager
def existing(database: str | None) -> Iterator[Store | None]:
    """Open the store for reading if there is one."""
    from research_eval.store import Store
    from research_eval.store.engine import parse_address
    from research_eval.store.location import locate

    url = database or locate(create=True)
    path = parse_address(url).path
    if path is not None and not path.exists():
        yield None
        return
    with Store.open(url, mode="ro") as store:
        yield store


def _recorded(found: Mapping[str, str]) -> str:
    names = (f"{printable(name[:SHORTEST_ID])} {status.lower()}" for name, status in found.items())
    return ", ".join(names) or "nothing"


_LEFT = (
    Column("experiment_name", "name"),
    Column("model_type", "model"),
)
_RIGHT = (
    Column("data", "data"),
    Column("runs", "runs", is_number=True),
    Column("param_count", "parameters", amount, is_number=True),
    Column("active_param_count", "active", amount, is_number=True),
    Column("steps", "steps", "{:,}".format, is_number=True),
    Column("tokens", "tokens", amount, is_number=True),
    Column("flops", "FLOPs", amount, is_number=True),
    Column("memory_bytes", "memory", size, is_number=True),
    Column("disk_bytes", "disk", size, is_number=True),
    Column("recorded", "recorded", _recorded),
)
"""A plan as a table; tokens, FLOPs and steps are those of one run."""
