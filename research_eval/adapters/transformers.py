"""A callback for `transformers.Trainer`."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from research_eval.adapters._source import RunSource
from research_eval.tracking import TrackedRun


class TrackingCallback(TrainerCallback):
    """Records what a `transformers.Trainer` logs, its arguments and its model's configuration.

        trainer = Trainer(..., callbacks=[TrackingCallback("fine-tune", project="demo")])

    Metrics are called as in other trackers: `train/loss`, `eval/loss`, `test/loss`. Only the
    first of several processes records.

    Args:
        run: A run that you finish, or the name of one that starts with the training.
        **options: Of `research_eval.track`.
    """

    def __init__(self, run: TrackedRun | str | None = None, **options: Any) -> None:
        self._source = RunSource(run, options)

    @property
    def run(self) -> TrackedRun:
        """The run."""
        return self._source.get()

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002 - transformers' signature
        **kwargs: Any,
    ) -> None:
        """Start the run and record the configuration."""
        if state.is_world_process_zero:
            config = {"trainer": args.to_dict()}
            model = getattr(kwargs.get("model"), "config", None)
            if model is not None:
                config["model"] = model.to_dict()
            self._source.get(seed=args.seed).set(config)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002 - transformers' signature
        logs: dict[str, Any] | None = None,
        **_kwargs: Any,
    ) -> None:
        """Record metrics at the optimizer step."""
        if state.is_world_process_zero:
            named = {_name(key): value for key, value in (logs or {}).items()}
            self._source.get(seed=args.seed).log(named, step=state.global_step)


def _name(key: str) -> str:
    for split in ("eval", "test"):
        if key.startswith(f"{split}_"):
            return f"{split}/{key.removeprefix(f'{split}_')}"
    return f"train/{key}"
