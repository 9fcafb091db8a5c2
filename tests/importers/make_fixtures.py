"""Make the fixtures again, with the trackers themselves: python make_fixtures.py

    pip install mlflow-skinny sqlalchemy alembic trackio wandb tensorboardX

They were made by mlflow-skinny 3.17.2, trackio 0.43.0, wandb 0.31.0 and tensorboardX 2.6.5. Of
the databases only the tables that matter are kept, as SQL text that a reviewer can read. `VALUES`
are what the tests expect to find.
"""

import math
import os
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VALUES = [1.0, 0.5, math.nan, math.inf, -math.inf, 1e308, 5e-324, math.pi]
CONFIG = {"lr": 0.001, "layers": 2, "note": "größer"}
FIXTURES = Path(__file__).with_name("fixtures")


def mlflow_runs(uri: str) -> None:
    import mlflow

    sys.argv[0] = "train.py"  # MLflow records it
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("demo")
    tags = {"team": "a", "mlflow.note.content": "a note"}
    with mlflow.start_run(run_name="first", tags=tags):
        mlflow.log_params(CONFIG)
        for index, value in enumerate(VALUES):
            mlflow.log_metric("loss", value, step=index * 10)
        for step, value in ((50, 0.75), (40, 0.5), (40, 0.8)):
            mlflow.log_metric("val/acc", value, step=step)
        with mlflow.start_run(run_name="child", nested=True):
            mlflow.log_metric("loss", 2.0, step=1)
    try:
        with mlflow.start_run(run_name="broken"):
            raise RuntimeError("no")
    except RuntimeError:
        pass
    mlflow.start_run(run_name="killed")
    mlflow.end_run("KILLED")
    deleted = mlflow.start_run(run_name="deleted")
    mlflow.end_run()
    mlflow.delete_run(deleted.info.run_id)


def mlflow_database() -> None:
    mlflow_runs("sqlite:///mlflow.db")
    dump("mlflow.db", "mlflow.sql", ["experiments", "runs", "metrics", "params", "tags"])


def mlflow_folder() -> None:
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    mlflow_runs("file:mlruns")
    with tarfile.open(FIXTURES / "mlruns.tar.gz", "w:gz") as archive:
        archive.add("mlruns")


def trackio() -> None:
    os.environ["TRACKIO_DIR"] = str(Path.cwd())
    import trackio

    trackio.init(project="demo", name="first", config=CONFIG | {"deep": {"k": 2}}, embed=False)
    for index, value in enumerate(VALUES):
        trackio.log({"loss": value, "val/acc": index / 10, "text": "x"}, step=index * 10)
    trackio.finish()
    dump("demo.db", "trackio.sql", ["metrics", "configs", "system_metrics"])


def tensorboard() -> None:
    import numpy as np
    from tensorboardX import SummaryWriter

    with SummaryWriter("first") as writer:
        for index, value in enumerate(VALUES):
            writer.add_scalar("loss", value, index * 10)
        writer.add_scalar("val/acc", 0.5, 40)
        writer.add_scalar("val/acc", 0.75, 40)
        writer.add_histogram("weights", np.arange(9.0), 0)
        writer.add_text("note", "hello", 0)
        writer.add_hparams(CONFIG | {"on": True}, {"best": 0.25}, name="trial")
    with tarfile.open(FIXTURES / "tensorboard.tar.gz", "w:gz") as archive:
        archive.add("first")


def wandb() -> None:
    os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DISABLE_GIT": "true"}
    import wandb

    def quiet():  # one for each run: `init` writes into it
        return wandb.Settings(
            x_disable_stats=True, console="off", save_code=False, x_disable_meta=True
        )

    options = {"tags": ["a", "b"], "notes": "a note", "group": "g"}
    config = CONFIG | {"deep": {"k": 2}}
    with wandb.init(
        project="demo", name="first", config=config, settings=quiet(), **options
    ) as run:
        for index, value in enumerate(VALUES):
            run.log({"loss": value, "val": {"acc": index / 10}, "text": "x"}, step=index * 10)
        run.summary["best"] = 0.9
        run.config.update({"later": True})
    run = wandb.init(project="demo", name="broken", settings=quiet())
    run.log({"loss": 3.0})
    run.finish(exit_code=1)
    for file in Path("wandb").rglob("*.wandb"):
        name = "first" if b"a note" in file.read_bytes() else "broken"
        (FIXTURES / f"{name}.wandb").write_bytes(file.read_bytes())


def dump(database: str, name: str, tables: list[str]) -> None:
    """Write some tables as SQL text."""
    with sqlite3.connect(database) as source, sqlite3.connect(":memory:") as target:
        for table in tables:
            columns = [row[1] for row in source.execute(f"PRAGMA table_info({table})")]
            target.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
            marks = ", ".join("?" * len(columns))
            rows = source.execute(f"SELECT * FROM {table}").fetchall()
            target.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
        target.commit()
        (FIXTURES / name).write_text("\n".join(target.iterdump()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    FIXTURES.mkdir(exist_ok=True)
    if len(sys.argv) > 1:
        globals()[sys.argv[1]]()
    else:
        for maker in ("mlflow_database", "mlflow_folder", "trackio", "tensorboard", "wandb"):
            with tempfile.TemporaryDirectory() as folder:  # a process each: they keep global state
                script = str(Path(__file__).resolve())
                subprocess.run([sys.executable, script, maker], cwd=folder, check=True)
