"""A store with a little of everything that pages show, and what asks for it."""

import json
import math
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import asdict

import numpy as np
import pytest
from starlette.testclient import TestClient

from research_eval.dashboard.app import create_app
from research_eval.dashboard.live import Doorbell
from research_eval.dashboard.site import Site
from research_eval.hpo.spec import StudySpec
from research_eval.records import NewRun, RunStatus
from research_eval.store import Store
from research_eval.store.browsing import Browser

from .browser import find_chromium, started

HOSTILE = "</script><img src=x onerror=\"document.title='taken'\">🦉"
"""A name that runs as a script wherever it is not taken as text."""

LONG = "x" * 500
EXPERTS, LAYERS, STEPS = 8, 2, (100, 200, 300)


def new_run(experiment_id, *, model="moe", seed=0, top_k=2, **changes):
    config = {
        "model_type": model,
        "seed": seed,
        "model_params": {"top_k": top_k, "num_experts": EXPERTS},
        "optimizer_params": {"name": "adamw", "lr": 1e-3},
    }
    plain = {
        "experiment_id": experiment_id,
        "run_type": "json",
        "experiment_name": f"{model}_parity",
        "full_config_json": json.dumps(config | changes.pop("config", {})),
        "env_details_json": json.dumps({"python": "3.11", "packages": {"numpy": "2"}}),
        "model_type": model,
        "dataset_name": "parity",
        "seed": seed,
        "config_hash": f"{model}-{top_k}",
    }
    return NewRun(**plain | changes)


def log_curve(run, *, length=40, level=2.0, metric="val_loss"):
    for step in range(length):
        run.log({metric: level * math.exp(-step / length), "tokens_seen": 64.0 * step}, step=step)


def log_experts(run, rng, *, paths=False):
    for step in STEPS:
        for layer in range(LAYERS):
            load = rng.dirichlet(np.full(EXPERTS, 5.0))
            if layer == 1:
                load[0] *= 0.001
            run.log_array("load_share", load.astype(np.float32), layer=layer, step=step)
            for name in ("coactivation", "coupling", "similarity"):
                values = rng.random((EXPERTS, EXPERTS)).astype(np.float32)
                run.log_array(name, values, layer=layer, step=step)
            groups = rng.integers(0, 50, (3, EXPERTS))
            run.log_array("by_group", groups, layer=layer, step=step)
            run.log(
                {
                    f"val_load_entropy_layer{layer}": 0.9,
                    f"val_dead_experts_layer{layer}": 1.0,
                    f"train_drop_rate_layer{layer}": 0.1,
                },
                step=step,
            )
        members = (rng.random((5, EXPERTS)) > 0.6).astype(np.float32)
        run.log_array("members", members, layer=0, step=step)
        if paths:
            for place, reached in enumerate((1.0, 0.8, 0.5)):  # steps of a path, not layers
                usage = reached * rng.dirichlet(np.ones(EXPERTS))
                run.log_array("path_usage", usage.astype(np.float32), layer=place, step=step)
            go_on = rng.dirichlet(np.ones(EXPERTS + 1), EXPERTS)[:, :-1]
            run.log_array("transitions", go_on.astype(np.float32), layer=0, step=step)


