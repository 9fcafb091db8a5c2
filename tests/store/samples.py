"""Runs with a row in every table, and what a database says of them."""

import math

import numpy as np
from sqlalchemy import select, text

from research_eval.records import RunStatus
from research_eval.store.schema import studies
from research_eval.store.transfer import OF_RUNS, all_ids, portable_rows
from research_eval.testing.runs import new_run

TIME = "2026-01-01T00:00:00.000Z"
VALUES = (0.5, math.nan, math.inf, -math.inf, 1.7976931348623157e308, 5e-324, math.pi)


def fill(store, prefix="run"):
    """Record a resumed run with everything that a run can have, and a child of it."""
    first = f"{prefix}-1"
    writer = store.start(
        new_run(
            first,
            study=f"study of {prefix}",
            trial=0,
            seed=2**40,
            tags=("paper", "é"),
            project="p '🦉'",
            config_schema_json='{"type": "object"}',
            git_diff="+ 'x'\n",
        )
    )
    for step, value in enumerate(VALUES):
        writer.log({"val/loss": value, "🦉 name": step}, step=step)
    writer.log_array("load", np.array([0.25, np.nan], dtype=np.float32), layer=0, step=4)
    writer.flag("floor", "below")
    for name, kind in (("model.bin", "checkpoint"), ("report.txt", "report")):
        (writer.folder / name).write_bytes(name.encode() * 100)
        writer.artifact(kind, writer.folder / name)
    writer.finish(RunStatus.INTERRUPTED, error="signal 15")
    writer = store.resume(first, step=4)
    writer.log({"val/loss": 0.125}, step=5)
    writer.finish(RunStatus.COMPLETED)
    child = store.start(new_run(f"{prefix}-2", parent=first))
    child.log({"val/loss": 0.75}, step=1)
    child.finish(RunStatus.FAILED, error="Traceback: boom")
    with store._writing() as connection:
        note = "INSERT INTO notes (experiment_id, timestamp, note) VALUES (:run, :time, 'look; --')"
        connection.execute(text(note), {"run": first, "time": TIME})
        values = {"name": f"study of {prefix}", "timestamp": TIME, "spec_json": "{}"}
        connection.execute(studies.insert().values(values))


def contents(store):
    """Return everything in a store that belongs to runs, in its portable form."""
    with store._reading() as connection:
        ids = all_ids(connection)
        found = {
            table.name: sorted(map(repr, portable_rows(connection, table, ids)))
            for table in OF_RUNS
        }
        found["studies"] = sorted(map(repr, connection.execute(select(studies))))
    return found


def files(store):
    """Return the content of every file of every run by its path."""
    folder = store.artifact_dir
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
