"""What a study would cost: a few real steps of each arm are timed, nothing is recorded."""

from __future__ import annotations

import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from research_eval.config import Experiment, load_text
from research_eval.errors import (
    CollapsedError,
    ConfigError,
    DivergedError,
    NoMatchError,
    StoppedError,
)
from research_eval.hpo.configurations import Configurations
from research_eval.knobs import is_number
from research_eval.prepare import Plan, Prepared, build_network, plan, prepare, prepare_with
from research_eval.records import ListRecorder
from research_eval.spec import Dataset
from research_eval.training.progress import Nobody, StopSignal, Watcher
from research_eval.training.train import Files, Trainer, steps_of

EVAL_EVERY = 3
"""Steps between the evaluations of a sample: three are made, and the first steps and the first
evaluation are not timed, since they load and allocate what all others use again."""
TIMED_BATCHES = 4
"""Of the validation split."""
LONGEST_SAMPLE_S = 5.0
"""After which a sample ends with the step that goes on; then its quickest step counts."""

_End = Callable[..., Any]
"""`min` or `max`."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run costs.

    Attributes:
        seconds: Of training with its evaluations, at the pace of a few steps on this machine now.
        plan: What follows from the configuration alone.
    """

    seconds: float
    plan: Plan


@dataclass(frozen=True, slots=True)
class Forecast:
    """What an arm costs, nothing pruned.

    Attributes:
        runs: How many are made: one for each trial and seed, and those that confirm.
        smallest: Cost of a run with everything that changes costs at its least; `largest`, at its
            most.
    """

    arm: str
    trials: int
    runs: int
    smallest: Cost
    largest: Cost


def forecast(problem: Configurations, watcher: Watcher, *, num_threads: int) -> list[Forecast]:
    """Return what each arm of a study would cost.

    Args:
        problem: Of the study.
        watcher: Told while data is prepared.
        num_threads: CPU threads that a run would have.

    Raises:
        ConfigError: If a configuration does not fit its data.
        DataError: If its data cannot be had.
    """
    spec = problem.spec
    found = []
    dataset = None
    for arm, trials in spec.shares(tuple(problem.spaces)).items():
        if dataset is None:  # all arms have the same
            dataset = prepare(_experiment(problem, arm, {}), watcher).dataset
            _cost(_extreme(problem, arm, dataset, min), num_threads)  # what is loaded once
        costs = [_cost(_extreme(problem, arm, dataset, end), num_threads) for end in (min, max)]
        found.append(Forecast(arm, trials, trials * spec.seeds + spec.confirm, *costs))
    return found


def _extreme(problem: Configurations, arm: str, dataset: Dataset, end: _End) -> Prepared:
    """Return an arm's configuration with everything that changes costs at one end.

    Numbers are at their least or their greatest. Of other options the one counts that takes the
    fewest or the most operations. How weights are updated stays at its defaults. If the study
    scales to a cost that no model at that end can have, the model is that of the defaults.
    """
    knobs = {
        path: knob.corners()
        for path, knob in problem.spaces[arm].knobs.items()
        if path.partition(".")[0] not in ("optimizer_params", "scheduler_params")
    }
    values = {path: end(ends) for path, ends in knobs.items() if all(map(is_number, ends))}
    for path in knobs.keys() - values.keys():
        plans = {}
        for option in knobs[path]:
            with suppress(ConfigError):  # not with the others, or not on this data
                tried = _experiment(problem, arm, {**values, path: option})
                made = plan(prepare_with(dataset, tried))
                plans[option] = made.flops, made.memory_bytes
        if plans:
            values[path] = end(plans, key=plans.__getitem__)
    try:
        experiment = _experiment(problem, arm, values)
    except NoMatchError:
        others = {path: v for path, v in values.items() if not path.startswith("model_params.")}
        experiment = _experiment(problem, arm, others)
    return prepare_with(dataset, experiment)


def _experiment(problem: Configurations, arm: str, values: Mapping[str, Any]) -> Experiment:
    candidate = problem.complete(arm, values, f"{problem.spec.name} {arm}")
    if candidate is None:
        raise ConfigError(
            f"no configuration of {arm} is legal with {dict(values)} and what the base fixes; "
            "free one of the related parameters with --search path"
        )
    return load_text(candidate.config_json, base_dir=problem.spec.base_dir)


def _cost(prepared: Prepared, num_threads: int) -> Cost:
    config = prepared.experiment.config
    per_epoch, steps = steps_of(config, len(prepared.dataset.train))
    every = config.training_params.eval_every
    evaluations = -(-steps // (per_epoch if every == "epoch" else every))
    batches = -(-len(prepared.dataset.validation) // config.batch_size)
    batches = min(batches, config.training_params.max_eval_batches or batches)
    sample = {
        "training_params.max_steps": 3 * EVAL_EVERY,
        "training_params.eval_every": EVAL_EVERY,
        "training_params.log_every": 1,
        "training_params.max_eval_batches": min(batches, TIMED_BATCHES),
    }
    short = prepared.experiment.with_fields(sample).config
    clock = _Clock()
    before = torch.get_num_threads()
    torch.set_num_threads(config.training_params.num_threads or num_threads)
    with tempfile.TemporaryDirectory(prefix="research-eval-") as folder:
        files = Files(Path(folder))
        trainer = Trainer(
            short, build_network(prepared), prepared.dataset, clock, files, Nobody(), clock.stop
        )
        clock.began = time.perf_counter()
        with suppress(StoppedError, DivergedError, CollapsedError):  # what was timed counts
            trainer.run()
    torch.set_num_threads(before)
    per_step, sampled_evaluation = clock.paces(min(batches, TIMED_BATCHES))
    per_evaluation = sampled_evaluation * batches / min(batches, TIMED_BATCHES)
    return Cost(steps * per_step + evaluations * per_evaluation, plan(prepared))


@dataclass(slots=True)
class _Clock(ListRecorder):
    """A recorder that notes when each step was over, and ends the sample when it takes long."""

    times: dict[int, float] = field(default_factory=dict)
    began: float = 0.0
    stop: StopSignal = field(default_factory=StopSignal)

    def log(self, values: Mapping[str, float], *, step: int) -> None:  # noqa: ARG002 - only the time counts
        """Note the time of the step's first point; an evaluation comes after that."""
        now = time.perf_counter()
        self.times.setdefault(step, now)
        if now - self.began > LONGEST_SAMPLE_S:
            self.stop.number = signal.SIGTERM

    def paces(self, batches: int) -> tuple[float, float]:
        """Return the seconds of a step, and of an evaluation with what is saved after it.

        Args:
            batches: Of an evaluation.
        """
        middle = 2 * EVAL_EVERY
        gaps = {step: self.times[step] - self.times[step - 1] for step in self.times if step > 1}
        steps = [gaps[s] for s in gaps if s > EVAL_EVERY and s % EVAL_EVERY != 1]
        if middle + 1 in gaps:
            per_step = statistics.median(steps)
            return per_step, max(0.0, gaps[middle + 1] - per_step)
        per_step = min(gaps.values(), default=time.perf_counter() - self.began)
        return per_step, batches * per_step / 3  # forward is a third of a step