def fill_runs(store):
    for number in range(6):
        model = ("moe", "dense")[number % 2]
        made = new_run(f"run{number}", model=model, seed=number // 2, top_k=1 + number % 3)
        run = store.start(made)
        log_curve(run, level=2 + number / 10)
        run.log({"final_val_loss": 1 + number / 10, "final_val_f1": 0.5 + number / 20}, step=40)
        run.finish(RunStatus.COMPLETED)
    spiky = store.start(new_run("spiky", seed=9, experiment_name="spiky"))
    for step in range(5000):
        spiky.log({"val_loss": 99.0 if step == 3210 else 1.0}, step=step)
    for step, value in enumerate((1.0, math.nan, math.inf, 2.0)):
        spiky.log({"broken": value}, step=step)
    spiky.log({"never": math.nan}, step=0)
    spiky.finish(RunStatus.FAILED, error="Traceback\nValueError: boom")


def fill_experts(store):
    rng = np.random.default_rng(0)
    for name, model in (("experts", "hgnn_moe"), ("paths", "goe")):
        run = store.start(new_run(name, model=model, experiment_name=name))
        log_experts(run, rng, paths=model == "goe")
        run.flag("dead_experts", "1 experts of layer 1 have had almost no tokens since step 100")
        run.flag("waives_batch_independent", "expert choice")
        (run.folder / "run.log").write_text("first line\nlast line\n")
        (run.folder / "sample.txt").write_text("a sample")
        run.artifact("sample", run.folder / "sample.txt")
        run.finish(RunStatus.COMPLETED)


def fill_hostile(store):
    config = {HOSTILE: HOSTILE, "long": LONG}
    made = new_run("hostile", experiment_name=HOSTILE, config=config, tags=(HOSTILE,))
    run = store.start(made)
    for step in range(5):
        run.log({HOSTILE: 1.0 / (step + 1), LONG: 1.0}, step=step)
    run.flag("note", HOSTILE)
    run.finish(RunStatus.COMPLETED)
    store.note("hostile", HOSTILE)


KNOBS = {
    "optimizer_params.lr": {"kind": "LogUniform", "low": 1e-4, "high": 1e-1},
    "model_params.top_k": {"kind": "Choice", "options": [1, 2, 4]},
}


def fill_study(store, name, *, trials=48):
    objectives = ("final_val_loss:min", "param_count:min")
    spec = StudySpec(name=name, n_trials=60, objectives=objectives, arms=("dense", "moe"))
    told = asdict(spec) | {"base_dir": "."}
    spaces = {"moe": KNOBS, "dense": {k: v for k, v in KNOBS.items() if "lr" in k}}
    record = {"version": 1, "asked": told, "data": ["synthetic", "parity"], "spaces": spaces}
    record |= {"fixed": {}, "since": {}, "earlier": []}
    store.save_study(name, json.dumps(record))
    rng = np.random.default_rng(1)
    for number in range(trials):
        arm = ("moe", "dense")[number % 2]
        rate = float(10 ** rng.uniform(-4, -1))
        changed = {"optimizer_params.lr": rate}
        if arm == "moe":
            changed["model_params.top_k"] = int(rng.choice([1, 2, 4]))
        made = new_run(
            f"{name[:4]}trial{number}",
            model=arm,
            study=name,
            trial=number,
            phase="search",
            config={"optimizer_params": {"lr": rate}, "origin": {"changed": changed}},
            run_type="optuna_trial",
            top_k=changed.get("model_params.top_k", 2),
        )
        run = store.start(made)
        level = abs(math.log10(rate) + 2.5) + 1
        log_curve(run, length=10, level=level)
        if number % 6 == 5:
            run.finish(RunStatus.PRUNED)
            continue
        run.log({"final_val_loss": level, "param_count": 1e5 * (1 + number % 4)}, step=10)
        run.log({"total_training_time_seconds": 1.5}, step=10)
        run.finish(RunStatus.COMPLETED)


@pytest.fixture(scope="session")
def filled(tmp_path_factory):
    """The file of the store; nobody writes to it after."""
    file = tmp_path_factory.mktemp("dashboard") / "runs.db"
    with Store.open(file, create=True) as store:
        fill_runs(store)
        fill_experts(store)
        fill_study(store, "search")
        store.save_study(HOSTILE, "{}")
        fill_hostile(store)
        store.tag("run0", ["paper"])
    return file


@pytest.fixture
def client_of(tmp_path):
    """Return a function that makes a client for a file of a store."""
    opened = []

    def make(file, **options):
        store = Store.open(file, mode="ro")
        opened.append(store)
        browser = Browser(store)
        reports = tmp_path / "reports"
        app = create_app(Site(store, browser, reports), Doorbell(browser.state), **options)
        return TestClient(app, base_url="http://localhost:8765")

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def client(client_of, filled):
    return client_of(filled)


@pytest.fixture
def ask(client):
    """Return a function that asks the API and returns what it answers."""

    def call(path, **params):
        answer = client.get(f"/api/v1{path}", params=params)
        assert answer.status_code == 200, answer.text
        return json.loads(answer.text, parse_constant=lambda token: pytest.fail(token))

    return call


@contextmanager
def dashboard(file, *options):
    """The command as a process of its own, and the address that it printed."""
    command = [sys.executable, "-m", "research_eval", "dashboard", "--db", str(file), *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ.copy()
    )
    try:
        address = process.stdout.readline().strip()
        assert address.startswith("http://"), process.stderr.read()
        yield address, process
    finally:
        process.terminate()
        process.communicate(timeout=10)


@pytest.fixture(scope="session")
def address(filled):
    """The address of a dashboard over the filled store."""
    with dashboard(filled, "--port", "0") as (found, _):
        yield found


@pytest.fixture
def serve():
    """Return what starts the command on a free port: a context of address and process."""
    return lambda file, *options: dashboard(file, "--port", "0", *options)


@pytest.fixture(scope="session")
def browser():
    """A real browser; without one its tests are skipped, and the summary says so."""
    programs = find_chromium()
    if programs is None:
        pytest.skip("NO PAGE WAS LOOKED AT: there is no Chromium (apt-get install chromium-driver)")
    with started(programs) as made:
        yield made
