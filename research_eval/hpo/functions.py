"""A Python function as a search sees it: its arguments are searched, its calls are the runs."""

from __future__ import annotations

import inspect
import json
import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from research_eval.ending import ending
from research_eval.errors import (
    DivergedError,
    PrunedError,
    ResearchEvalError,
    RunError,
    StoppedError,
    StoreError,
)
from research_eval.execute import BEFORE_ALL_STEPS
from research_eval.hpo.problem import Candidate, Work
from research_eval.hpo.space import Space
from research_eval.hpo.spec import StudySpec
from research_eval.interrupt import stop_on_signals
from research_eval.jobs import Bench, Result, TaskWatcher
from research_eval.knobs import Knob, Uniform
from research_eval.records import NewRun, RunRecord, RunStatus
from research_eval.store import RunWriter
from research_eval.training.progress import StopSignal

OBJECTIVE = "value:min"
"""What a function returns, if nothing is said: something to minimise, as Optuna has it."""

ARM = "objective"
"""The only arm of a function that does not name any."""


class FunctionTrial:
    """What the objective function is called with.

    Attributes:
        params: What is tried, by name.
        arm: The arm that it belongs to.
        number: Of the trial.
        seed: Of this call.
    """

    def __init__(
        self, work: Work, names: Sequence[str], writer: RunWriter, asked: Callable[..., bool]
    ) -> None:
        self.params = work.candidate.params
        self.arm = work.candidate.arm
        self.number = work.place.trial
        self.seed = work.seed
        self.last_step = -1
        self._names = names
        self._writer = writer
        self._asked = asked

    def report(self, step: int, value: float | Mapping[str, float]) -> None:
        """Record scores on the way; the study may end the trial here.

        Args:
            step: Of the trial's own progress.
            value: Of the first objective, or several by name.

        Raises:
            PrunedError: If other trials did better; let it pass.
        """
        values = value if isinstance(value, Mapping) else {self._names[0]: float(value)}
        self._writer.log(values, step=step)
        self.last_step = max(self.last_step, step)
        if self._asked(step, values):
            raise PrunedError(step)


