"""The table of results for a spreadsheet."""

import csv
import math

import pytest

from research_eval.errors import StoreError
from research_eval.store import csv_log
from research_eval.store.csv_log import append_result
from research_eval.testing.runs import record

from .conftest import run_together, unprivileged

FIRST = ["experiment_id", "timestamp", "experiment_name", "model_type", "dataset_name", "status"]


@pytest.fixture
def table(tmp_path):
    return tmp_path / "results.csv"


def rows(table):
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_run_becomes_one_line(store, table):
    name = 'comma, "quote"\nline ü'
    record(store, "a", {"final_f1": 0.1 + 0.2, "bad": math.nan}, experiment_name=name, seed=0)
    append_result(table, store.run("a"))
    (row,) = rows(table)
    assert list(row) == [*FIRST, "seed", "bad", "final_f1"]
    assert (row["experiment_name"], row["seed"], row["status"]) == (name, "0", "COMPLETED")
    assert (float(row["final_f1"]), row["bad"], row["model_type"]) == (0.1 + 0.2, "nan", "")
    assert row["timestamp"] == store.run("a").timestamp.isoformat()


def test_new_metrics_become_columns_and_nothing_is_lost(store, table):
    for number, metrics in enumerate([{"b": 1.0}, {"a": 2.0}, {}]):
        record(store, f"r{number}", metrics)
        append_result(table, store.run(f"r{number}"))
    found = rows(table)
    assert [(row["b"], row["a"]) for row in found] == [("1.0", ""), ("", "2.0"), ("", "")]
    assert list(found[0])[-2:] == ["b", "a"]


def test_a_resumed_run_keeps_one_line(store, table):
    for value in (1.0, 2.0):
        record(store, f"r{value}", {"m": value})
        append_result(table, store.run(f"r{value}"))
    append_result(table, store.run("r1.0"))
    assert [row["experiment_id"] for row in rows(table)] == ["r2.0", "r1.0"]


def test_a_line_cut_off_by_a_crash_of_another_program_is_completed(store, table):
    record(store, "a", {"m": 1.0})
    append_result(table, store.run("a"))
    table.write_text(table.read_text().removesuffix("1.0\n"))
    record(store, "b", {"m": 2.0})
    append_result(table, store.run("b"))
    assert [row["m"] for row in rows(table)] == ["", "2.0"]


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "\x00\xff", 'experiment_id\n"', "x" * 10])
def test_a_file_that_is_no_table_of_results_is_left_alone(store, table, content):
    table.write_bytes(content.encode("latin-1"))
    record(store, "a", {})
    with pytest.raises(StoreError, match=r"results.csv is not a"):
        append_result(table, store.run("a"))
    assert table.read_bytes() == content.encode("latin-1")


def test_a_failed_write_leaves_the_old_table_and_no_debris(store, table, monkeypatch):
    record(store, "a", {"m": 1.0})
    append_result(table, store.run("a"))
    before = table.read_bytes()

    def no_space(*_):
        raise OSError(28, "No space left")

    monkeypatch.setattr(csv_log.Path, "replace", no_space)
    with pytest.raises(StoreError, match="cannot be written: No space left"):
        append_result(table, store.run("a"))
    assert table.read_bytes() == before
    assert [p.name for p in table.parent.glob("*results*")] == ["results.csv"]


def test_a_folder_that_cannot_be_written_is_reported(store, public_folder):
    record(store, "a", {})
    found = store.run("a")
    public_folder.chmod(0o555)
    with unprivileged(), pytest.raises(StoreError, match="cannot be written: Permission denied"):
        append_result(public_folder / "results.csv", found)


def test_processes_take_turns_and_lose_nothing(store, path, table):
    for number in range(3):
        for i in range(5):
            record(store, f"p{number}-{i}", {f"metric_{number}_{i % 3}": 1.0})
    run_together(
        f"""
from pathlib import Path
from research_eval.store import Store
from research_eval.store.csv_log import append_result
with Store.open({str(path)!r}, mode="ro") as store:
    found = [store.run(f"p{{index}}-{{i}}") for i in range(5)]
wait()
for run in found:
    append_result(Path({str(table)!r}), run)
""",
        3,
    )
    found = rows(table)
    assert sorted(row["experiment_id"] for row in found) == sorted(
        f"p{number}-{i}" for number in range(3) for i in range(5)
    )
    assert all(sum(v == "1.0" for v in row.values()) == 1 for row in found)
