"""The training loop: what it learns, what it records, and that stopping changes nothing."""

import math
import resource

import pytest
import torch

from research_eval.errors import CollapsedError, DivergedError, RunError, StoppedError
from research_eval.training.checkpoint import load_weights, resume_step
from research_eval.training.progress import Progress, StopSignal
from research_eval.training.train import steps_of


class StopAt:
    """A watcher that asks to stop once training has come to a step."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.stop = StopSignal()

    def say(self, line: str) -> None:
        pass

    def progress(self, now: Progress) -> None:
        if now.step >= self.step:
            self.stop.number = 2


def weights(trainer):
    return {name: tensor.clone() for name, tensor in trainer.network.state_dict().items()}


def without_times(recorder):
    timed = {"train_tokens_per_second"}
    return [
        (step, {name: value for name, value in values.items() if name not in timed})
        for step, values in recorder.points
    ]


def test_the_loss_falls(make_trainer, language):
    trainer, recorder = make_trainer(
        language, epochs=20, optimizer_params={"name": "adamw", "lr": 3e-2}
    )
    before = trainer.measure().scores["loss"]
    trainer.run()
    losses = [value for _, value in recorder.series("val_loss")]
    assert losses[-1] < 0.3 * before


CHANGING_ROUTER = {"router": "noisy_topk", "balance": "bias", "capacity_factor": 1.0}


@pytest.mark.parametrize(
    ("model", "params"),
    [("dense", {}), ("moe", {}), ("moe", CHANGING_ROUTER)],
    ids=["dense", "moe", "moe with noise, bias and capacity"],
)
@pytest.mark.parametrize("stop_at", [1, 13, 20, 26])
def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(
    make_trainer, classification, monkeypatch, model, params, stop_at
):
    monkeypatch.setattr("research_eval.training.train.PROGRESS_INTERVAL_S", 0.0)
    settings = {"training_params": {"log_every": 4}, "model": model, "model_params": params}
    whole, whole_recorder = make_trainer(classification, folder="whole", **settings)
    whole.run()

    watcher = StopAt(stop_at)
    first, first_recorder = make_trainer(
        classification, folder="parts", watcher=watcher, stop=watcher.stop, **settings
    )
    with pytest.raises(StoppedError) as stopped:
        first.run()
    assert stopped.value.step == stop_at == resume_step(first.files.resume)
    torch.rand(7)  # what happens in between must not matter
    second, second_recorder = make_trainer(classification, folder="parts", **settings)
    assert second.restore() == stop_at
    second.run()

    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(second)[name]), name
    assert without_times(whole_recorder) == without_times(first_recorder) + without_times(
        second_recorder
    )
    assert second.counters.best_step == whole.counters.best_step
    load_weights(whole.files.best, whole.network, whole.device)
    load_weights(second.files.best, second.network, second.device)
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(second)[name]), name


def test_accumulated_batches_make_the_step_of_one_large_batch(make_trainer, classification):
    plain = {"scheduler_params": {"name": "none"}, "training_params": {"max_steps": 1}}
    large, _ = make_trainer(classification, batch_size=32, **plain)
    plain["training_params"] = {"max_steps": 1, "grad_accum_steps": 2}
    small, _ = make_trainer(classification, batch_size=16, **plain)
    for trainer in (large, small):
        trainer.network.embedding_dropout = torch.nn.Identity()
        for module in trainer.network.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        trainer.optimizer = torch.optim.SGD(trainer.network.parameters(), lr=0.1)
        trainer.run()
    for name, tensor in weights(large).items():
        torch.testing.assert_close(tensor, weights(small)[name], atol=1e-6, rtol=1e-5)


def test_steps_count_a_partial_last_batch(make_trainer, classification):
    trainer, recorder = make_trainer(classification, batch_size=64, epochs=2)
    assert steps_of(trainer.config, 200) == (4, 8)
    trainer.run()
    assert trainer.counters.step == 8
    assert trainer.counters.tokens == 2 * int(classification.train.lengths_N.sum())
    assert [step for step, _ in recorder.series("val_loss")] == [4, 8]


def test_max_steps_overrides_epochs_and_the_last_step_is_evaluated(make_trainer, classification):
    trainer, recorder = make_trainer(
        classification, training_params={"max_steps": 5, "eval_every": 3}
    )
    trainer.run()
    assert [step for step, _ in recorder.series("val_loss")] == [3, 5]


def test_early_stopping_ends_after_patience_evaluations_without_improvement(
    make_trainer, classification
):
    trainer, recorder = make_trainer(
        classification,
        epochs=50,
        # A rate this small cannot change a prediction, so no evaluation improves on the first.
        optimizer_params={"name": "sgd", "lr": 1e-30},
        training_params={"early_stopping_patience": 2, "monitor": "val_f1:max"},
    )
    trainer.run()
    assert len(recorder.series("val_f1")) == 3
    assert trainer.counters.best_step == trainer.steps_per_epoch


def test_best_weights_are_those_of_the_best_evaluation(make_trainer, classification):
    trainer, recorder = make_trainer(
        classification,
        epochs=8,
        optimizer_params={"name": "adamw", "lr": 5e-2},
        training_params={"monitor": "val_loss:min"},
    )
    trainer.run()
    best_step, best = min(recorder.series("val_loss"), key=lambda point: point[1])
    load_weights(trainer.files.best, trainer.network, trainer.device)
    assert trainer.counters.best_step == best_step
    assert trainer.measure().scores["loss"] == best


def test_divergence_names_its_step_and_records_the_value(make_trainer, classification):
    trainer, recorder = make_trainer(
        classification,
        optimizer_params={"name": "sgd", "lr": 1e30, "grad_clip_norm": None},
    )
    with pytest.raises(DivergedError) as diverged:
        trainer.run()
    (step, value) = recorder.series("train_loss")[-1]
    assert step == diverged.value.step
    assert 1 < step <= 6
    assert not math.isfinite(value)


def test_the_same_seed_gives_the_same_data_order_to_every_architecture(
    make_trainer, classification
):
    dense, _ = make_trainer(classification, model="dense")
    moe, _ = make_trainer(classification, model="moe")
    other, _ = make_trainer(classification, model="dense", seed=1)
    orders = [
        [rows.tolist() for _, parts in t._steps() for rows in parts] for t in (dense, moe, other)
    ]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    first_epoch = [row for rows in orders[0][:13] for row in rows]
    assert sorted(first_epoch) == list(range(200))


def test_expert_load_and_auxiliary_terms_are_recorded(make_trainer, classification):
    trainer, recorder = make_trainer(classification, model="moe", epochs=1)
    trainer.run()
    assert recorder.series("train_aux_load_balance")
    assert 0 <= recorder.series("val_load_entropy_layer0")[0][1] <= 1
    assert recorder.series("train_router_grad_norm")[0][1] > 0
    arrays = {name: (step, layer, values) for step, layer, name, values in recorder.arrays}
    step, layer, share = arrays["load_share"]
    assert (step, layer) == (13, 0)
    assert sum(share) == pytest.approx(1)
    assert len(arrays["chosen"][2]) == int(classification.validation.lengths_N.sum())


def test_what_capacity_turns_away_is_recorded(make_trainer, classification):
    params = {"num_experts": 4, "top_k": 1, "capacity_factor": 0.5}
    trainer, recorder = make_trainer(classification, model="moe", epochs=1, model_params=params)
    trainer.run()
    # An expert serves half of an even share, so even a perfect router loses about half.
    assert 0.4 < recorder.series("train_drop_rate_layer0")[0][1] < 1
    dropless, recorder = make_trainer(classification, model="moe", epochs=1, folder="dropless")
    dropless.run()
    assert not recorder.series("train_drop_rate_layer0")


def test_a_collapsed_router_is_flagged_and_ends_the_run_if_asked(make_trainer, classification):
    settings = {"stop_on_collapse": True, "eval_every": 5}
    trainer, recorder = make_trainer(
        classification,
        model="moe",
        epochs=20,
        optimizer_params={"name": "sgd", "lr": 1e-30},
        training_params=settings,
    )
    for module in trainer.network.modules():
        if hasattr(module, "scores"):
            # Whatever the token, the first two of eight experts get the highest scores.
            module.scores.weight.data.zero_()
    with pytest.raises(CollapsedError, match="same few of 8 experts"):
        trainer.run()
    assert "routing_collapse" in recorder.flags
    trainer, recorder = make_trainer(classification, model="moe", folder="healthy", epochs=20)
    trainer.run()
    assert not recorder.flags


def test_bf16_trains_close_to_fp32(make_trainer, language):
    losses = {}
    for precision in ("fp32", "bf16"):
        trainer, recorder = make_trainer(
            language, folder=precision, epochs=4, training_params={"precision": precision}
        )
        trainer.run()
        losses[precision] = recorder.series("val_loss")[-1][1]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.02)
    assert losses["bf16"] != losses["fp32"]


def test_a_damaged_resume_point_is_one_clear_error(make_trainer, classification):
    trainer, _ = make_trainer(classification, epochs=1)
    trainer.run()
    trainer.files.resume.write_bytes(trainer.files.resume.read_bytes()[:100])
    again, _ = make_trainer(classification, epochs=1)
    with pytest.raises(RunError, match="--again"):
        again.restore()


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(make_trainer, classification):
    trainer, _ = make_trainer(classification)
    trainer.save_weights(trainer.files.best)
    before = trainer.files.best.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(RunError, match="untouched"):
            trainer.save_weights(trainer.files.best)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert trainer.files.best.read_bytes() == before
    assert [path.name for path in trainer.files.folder.iterdir()] == ["best.safetensors"]
