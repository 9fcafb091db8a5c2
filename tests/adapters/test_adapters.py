"""The loops that people have, with the real libraries where the tests have them."""

import json

import pytest

import research_eval
from research_eval.store import Store


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.db"


@pytest.fixture
def options(path):
    return {"db": path, "system_interval_s": None, "git_diff": False}


def only_run(path):
    with Store.open(path, mode="ro") as store:
        (run,) = store.runs()
        return run


def steps(path, metric):
    with Store.open(path, mode="ro") as store:
        return store.history(only_run(path).experiment_id, metric).steps.tolist()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
class TestTransformers:
    @pytest.fixture
    def train(self, tmp_path):
        """Train a two-layer model for a few steps with `transformers.Trainer`."""
        pytest.importorskip("accelerate")  # transformers' Trainer needs it
        import torch
        import transformers

        class Tiny(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = torch.nn.Linear(4, 2)

            def forward(self, x, labels):
                logits = self.layer(x)
                return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}

        rows = [{"x": torch.ones(4) * n, "labels": torch.tensor(n % 2)} for n in range(8)]

        def train(callback, **changes):
            settings = transformers.TrainingArguments(
                output_dir=str(tmp_path / "out"),
                max_steps=4,
                per_device_train_batch_size=2,
                logging_steps=2,
                report_to=[],
                use_cpu=True,
                disable_tqdm=True,
                save_strategy="no",
                dataloader_pin_memory=False,
                seed=11,
                **changes,
            )
            trainer = transformers.Trainer(
                Tiny(), settings, train_dataset=rows, eval_dataset=rows, callbacks=[callback]
            )
            trainer.remove_callback(transformers.PrinterCallback)
            trainer.train()
            trainer.evaluate()

        return train

    def test_a_run_of_its_own(self, train, path, options):
        from research_eval.adapters.transformers import TrackingCallback

        callback = TrackingCallback("fine-tune", project="demo", **options)
        train(callback)
        callback.run.finish()
        run = only_run(path)
        assert (run.experiment_name, run.project, run.seed) == ("fine-tune", "demo", 11)
        assert json.loads(run.full_config_json)["trainer"]["max_steps"] == 4
        assert steps(path, "train/loss") == [2, 4]
        assert steps(path, "eval/loss") == [4]
        assert run.status == "COMPLETED"

    def test_a_run_of_the_script(self, train, path, options):
        from research_eval.adapters.transformers import TrackingCallback

        with research_eval.track("mine", **options) as run:
            train(TrackingCallback(run))
            run.log({"after": 1.0})
        assert only_run(path).metrics.keys() >= {"train/loss", "eval/loss", "after"}


def test_accelerate(path, options):
    accelerate = pytest.importorskip("accelerate")
    from research_eval.adapters.accelerate import Tracker

    accelerator = accelerate.Accelerator(log_with=Tracker("loop", **options), cpu=True)
    accelerator.init_trackers("demo", config={"lr": 0.1})
    accelerator.log({"train/loss": 0.5}, step=3)
    accelerator.end_training()
    run = only_run(path)
    assert (run.experiment_name, run.status, run.value("train/loss")) == ("loop", "COMPLETED", 0.5)
    assert json.loads(run.full_config_json) == {"lr": 0.1}
    assert steps(path, "train/loss") == [3]


def test_optuna(path, options):
    optuna = pytest.importorskip("optuna")
    from research_eval.adapters.optuna import TrackingCallback

    def objective(trial):
        x = trial.suggest_float("x", -1, 1)
        for step in range(3):
            trial.report(x * step, step)
        if trial.number == 1:
            raise optuna.TrialPruned
        if trial.number == 2:
            raise ZeroDivisionError
        return x**2

    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    study = optuna.create_study(study_name="s", sampler=optuna.samplers.RandomSampler(seed=0))
    callbacks = [TrackingCallback("loss", **options)]
    study.optimize(objective, n_trials=4, callbacks=callbacks, catch=[ZeroDivisionError])
    with Store.open(path, mode="ro") as store:
        runs = sorted(store.runs(), key=lambda run: run.experiment_name)
    assert [run.experiment_name for run in runs] == ["s/0", "s/1", "s/2", "s/3"]
    assert [run.status for run in runs] == ["COMPLETED", "PRUNED", "FAILED", "COMPLETED"]
    for run, trial in zip(runs, study.trials, strict=True):
        config = json.loads(run.full_config_json)
        assert (config["x"], config["trial"]["number"]) == (trial.params["x"], trial.number)
        assert run.value("loss") == trial.value
        assert run.metrics["intermediate"].count == 3
        assert run.group == "s"


