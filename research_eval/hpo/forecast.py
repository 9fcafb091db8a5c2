"""What a study would cost: a few real steps of each arm are timed, nothing is recorded."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from research_eval.config import Experiment, load_text
from research_eval.errors import ConfigError
from research_eval.hpo.configurations import Configurations
from research_eval.hpo.space import Space, grid_values
from research_eval.prepare import Plan, build_network, plan, prepare
from research_eval.records import ListRecorder
from research_eval.training.progress import Nobody, StopSignal, Watcher
from research_eval.training.train import Files, Trainer, steps_of

EVAL_EVERY = 3
"""Steps between the evaluations of a sample: three are made, and the first steps and the first
evaluation are not timed, since they load and allocate what all others use again."""
TIMED_BATCHES = 4
"""Of the validation split."""


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
        smallest: Cost of a run with every whole number at its lowest; likewise `largest`.
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
    for arm, trials in spec.shares(tuple(problem.spaces)).items():
        costs = [_cost(_extreme(problem, arm, place), watcher, num_threads) for place in (0, -1)]
        found.append(Forecast(arm, trials, trials * spec.seeds + spec.confirm, *costs))
    return found


def _extreme(problem: Configurations, arm: str, place: int) -> Experiment:
    """Return an arm's configuration with every whole number at one end, the rest at defaults."""
    space: Space = problem.spaces[arm]
    ends = {
        path: sorted(grid_values(knob, is_integer=True))[place]
        for path, knob in space.knobs.items()
        if path in space.integers
    }
    candidate = problem.complete(arm, ends, f"{problem.spec.name} {arm}")
    if candidate is None:
        raise ConfigError(
            f"no configuration of {arm} is legal with {ends} and what the base fixes; "
            "free one of the related parameters with --search path"
        )
    return load_text(candidate.config_json, base_dir=problem.spec.base_dir)


def _cost(experiment: Experiment, watcher: Watcher, num_threads: int) -> Cost:
    prepared = prepare(experiment, watcher)
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
        network = build_network(prepared)
        Trainer(short, network, prepared.dataset, clock, files, Nobody(), StopSignal()).run()
    torch.set_num_threads(before)
    per_step, sampled_evaluation = clock.paces()
    per_evaluation = sampled_evaluation * batches / min(batches, TIMED_BATCHES)
    return Cost(steps * per_step + evaluations * per_evaluation, plan(prepared))


@dataclass(slots=True)
class _Clock(ListRecorder):
    """A recorder that notes when each step was over."""

    times: dict[int, float] = field(default_factory=dict)

    def log(self, values: Mapping[str, float], *, step: int) -> None:  # noqa: ARG002 - only the time counts
        """Note the time of the step's first point; an evaluation comes after that."""
        self.times.setdefault(step, time.perf_counter())

    def paces(self) -> tuple[float, float]:
        """Return the seconds of a step, and of an evaluation with what is saved after it."""
        middle = 2 * EVAL_EVERY
        gaps = {step: self.times[step] - self.times[step - 1] for step in self.times if step > 1}
        steps = [gaps[s] for s in gaps if s > EVAL_EVERY and s % EVAL_EVERY != 1]
        per_step = statistics.median(steps)
        return per_step, max(0.0, gaps[middle + 1] - per_step)
