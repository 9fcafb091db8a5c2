"""The training loop.

It knows a network, a data set and a `Recorder`, and nothing of stores. Everything that decides
the result comes from the configuration and the seed; the same seed gives the same data order to
every architecture, and an interrupted training continued from its resume point gives the same
bits as one that was never interrupted (on one CPU, with one number of threads).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from research_eval import ranks
from research_eval.config import ExperimentConfig
from research_eval.config.experiment import WarmupParams
from research_eval.diagnostics.routing import drop_rate
from research_eval.errors import CollapsedError, DivergedError, StoppedError
from research_eval.metrics import default_monitor
from research_eval.network import Network
from research_eval.records import Recorder
from research_eval.spec import Dataset
from research_eval.training import checkpoint
from research_eval.training.batches import Batches
from research_eval.training.checkpoint import Counters
from research_eval.training.device import autocast, synchronizer
from research_eval.training.evaluate import Evaluation, evaluate
from research_eval.training.experts import ExpertRecords
from research_eval.training.optim import build_optimizer, lr_factor
from research_eval.training.progress import Progress, StopSignal, Watcher
from research_eval.training.seeding import derive, epoch_order

RESUME_INTERVAL_S = 300.0
PROGRESS_INTERVAL_S = 0.5


@dataclass(frozen=True, slots=True)
class Files:
    """Where a training keeps its files: one folder per run."""

    folder: Path

    @property
    def best(self) -> Path:
        """Weights with the best monitored score."""
        return self.folder / "best.safetensors"

    @property
    def last(self) -> Path:
        """Weights of the last step."""
        return self.folder / "last.safetensors"

    @property
    def resume(self) -> Path:
        """The point from which an interrupted training continues."""
        return self.folder / "resume.safetensors"


def steps_of(config: ExperimentConfig, num_rows: int) -> tuple[int, int]:
    """Return optimizer steps in an epoch and in the whole run.

    Args:
        config: The experiment.
        num_rows: Rows of the training split.
    """
    rows_per_step = config.batch_size * config.training_params.grad_accum_steps
    per_epoch = -(-num_rows // rows_per_step)
    return per_epoch, config.training_params.max_steps or per_epoch * config.epochs


class Trainer:
    """One training, from its first step or from a resume point to its last.

    Args:
        config: Resolved: precision and monitor are decided.
        network: On the device, initialised from the seed.
        dataset: What it learns.
        recorder: Where points go.
        files: Where weights and resume points go.
        watcher: Who waits.
        stop: Who may ask to stop.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        network: Network,
        dataset: Dataset,
        recorder: Recorder,
        files: Files,
        watcher: Watcher,
        stop: StopSignal,
    ) -> None:
        self.config = config
        self.settings = config.training_params
        self.network = network
        self.recorder = recorder
        self.files = files
        self.watcher = watcher
        self.stop = stop
        self.device = next(network.parameters()).device
        self.train_data = Batches(dataset.train, dataset.task, self.device)
        self.validation_data = Batches(dataset.validation, dataset.task, self.device)
        self.optimizer = build_optimizer(network, config.optimizer_params, self.device)
        is_fp16 = self.settings.precision == "fp16"
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=is_fp16)
        self.forward: nn.Module = network
        if self.settings.compile:
            self.forward = torch.compile(network)  # type: ignore[assignment]  # it is one
        self.forward = ranks.averaging(self.forward)
        self.steps_per_epoch, self.total_steps = steps_of(config, len(dataset.train))
        monitor = self.settings.monitor or default_monitor(dataset.task)
        self.monitor, _, self.direction = monitor.partition(":")
        self.flops_per_token = network.flops_per_token(dataset.max_length)
        self.routing_parameters = network.routing_parameters()
        self.counters = Counters()
        self.experts = self._expert_records()
        self.latest: Evaluation | None = None
        self._loss = torch.zeros(())
        self._window: dict[str, Tensor] = {}
        self._bad_step = torch.full((), -1, device=self.device)
        self._shown_at = self._saved_at = time.monotonic()

    def _expert_records(self) -> ExpertRecords:
        schedule = self.config.scheduler_params
        warmup = schedule.warmup_factor if isinstance(schedule, WarmupParams) else 0.0
        return ExpertRecords(
            self.recorder,
            self.counters.collapse,
            learned=bool(self.routing_parameters),
            warmup_steps=round(warmup * self.total_steps),
        )

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context of a forward pass."""
        return autocast(self.device, self.settings.precision)

    def restore(self) -> int:
        """Continue from the resume point in the folder and return its step."""
        self.counters = checkpoint.load_resume_point(
            self.files.resume, self.network, self.optimizer, self.scaler
        )
        self.experts = self._expert_records()
        self._window = {
            name: torch.tensor(value, device=self.device)
            for name, value in self.counters.window.items()
        }
        return self.counters.step

    def run(self) -> None:
        """Train to the last step, or until patience ends.

        Raises:
            DivergedError: If the loss is not finite.
            CollapsedError: If `stop_on_collapse` is set and a rule about experts is broken.
        StoppedError: If a signal asked to stop; a resume point is written first.
        """
        if self.counters.step == 0:
            torch.manual_seed(derive(self.config.seed, "noise"))
        self.network.train()
        started = time.monotonic() - self.counters.total_seconds
        for step, rows in self._steps():
            if self._patience_ended():
                break
            self._step(step, rows)
            self.counters.total_seconds = time.monotonic() - started
            is_last = step + 1 == self.total_steps
            if (step + 1) % self.settings.log_every == 0:
                self._log_training()
            if (step + 1) % self._eval_interval == 0 or is_last:
                self._evaluate()
                self.counters.total_seconds = time.monotonic() - started
            self._show()
            if self.settings.stop_on_collapse and self.experts.flags:
                raise CollapsedError(self.counters.step, self.experts.flags)
            signal_number = ranks.firsts(self.stop.asked())
            if signal_number is not None and not is_last:
                self.save_resume_point()
                raise StoppedError(signal_number, self.counters.step)
            if time.monotonic() - self._saved_at > RESUME_INTERVAL_S:
                self.save_resume_point()
        if self._window:
            self._log_training()

    def timed_steps(self) -> Iterator[float]:
        """Take the steps one at a time and yield the seconds of each; nothing is evaluated."""
        wait = synchronizer(self.device)
        self.network.train()
        for step, rows in self._steps():
            wait()
            started = time.perf_counter()
            self._step(step, rows)
            wait()
            yield time.perf_counter() - started

    @property
    def _eval_interval(self) -> int:
        every = self.settings.eval_every
        return self.steps_per_epoch if every == "epoch" else every

    def _steps(self) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
        """Yield each step that is left with its batches' rows; epoch and order follow from it."""
        rows_per_step = self.config.batch_size * self.settings.grad_accum_steps
        order_N = torch.empty(0)
        for step in range(self.counters.step, self.total_steps):
            epoch, index = divmod(step, self.steps_per_epoch)
            if index == 0 or not len(order_N):
                order_N = epoch_order(len(self.train_data), seed=self.config.seed, epoch=epoch)
            rows = order_N[index * rows_per_step : (index + 1) * rows_per_step]
            yield step, torch.split(rows, self.config.batch_size)

    def _step(self, step: int, rows: tuple[Tensor, ...]) -> None:
        started = time.monotonic()
        peak_lr = self.config.optimizer_params.lr
        lr = peak_lr * lr_factor(step, self.total_steps, self.config.scheduler_params)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        if ranks.size() > 1:  # each draws its own, and a resumed training the same
            torch.manual_seed(derive(self.config.seed, "noise", ranks.rank(), step))
        sums: dict[str, Tensor] = {}
        with ranks.sharing_a_batch():
            for index, rows_B in enumerate(rows):
                is_last = index + 1 == len(rows)
                with nullcontext() if is_last else ranks.not_averaging(self.forward):
                    terms = self._gradients(rows_B, step / self.total_steps, len(rows))
                for name, value in terms.items():
                    sums[name] = sums.get(name, 0.0) + value.detach().float() / len(rows)
                self.counters.tokens += self.train_data.num_tokens(rows_B)
            sums |= self._update()
        self._loss = sums["loss"]
        is_new = (self._bad_step < 0) & ~torch.isfinite(self._loss)
        self._bad_step = torch.where(is_new, step + 1, self._bad_step)
        for name, value in {**sums, "steps": torch.ones((), device=self.device)}.items():
            self._window[name] = self._window[name] + value if name in self._window else value
        self.counters.step = step + 1
        self.counters.train_seconds += time.monotonic() - started
        if self.device.type == "cpu":  # elsewhere looking would wait for the device
            self._raise_if_diverged()

    def _gradients(self, rows_B: Tensor, progress: float, num_batches: int) -> dict[str, Tensor]:
        """Add the gradients of this rank's share of a batch; return what is recorded of it all."""
        own_B = ranks.share(rows_B)
        batch = self.train_data.take(own_B) if len(own_B) else self.train_data.nothing()
        with self.autocast():
            output = self.forward(batch.ids_BL, batch.mask_BL, batch.labels, progress)
            loss = ranks.mean(output.loss, output.num_targets)
            aux = sum(term.weight * term.value for term in output.aux_losses.values())
        self.scaler.scale((loss + aux) / num_batches).backward()
        terms = {f"aux_{name}": term.value for name, term in output.aux_losses.items()}
        drops = {
            f"drop_rate_layer{record.layer}": ranks.mean(drop_rate(record), batch.num_tokens)
            for record in output.routing
            if record.dropped_TK is not None
        }
        return {"loss": loss, **terms, **drops}

    def _update(self) -> dict[str, Tensor]:
        """Apply the gradients and return their norms before clipping: all, and the router's."""
        norms = {}
        self.scaler.unscale_(self.optimizer)
        routing = [p.grad for p in self.routing_parameters if p.grad is not None]
        if self.routing_parameters:
            norms["router_grad_norm"] = nn.utils.get_total_norm(routing)
        parameters = [p for p in self.network.parameters() if p.grad is not None]
        clip = self.config.optimizer_params.grad_clip_norm
        norms["grad_norm"] = nn.utils.clip_grad_norm_(parameters, clip if clip else math.inf)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.network.after_step()
        return norms

    def _raise_if_diverged(self) -> None:
        bad_step = int(self._bad_step)
        if bad_step >= 0:
            self.recorder.log({"train_loss": float(self._loss)}, step=bad_step)
            raise DivergedError(bad_step)

    def _log_training(self) -> None:
        self._raise_if_diverged()
        steps = float(self._window.pop("steps"))
        means = {name: float(total) / steps for name, total in self._window.items()}
        self._window.clear()
        norm = means.pop("grad_norm")
        tokens, seconds = self.counters.tokens, self.counters.train_seconds
        points = {f"train_{name}": value for name, value in means.items()} | {
            "grad_norm": norm,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "tokens_seen": tokens,
            "train_flops": 3 * self.flops_per_token * tokens,
            "train_tokens_per_second": tokens / seconds,
        }
        self.recorder.log(points, step=self.counters.step)
        self.experts.trained(means)

    def _evaluate(self) -> None:
        self._raise_if_diverged()
        self.latest = self.measure(max_batches=self.settings.max_eval_batches)
        scores = self.latest.named("val")
        step = self.counters.step
        experts = {f"val_{name}": value for name, value in self.latest.experts.scores.items()}
        self.recorder.log({**scores, **experts}, step=step)
        is_last = step == self.total_steps
        self.experts.evaluated(self.latest.experts, step=step, is_last=is_last)
        for name, value in scores.items():
            best_of = max if name in {"val_f1", "val_acc"} else min
            self.counters.best_seen[name] = best_of(self.counters.best_seen.get(name, value), value)
        if self._improves(scores[self.monitor]):
            self.counters.best_score = scores[self.monitor]
            self.counters.best_step = step
            self.counters.evaluations_since_best = 0
            self.save_weights(self.files.best)
        else:
            self.counters.evaluations_since_best += 1
        self.save_resume_point()

    def measure(self, *, max_batches: int | None = None) -> Evaluation:
        """Return the scores of the present weights on the validation split."""
        return evaluate(
            self.network,
            self.validation_data,
            batch_size=self.config.batch_size,
            autocast=self.autocast,
            max_batches=max_batches,
        )

    def _improves(self, score: float) -> bool:
        best = self.counters.best_score
        if best is None or score != score:
            return best is None
        return score > best if self.direction == "max" else score < best

    def _patience_ended(self) -> bool:
        patience = self.settings.early_stopping_patience
        return patience is not None and self.counters.evaluations_since_best >= patience

    def save_weights(self, path: Path) -> None:
        """Write the present weights; all ranks return when it is done."""
        if ranks.rank() == 0:
            config_json = self.config.model_dump_json(by_alias=True)
            checkpoint.save_weights(
                path, self.network, config_json=config_json, step=self.counters.step
            )
        ranks.firsts(None)

    def save_resume_point(self) -> None:
        """Write the point from which this training, on all its ranks, would continue."""
        if ranks.rank() == 0:
            self.counters.window = {name: float(total) for name, total in self._window.items()}
            checkpoint.save_resume_point(
                self.files.resume, self.network, self.optimizer, self.scaler, self.counters
            )
        self._saved_at = time.monotonic()

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._shown_at < PROGRESS_INTERVAL_S and self.counters.step < self.total_steps:
            return
        self._shown_at = now
        done = self.counters
        scores = {} if self.latest is None else self.latest.named("val")
        self.watcher.progress(
            Progress(
                step=done.step,
                total_steps=self.total_steps,
                tokens_per_second=done.tokens / done.train_seconds,
                seconds_left=done.total_seconds / done.step * (self.total_steps - done.step),
                loss=float(self._loss),
                scores=scores,
            )
        )