def test_optuna_with_several_objectives(path, options):
    optuna = pytest.importorskip("optuna")
    from research_eval.adapters.optuna import TrackingCallback

    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    study = optuna.create_study(directions=["minimize", "maximize"])
    study.optimize(lambda _trial: (1.0, 2.0), n_trials=1, callbacks=[TrackingCallback(**options)])
    assert (only_run(path).value("value0"), only_run(path).value("value1")) == (1.0, 2.0)


@pytest.mark.filterwarnings("ignore")  # of a library that the project does not choose
class TestLightning:
    @pytest.fixture
    def fit(self, tmp_path):
        lightning = pytest.importorskip("lightning")
        import torch

        class Tiny(lightning.LightningModule):
            def __init__(self, lr, breaks):  # noqa: ARG002 - `save_hyperparameters` reads them
                super().__init__()
                self.save_hyperparameters()
                self.layer = torch.nn.Linear(4, 1)

            def training_step(self, batch, _index):
                if self.hparams.breaks:
                    raise ZeroDivisionError("no")
                loss = self.layer(batch).square().mean()
                self.log("train/loss", loss)
                return loss

            def test_step(self, batch, _index):  # noqa: PT019 - Lightning's, not pytest's
                self.log("test/loss", self.layer(batch).square().mean())

            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)

        def fit(logger, breaks=False):
            trainer = lightning.Trainer(
                logger=logger,
                max_steps=4,
                log_every_n_steps=2,
                accelerator="cpu",
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                default_root_dir=tmp_path,
            )
            model = Tiny(0.1, breaks)
            data = torch.utils.data.DataLoader(torch.ones(8, 4), batch_size=2)
            trainer.fit(model, data)
            trainer.test(model, data)

        return fit

    def test_fit_and_test_are_one_run(self, fit, path, options):
        from research_eval.adapters.lightning import TrackingLogger

        logger = TrackingLogger("fit", **options)
        fit(logger)
        logger.experiment.finish()
        run = only_run(path)
        assert (run.experiment_name, run.status) == ("fit", "COMPLETED")
        assert json.loads(run.full_config_json)["lr"] == 0.1
        assert steps(path, "train/loss") == [1, 3]
        assert "test/loss" in run.metrics

    def test_an_error_fails_the_run(self, fit, path, options):
        from research_eval.adapters.lightning import TrackingLogger

        with pytest.raises(ZeroDivisionError):
            fit(TrackingLogger("fit", **options), breaks=True)
        assert only_run(path).status == "FAILED"
        assert "ZeroDivisionError: no" in only_run(path).error


@pytest.mark.filterwarnings("ignore")  # of a library that the project does not choose
def test_a_mirror_in_wandb(path, options, tmp_path):
    pytest.importorskip("wandb")
    from research_eval.adapters.wandb import Mirror
    from research_eval.importers import wandb as reader

    run = research_eval.track("both", config={"lr": 0.1}, **options)
    with Mirror(run, project="demo", mode="offline", dir=tmp_path) as mirror:
        for step in (10, 5):
            mirror.log({"loss": step / 10}, step=step)
        mirror.summary({"best": 0.5})
        mirror.set({"later": 1})
        mirror.tag("a")
        mirror.note("only here")
    assert steps(path, "loss") == [5, 10]
    (copy,) = reader.read(tmp_path)
    points = [(point.name, point.value) for point in copy.points()]
    assert [value for name, value in points if name == "loss"] == [1.0, 0.5]
    assert [value for name, value in points if name == "step"] == [10.0, 5.0]
    assert ("best", 0.5) in points
    assert (copy.name, copy.config["later"], copy.tags) == ("both", 1, ("a",))
