"""The tables: reached in two ways, upgraded with a copy, and readable by a person."""

import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from alembic.script import ScriptDirectory

from research_eval.errors import StoreError
from research_eval.records import RunStatus
from research_eval.store import Store, creation, upgrade
from research_eval.store.engine import open_engine, parse_address
from research_eval.store.schema import REVISIONS
from research_eval.testing.runs import new_run, record

DOCS = Path(__file__).resolve().parents[2] / "docs" / "store.md"

SECOND_REVISION = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "9000", "0002"
def upgrade():
    op.add_column("experiments", sa.Column("colour", sa.Text))
"""


def described(path):
    """Everything but the text of CREATE TABLE, where an added column follows the constraints."""
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
        found = {(kind, name): re.sub(r"\s+", " ", sql or "") for kind, name, sql in rows}
        for _, name in [key for key in found if key[0] == "table"]:
            found["table", name] = [
                database.execute(f"PRAGMA {pragma}({name})").fetchall()
                for pragma in ("table_list", "table_xinfo", "foreign_key_list")
            ]
    return found


def test_migrating_from_nothing_makes_the_same_schema(tmp_path):
    Store.open(tmp_path / "made.db", create=True).close()
    engine = open_engine(parse_address(tmp_path / "migrated.db"), "rwc", 1.0)
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        upgrade.migrate(connection, REVISIONS[-1])
    assert described(tmp_path / "migrated.db") == described(tmp_path / "made.db")
    with Store.open(tmp_path / "migrated.db") as store:
        record(store, "a", {"m": 1.0})


def test_the_list_of_revisions_is_that_of_the_files():
    found = ScriptDirectory(str(upgrade.MIGRATIONS)).walk_revisions()
    assert tuple(script.revision for script in found)[::-1] == REVISIONS


@pytest.fixture
def next_version(tmp_path, monkeypatch):
    """Make this version of the program one revision newer, and return the new file."""
    migrations = tmp_path / "migrations"
    shutil.copytree(upgrade.MIGRATIONS, migrations, ignore=shutil.ignore_patterns("__pycache__"))
    added = migrations / "versions" / "9000_colour.py"
    added.write_text(SECOND_REVISION)
    monkeypatch.setattr(upgrade, "MIGRATIONS", migrations)
    for module in (upgrade, creation):
        monkeypatch.setattr(module, "LATEST", "9000")
        monkeypatch.setattr(module, "REVISIONS", (*REVISIONS, "9000"))
    return added


def columns(path):
    with closing(sqlite3.connect(path)) as database:
        return [row[1] for row in database.execute("PRAGMA table_info(experiments)")]


def test_an_upgrade_keeps_a_copy_and_the_runs(path, request):
    with Store.open(path, create=True) as store:
        record(store, "a", {"m": 1.0})
    request.getfixturevalue("next_version")
    copy = upgrade.upgrade_store(path)
    assert copy == path.with_name(f"runs.db.before-{REVISIONS[-1]}")
    assert "colour" in columns(path)
    assert "colour" not in columns(copy)
    with Store.open(path) as store:
        record(store, "b", {"m": 2.0})
        assert [run.value("m") for run in store.runs()] == [2.0, 1.0]
    assert upgrade.upgrade_store(path) is None


def test_an_upgrade_that_fails_changes_nothing(path, request):
    Store.open(path, create=True).close()
    before = described(path)
    request.getfixturevalue("next_version").write_text(SECOND_REVISION + "    raise OSError('no')")
    with pytest.raises(OSError, match="no"):
        upgrade.upgrade_store(path)
    assert described(path) == before


def test_what_is_no_older_store_is_not_upgraded(path):
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE runs (id)")
    with pytest.raises(StoreError, match="database of another program"):
        upgrade.upgrade_store(path)
    path.unlink()
    Store.open(path, create=True).close()
    assert upgrade.upgrade_store(path) is None
    with closing(sqlite3.connect(path)) as other:
        other.execute("UPDATE research_eval_version SET version_num = '9999'")
        other.commit()
    with pytest.raises(StoreError, match="newer version"):
        upgrade.upgrade_store(path)


def test_configurations_are_flattened_for_queries(path):
    config = '{"a": {"k": 2, "on": true, "rate": 1e-3, "list": [1, "x"]}, "s": "ü", "n": null}'
    with Store.open(path, create=True) as store:
        record(store, "r", {}, full_config_json=config)
    with closing(sqlite3.connect(path)) as database:
        found = database.execute("SELECT param_name, param_value, param_number FROM params")
        assert set(found) == {
            ("a.k", "2", 2.0),
            ("a.on", "true", 1.0),
            ("a.rate", "0.001", 0.001),
            ("a.list", '[1, "x"]', None),
            ("s", "ü", None),
            ("n", "null", None),
        }


def test_a_person_reads_the_original_columns_with_sqlite3(path):
    with Store.open(path, create=True) as store:
        record(store, "r", {"final_val_f1": 0.5}, model_type="moe", dataset_name="parity", epochs=3)
    query = (
        "SELECT e.experiment_id, run_type, experiment_name, model_type, dataset_name, epochs, "
        "metric_name, metric_value FROM experiments e JOIN metrics m "
        "ON m.experiment_id = e.experiment_id WHERE timestamp > '2020'"
    )
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute(query).fetchall()
        when = database.execute("SELECT timestamp FROM experiments").fetchone()[0]
    assert rows == [("r", "json", "a run", "moe", "parity", 3, "final_val_f1", 0.5)]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", when)


@pytest.fixture(scope="module")
def documented(tmp_path_factory):
    """A store that every recipe finds something in."""
    path = tmp_path_factory.mktemp("documented") / "runs.db"
    with Store.open(path, create=True) as store:
        for number, model in enumerate(["dense", "moe", "moe"]):
            writer = store.start(
                new_run(
                    f"run-{number}",
                    model_type=model,
                    dataset_name="parity",
                    seed=number,
                    tags=("paper",),
                    study="first",
                    trial=number,
                )
            )
            for step in range(5):
                writer.log({"val_loss": 1.0 / (step + 1), "final_val_f1": 0.5}, step=step)
            writer.log({"bad": float("nan")}, step=0)
            writer.log_array("load_share", np.array([0.5, 0.5]), layer=0, step=4)
            writer.flag("floor", "below")
            writer.finish(RunStatus.INTERRUPTED)
        record(store, "unwanted", {"m": 1.0})
        store.delete(["unwanted"])
        store.resume("run-1", step=2).finish(RunStatus.FAILED, error="Traceback: boom")
    return path


RECIPES = re.findall(r"```sql\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_recipes_of_the_documentation_find_what_they_promise(documented, recipe):
    with closing(sqlite3.connect(documented)) as database:
        assert database.execute(recipe).fetchall()


def test_the_documentation_names_every_table_and_only_tests_that_exist(documented):
    text = DOCS.read_text(encoding="utf-8")
    for _, name in described(documented):
        assert f"`{name}`" in text or name.startswith(("sqlite_", "ix_")), name
    known = "".join(p.read_text() for p in Path(__file__).parents[1].rglob("test_*.py"))
    contract = Path(sys.modules["research_eval.testing.runs"].__file__).parent
    known += "".join(p.read_text() for p in contract.glob("*_checks.py"))
    mentioned = re.findall(r"`(test_\w+)`", text)
    assert mentioned
    assert [name for name in mentioned if f"def {name}(" not in known] == []


def test_reading_loads_neither_torch_nor_alembic_nor_an_orm(documented):
    script = (
        "import sys; from research_eval.store import Store\n"
        f"with Store.open({str(documented)!r}, mode='ro') as store: assert store.runs()\n"
        "heavy = {'torch', 'alembic', 'pandas', 'sqlalchemy.orm', 'pydantic'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_looking_for_the_store_loads_no_sqlalchemy():
    script = (
        "import sys; import research_eval.store.location; assert 'sqlalchemy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
