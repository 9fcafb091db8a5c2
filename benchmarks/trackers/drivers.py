"""How each tracker is asked to record and to read. Runs inside the tracker's own environment.

A driver is a class with `start(name, p)`, `log(values, step)` and `finish()` for one run at a
time, and, where the tracker can be read back without a server: `count(name)` (points of the metric
m0), `chosen(p)` (how many runs have this parameter, all their metrics read; None for all runs) and
`history(name)` (length of m0, read as arrays). A missing method is printed as "-": it is not faked.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path


class ResearchEval:
    """`RunWriter` and `Store`."""

    package = "research-eval"
    module = "research_eval; research_eval.track"

    def __init__(self, folder: Path) -> None:
        from research_eval.store import Store

        self.store = Store.open(folder / "runs.db", create=True)

    def start(self, name: str, p: int) -> None:
        from research_eval.records import NewRun

        config = json.dumps({"p": p})
        kinds = {"run_type": "track", "experiment_name": name, "env_details_json": "{}"}
        self.writer = self.store.start(
            NewRun(experiment_id=name, full_config_json=config, **kinds)  # type: ignore[arg-type]
        )
        self.log = lambda values, step: self.writer.log(values, step=step)

    def finish(self) -> None:
        from research_eval.records import RunStatus

        self.writer.finish(RunStatus.COMPLETED)

    def count(self, name: str) -> int:
        return len(self.store.history(name, "m0").steps)

    def chosen(self, p: int | None) -> int:
        if p is None:
            return len(self.store.runs())
        return len(self.store.runs(filter=f"params.p == {p}"))

    def history(self, name: str) -> int:
        return len(self.store.history(name, "m0").values)


class MLflow:
    """The synchronous client on SQLite, its default."""

    package = module = "mlflow"

    def __init__(self, folder: Path) -> None:
        import mlflow

        self.mlflow = mlflow
        mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")

    def start(self, name: str, p: int) -> None:
        self.mlflow.start_run(run_name=name)
        self.mlflow.log_param("p", p)
        self.log = self.mlflow.log_metrics

    def finish(self) -> None:
        self.mlflow.end_run()

    def count(self, name: str) -> int:
        found = self.mlflow.search_runs(
            filter_string=f"attributes.run_name = '{name}'", output_format="list"
        )
        client = self.mlflow.MlflowClient()
        return len(client.get_metric_history(found[0].info.run_id, "m0"))

    def chosen(self, p: int | None) -> int:
        text = "" if p is None else f"params.p = '{p}'"
        return len(self.mlflow.search_runs(filter_string=text))

    history = count


class Trackio:
    """Into its local SQLite file, without a dashboard."""

    package = module = "trackio"

    def __init__(self, folder: Path) -> None:
        os.environ["TRACKIO_DIR"] = str(folder)
        import trackio

        self.trackio = trackio

    def start(self, name: str, p: int) -> None:
        self.run = self.trackio.init(
            project="bench", name=name, config={"p": p}, embed=False, auto_log_gpu=False
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.trackio.log(dict(values), step=step)

    def finish(self) -> None:
        self.trackio.finish()

    def count(self, name: str) -> int:
        from trackio.sqlite_storage import SQLiteStorage

        return sum(1 for row in SQLiteStorage.get_logs("bench", name) if "m0" in row)

    history = count


class WandbOffline:
    """Offline mode; there is no public way to read it back."""

    package = module = "wandb"

    def __init__(self, folder: Path) -> None:
        import wandb

        self.wandb, self.folder = wandb, folder

    def start(self, name: str, p: int) -> None:
        self.run = self.wandb.init(
            mode="offline", dir=self.folder, project="bench", name=name, config={"p": p}
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.run.log(dict(values), step=step)

    def finish(self) -> None:
        self.run.finish()


class Aim:
    """A local repository."""

    package = module = "aim"

    def __init__(self, folder: Path) -> None:
        import aim

        self.aim, self.folder = aim, str(folder)

    def start(self, name: str, p: int) -> None:
        self.run = self.aim.Run(repo=self.folder, system_tracking_interval=None)
        self.run["name"], self.run["p"] = name, p

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.run.track(dict(values), step=step)

    def finish(self) -> None:
        self.run.close()

    def count(self, name: str) -> int:
        repo = self.aim.Repo(self.folder)
        query = f"run.name == '{name}' and metric.name == 'm0'"
        for found in repo.query_metrics(query, report_mode=0).iter_runs():
            for metric in found:
                return len(metric.values.sparse_numpy()[1])
        return 0

    history = count

    def chosen(self, p: int | None) -> int:
        repo = self.aim.Repo(self.folder)
        found = repo.query_runs("" if p is None else f"run.p == {p}", report_mode=0).iter_runs()
        return sum(1 for each in found if each.run.metrics() is not None)


class TensorboardX:
    """Event files; tensorboard's accumulator reads them."""

    package = module = "tensorboardX"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, name: str, p: int) -> None:
        from tensorboardX import SummaryWriter

        self.writer = SummaryWriter(str(self.folder / name))
        self.writer.add_text("p", str(p))

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def finish(self) -> None:
        self.writer.close()

    def count(self, name: str) -> int:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        found = EventAccumulator(str(self.folder / name), size_guidance={"scalars": 0}).Reload()
        return len(found.Scalars("m0")) if "m0" in found.Tags()["scalars"] else 0

    history = count


class DVCLive:
    """Its files; they are tables that anything reads."""

    package = module = "dvclive"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, name: str, p: int) -> None:
        from dvclive import Live

        self.live = Live(dir=str(self.folder / name), save_dvc_exp=False, dvcyaml=None, report=None)
        self.live.log_param("p", p)

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.live.step = step
        for name, value in values.items():
            self.live.log_metric(name, value)
        self.live.next_step()

    def finish(self) -> None:
        self.live.end()

    def count(self, name: str) -> int:
        table = self.folder / name / "plots" / "metrics" / "m0.tsv"
        return len(table.read_text().splitlines()) - 1 if table.exists() else 0

    history = count


class Sacred:
    """The observer that writes files."""

    package = module = "sacred"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, name: str, p: int) -> None:
        from sacred import Experiment
        from sacred.observers import FileStorageObserver
        from sacred.stdout_capturing import get_stdcapturer

        experiment = Experiment(name, save_git_info=False)
        experiment.observers.append(FileStorageObserver(self.folder / name, copy_sources=False))
        experiment.add_config(p=p)
        experiment.main(lambda: None)
        self.run = experiment._create_run()
        self.output = get_stdcapturer("no")[1]()
        self.run._output_file = self.output.__enter__()  # what `experiment.run` does around `main`
        self.run._emit_started()
        self.run._start_heartbeat()

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.run.log_scalar(name, value, step)

    def finish(self) -> None:
        self.run._stop_heartbeat()
        self.run._emit_completed(None)

    def count(self, name: str) -> int:
        file = self.folder / name / "1" / "metrics.json"
        text = file.read_text() if file.exists() else ""
        return len(json.loads(text).get("m0", {"values": []})["values"]) if text else 0

    history = count


DRIVERS = {
    "research-eval": ResearchEval,
    "mlflow": MLflow,
    "trackio": Trackio,
    "wandb": WandbOffline,
    "aim": Aim,
    "tensorboardX": TensorboardX,
    "dvclive": DVCLive,
    "sacred": Sacred,
}
NEEDS = {"tensorboardX": ("tensorboardX", "tensorboard"), "sacred": ("sacred", "setuptools<81")}
"""What an environment needs beside the package that gives the tracker its name."""
