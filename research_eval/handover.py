"""What a trained run hands over: scores of the last and of the selected weights, costs, files."""

from __future__ import annotations

from research_eval import machine
from research_eval.prepare import Prepared
from research_eval.records import Recorder
from research_eval.spec import Dataset
from research_eval.training import evaluate
from research_eval.training.batches import Batches
from research_eval.training.checkpoint import load_weights
from research_eval.training.train import Files, Trainer

FLOOR_TOLERANCE_NATS = 0.01
"""A model this far below the loss of the true process has seen what it should not have seen."""


def hand_over(
    prepared: Prepared, trainer: Trainer, recorder: Recorder, files: Files, *, with_test: bool
) -> None:
    """Measure the last weights, then the selected ones, record both and keep what is asked for.

    Args:
        prepared: What was run.
        trainer: After its last step.
        recorder: Where the scores go.
        files: Where the weights are.
        with_test: Whether to look at the test split; a search must not.
    """
    values = measured(prepared, trainer, files, with_test=with_test)
    values |= _costs(prepared, trainer)
    recorder.log(values, step=trainer.counters.step)
    _flag_below_floor(prepared.dataset, values["final_val_loss"], recorder)
    keep = prepared.experiment.config.training_params.keep_checkpoints
    _keep_checkpoints(keep, recorder, files)


def measured(
    prepared: Prepared, trainer: Trainer, files: Files, *, with_test: bool
) -> dict[str, float]:
    """Return the scores of the last and of the selected weights, in which all ranks take part.

    Args:
        prepared: What was run.
        trainer: After its last step; its network has the selected weights afterwards.
        files: Where the weights are.
        with_test: Whether to look at the test split.
    """
    config, dataset, network = prepared.experiment.config, prepared.dataset, trainer.network
    settings, counters = config.training_params, trainer.counters
    complete = settings.max_eval_batches is None and trainer.latest is not None
    last = trainer.latest if complete and trainer.latest else trainer.measure()
    trainer.save_weights(files.last)
    if settings.select == "best":
        load_weights(files.best, network, prepared.device)
    selected_is_last = settings.select == "last" or counters.best_step == counters.step
    chosen = last if selected_is_last else trainer.measure()
    values = last.named("last_val") | chosen.named("final_val")
    if with_test and dataset.test is not None:
        batches = Batches(dataset.test, dataset.task, prepared.device)
        test = evaluate.evaluate(
            network, batches, batch_size=config.batch_size, autocast=trainer.autocast
        )
        values |= test.named("final_test")
    for name in ("val_f1", "val_loss"):
        if name in counters.best_seen:
            values[f"best_{name}_across_epochs"] = counters.best_seen[name]
    return values


def _costs(prepared: Prepared, trainer: Trainer) -> dict[str, float]:
    config, network, counters = prepared.experiment.config, trainer.network, trainer.counters
    latency = evaluate.measure_latency(
        network,
        trainer.validation_data,
        batch_size=config.batch_size,
        autocast=trainer.autocast,
    )
    return latency | {
        "best_step": counters.best_step,
        "param_count": network.param_count(),
        "active_param_count": network.active_param_count(),
        "flops_per_token": trainer.flops_per_token,
        "train_tokens_per_second": counters.tokens / max(counters.train_seconds, 1e-9),
        "total_training_time_seconds": counters.total_seconds,
        "peak_memory_mb": machine.peak_memory_mb(prepared.device),
    }


def _flag_below_floor(dataset: Dataset, loss: float, recorder: Recorder) -> None:
    floor = dataset.validation.loss_floor
    if floor is None:
        return
    recorder.log({"val_loss_floor": floor}, step=0)
    if loss < floor - FLOOR_TOLERANCE_NATS:
        recorder.flag(
            "below_loss_floor",
            f"final_val_loss {loss:.4f} is below {floor:.4f}, the least that the data allows: "
            "the model has seen what it must not see",
        )


def _keep_checkpoints(keep: str, recorder: Recorder, files: Files) -> None:
    for name, path in (("best", files.best), ("last", files.last)):
        if keep in (name, "both"):
            recorder.artifact("checkpoint", path)
        else:
            path.unlink(missing_ok=True)