Function = Callable[[FunctionTrial], float | Sequence[float] | Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Call:
    """A `Task`: one call of the function, recorded as a run."""

    function: Function
    names: tuple[str, ...]
    new: NewRun
    work: Work

    @property
    def seed(self) -> int:
        """Of the call."""
        return self.work.seed

    def carry_out(self, bench: Bench, watcher: TaskWatcher) -> Result:
        """Call the function and record what it returns."""
        try:
            store = bench.store()
            if self.work.continued is None:
                writer = store.begin(self.new)
            else:
                writer = store.resume(self.work.continued, step=BEFORE_ALL_STEPS)
        except StoreError as error:
            return Result(self, "failed", None, error)
        problem = self._call(writer, watcher)
        record = store.run(writer.experiment_id)
        return Result(self, "ran" if problem is None else "failed", record, problem)

    def _call(self, writer: RunWriter, watcher: TaskWatcher) -> ResearchEvalError | None:
        status, text, problem = RunStatus.COMPLETED, None, None
        try:
            with stop_on_signals() as stop:
                trial = FunctionTrial(self.work, self.names, writer, self._asker(watcher, stop))
                values = self._named(self.function(trial))
                writer.log(values, step=trial.last_step + 1)
                if any(not math.isfinite(values[n]) for n in self.names if n in values):
                    raise DivergedError(trial.last_step + 1)
        except BaseException as error:  # whatever the function does, its run gets the true end
            status, text = ending(error)
            problem = _told(error)
            if problem is None:
                writer.finish(status, error=text)
                raise
        writer.finish(status, error=text)
        return problem

    def _asker(self, watcher: TaskWatcher, stop: StopSignal) -> Callable[..., bool]:
        def asked(step: int, values: Mapping[str, float]) -> bool:
            scores = {n: values[n] for n in self.work.reports if n in values}
            is_over = bool(scores) and watcher.report(step, scores)
            if stop.number is not None:
                raise StoppedError(stop.number, step)
            return is_over

        return asked

    def _named(self, returned: float | Sequence[float] | Mapping[str, float]) -> dict[str, float]:
        if isinstance(returned, Mapping):
            return {str(name): float(value) for name, value in returned.items()}
        values = returned if isinstance(returned, Sequence) else [returned]
        if len(values) != len(self.names):
            wanted = ", ".join(self.names)
            raise ValueError(f"the function returned {len(values)} values for {wanted}")
        return {name: float(value) for name, value in zip(self.names, values, strict=True)}


def _told(error: BaseException) -> ResearchEvalError | None:
    """Return the error to report; None for what must leave the process, as `SystemExit` does."""
    if isinstance(error, ResearchEvalError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return StoppedError(2)
    if isinstance(error, Exception):
        return RunError(f"{type(error).__name__}: {error}")
    return None


@dataclass(slots=True)
class Functions:
    """The `Problem` of a function.

    Args:
        spec: Of the study.
        function: Called with a `FunctionTrial`.
        space: The range of every argument.
    """

    spec: StudySpec
    function: Function
    space: Mapping[str, Knob]
    data: tuple[str, str] = field(init=False)
    spaces: dict[str, Space] = field(init=False)
    first_seed: int = 0

    def __post_init__(self) -> None:
        if not self.spec.objectives:
            self.spec = replace(self.spec, objectives=(OBJECTIVE,))
        integers = frozenset(name for name, knob in self.space.items() if _is_whole(knob))
        arms = self.spec.arms or (ARM,)
        self.spaces = {arm: Space(dict(self.space), integers, {}) for arm in arms}
        self.data = ("function", getattr(self.function, "__name__", "function"))

    def fixed_part(self, arm: str) -> Mapping[str, Any]:  # noqa: ARG002 - arms share the function
        """Return nothing: all that a function takes is searched."""
        return {}

    def code_hash(self, arm: str) -> str | None:  # noqa: ARG002 - likewise
        """Return None: what a function calls is not known."""
        return None

    def complete(self, arm: str, sampled: Mapping[str, Any], name: str) -> Candidate:
        """Return the proposal as it is."""
        origin = {"kind": "study", "parent": self.spec.name, "changed": dict(sampled)}
        tree = {
            "experiment_name": name,
            "model_type": arm,
            "params": dict(sampled),
            "origin": origin | {"repairs": []},
        }
        return Candidate(arm, dict(sampled), (), json.dumps(tree))

    def tried_by(self, run: RunRecord) -> Candidate | None:
        """Return the arguments of a recorded call of the function, if they are searched here."""
        tree = json.loads(run.full_config_json)
        arm, params = run.model_type or "", tree.get("params")
        is_ours = json.loads(run.env_details_json) == {"function": self._source()}
        if (
            not is_ours
            or arm not in self.spaces
            or params is None
            or set(params) != set(self.space)
        ):
            return None
        return self.complete(arm, params, tree["experiment_name"])

    def _source(self) -> str:
        return f"{inspect.getmodule(self.function)}:{self.data[1]}"

    def task(self, work: Work) -> Call:
        """Return the call of the function."""
        names = tuple(objective.name for objective in self.spec.parsed_objectives)
        return Call(self.function, names, self.unstarted(work), work)

    def unstarted(self, work: Work) -> NewRun:
        """Return the record of a call before it was made."""
        tree = json.loads(work.candidate.config_json) | {"seed": work.seed}
        return NewRun(
            experiment_id=secrets.token_hex(6),
            run_type="optuna_trial",
            experiment_name=tree["experiment_name"],
            full_config_json=json.dumps(tree),
            env_details_json=json.dumps({"function": self._source()}),
            model_type=work.candidate.arm,
            seed=work.seed,
            study=work.place.study,
            trial=work.place.trial,
            phase=work.place.phase,
            parent=work.place.parent,
        )


def _is_whole(knob: Knob) -> bool:
    """Return whether a range has only whole numbers: ends that are integers, and their steps."""
    if isinstance(knob, Uniform) and not isinstance(knob.step or 1, int):
        return False
    return all(isinstance(end, int) and not isinstance(end, bool) for end in knob.corners())
