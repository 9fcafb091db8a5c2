"""Examines a component promise by promise; what `research-eval check` shows. Needs no pytest."""

from __future__ import annotations

import inspect
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from research_eval.config import Experiment, validate
from research_eval.errors import ConfigError, PluginError, ResearchEvalError, did_you_mean
from research_eval.registry import DATASETS_MAP, MAPS, ROUTERS_MAP, plugin_reference
from research_eval.spec import (
    DatasetSpec,
    LoadContext,
    ModelSpec,
    RouterSpec,
    Task,
    TransformerParams,
)
from research_eval.testing.dataset_checks import DATASET_CHECKS, DatasetSubject, small_sizes
from research_eval.testing.model_checks import MODEL_CHECKS
from research_eval.testing.router_checks import ROUTER_CHECKS
from research_eval.testing.subject import SMALL, Subject
from research_eval.testing.variants import variants

TASKS: tuple[Task, ...] = ("classification", "language_modeling")


class Outcome(StrEnum):
    """What became of a promise."""

    KEPT = "kept"
    BROKEN = "BROKEN"
    WAIVED = "waived"
    UNCONCERNED = "n/a"


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one promise.

    Attributes:
        reason: How it is broken, or why it is waived.
        seconds: That it took to find out.
    """

    promise: str
    outcome: Outcome
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise of one component under one setting.

    Attributes:
        sentence: What is promised.
        test: Raises `AssertionError` if it is broken.
        concerns: Whether there is anything to keep.
        waiver: Why it is not promised in training; it is tested in evaluation all the same.
    """

    sentence: str
    test: Callable[[], None]
    concerns: Callable[[], bool] = lambda: True
    waiver: str | None = None

    def examine(self) -> Finding:
        """Find out whether it is kept; code that fails in any way does not keep it."""
        began = time.perf_counter()
        torch.manual_seed(0)
        outcome, reason = Outcome.KEPT, ""
        try:
            if not self.concerns():
                outcome = Outcome.UNCONCERNED
            else:
                self.test()
                if self.waiver is not None:
                    outcome, reason = Outcome.WAIVED, f"in training: {self.waiver}"
        except Exception as error:  # a plug-in may fail in any way; the report says which
            outcome, reason = Outcome.BROKEN, _in_words(error)
        return Finding(self.sentence, outcome, reason, time.perf_counter() - began)


@dataclass(frozen=True, slots=True)
class Case:
    """A component under one setting, with all that it promises there.

    Attributes:
        title: The setting in words.
        tasks: What it says something about.
        refusal: Why the component cannot be built so, if it says that itself.
    """

    title: str
    tasks: tuple[Task, ...]
    promises: tuple[Promise, ...]
    refusal: str = ""


def kind_of(name: str, base_dir: Path) -> str:
    """Return whether a name or `./file.py:Name` is a model, a router or a dataset.

    Raises:
        ConfigError: If it is none of them, or several.
    """
    reference = plugin_reference(name, base_dir)
    if reference is None:
        kinds = [kind for kind, known in MAPS.items() if name in set(known)]
        if not kinds:
            known_names = (each for known in MAPS.values() for each in known)
            raise ConfigError(f"unknown '{name}'; {did_you_mean(name, known_names)}")
        if len(kinds) > 1:
            raise ConfigError(f"'{name}' is a {' and a '.join(kinds)}; name one by its file")
        return kinds[0]
    found = reference.load()
    specs = {ModelSpec: "model", RouterSpec: "router", DatasetSpec: "dataset"}
    if type(found) in specs:
        return specs[type(found)]
    if isinstance(found, type) and issubclass(found, nn.Module):
        arguments = inspect.signature(found).parameters.values()
        needed = [each for each in arguments if each.default is inspect.Parameter.empty]
        if len(needed) in (1, 2):
            return ("router", "model")[len(needed) - 1]
    raise PluginError(
        f"{reference} is neither a model, built from (params, context), nor a router, built from "
        "(context), nor the spec of either or of a data set"
    )


def cases(
    name: str,
    *,
    settings: Sequence[str] = (),
    task: Task | None = None,
    every: bool = False,
    base_dir: Path | None = None,
) -> Iterator[Case]:
    """Yield the cases under which a component is examined.

    Args:
        name: Of a model, router or data set, or `./file.py:Name`.
        settings: `path=value` of `model_params`, or of `dataset_params` for a data set.
        task: Only for this task; for all that it can do by default.
        every: Whether to vary modes and numbers of experts, too.
        base_dir: Folder that a file starts from; the working directory by default.

    Raises:
        ConfigError: If there is no such component or it cannot be set so.
        DataError: If the data of a data set cannot be had.
    """
    folder = base_dir or Path.cwd()
    kind = kind_of(name, folder)
    section = "dataset_params" if kind == "dataset" else "model_params"
    for setting in settings:
        if not setting.startswith(f"{section}."):
            raise ConfigError(f"'{setting}' changes nothing here; settings begin with {section}.")
    if kind == "dataset":
        yield from _dataset_cases(name, settings, task, folder)
        return
    tasks = TASKS if task is None else (task,)
    if kind == "router":
        yield _router_case(name, settings, tasks, folder)
        yield from _model_cases(
            "moe", [f"model_params.router={name}", *settings], tasks, every, folder
        )
    else:
        yield from _model_cases(name, settings, tasks, every, folder)


def _model_cases(
    name: str, settings: Sequence[str], tasks: Sequence[Task], every: bool, folder: Path
) -> Iterator[Case]:
    experiment = _experiment(folder, settings, model=name)
    fixed = {setting.partition("=")[0].rpartition(".")[2] for setting in settings}
    params = experiment.config.model_params
    for setting, varied in variants(params, fixed) if every else [("", params)]:
        refused = 0
        for task in tasks:
            title = ", ".join(part for part in (name, task.replace("_", " "), setting) if part)
            subject = Subject(
                spec=experiment.model, params=varied, task=task, find_router=experiment.find_router
            )
            try:
                _must_work(subject.network, f"model {name}")
            except ConfigError as error:
                refused += 1
                if isinstance(error, PluginError) or (not setting and refused == len(tasks)):
                    raise
                yield Case(title, (task,), (), refusal=str(error))
                continue
            yield Case(title, (task,), _model_promises(subject))


def _model_promises(subject: Subject) -> tuple[Promise, ...]:
    waived = subject.network().waives()
    return tuple(
        Promise(
            check.promise,
            partial(check.run, subject),
            partial(check.applies, subject),
            waived.get(check.waiver),
        )
        for check in MODEL_CHECKS
    )


def _router_case(name: str, settings: Sequence[str], tasks: tuple[Task, ...], folder: Path) -> Case:
    params = _moe_params(name, settings, folder)
    spec = ROUTERS_MAP.find(name, folder)
    promises = (Promise(each.promise, partial(each.run, spec, params)) for each in ROUTER_CHECKS)
    return Case(f"{name} alone", tasks, tuple(promises))


def _moe_params(router: str, settings: Sequence[str], folder: Path) -> TransformerParams:
    named = [f"model_params.router={router}", *settings]
    return _experiment(folder, named, model="moe").config.model_params


def _dataset_cases(
    name: str, settings: Sequence[str], task: Task | None, folder: Path
) -> Iterator[Case]:
    spec = DATASETS_MAP.find(name, folder)
    if task is not None and task not in spec.tasks:
        raise ConfigError(f"{name} is for {' and '.join(spec.tasks)}, not for {task}")
    asked: tuple[Task, ...] = spec.tasks if task is None else (task,)
    is_choice = "task" in spec.params.model_fields
    for group in [(each,) for each in asked] if is_choice else [asked]:
        chosen = [f"dataset_params.task={group[0]}"] if is_choice else []
        experiment = _experiment(folder, [*chosen, *settings], dataset=name)
        with tempfile.TemporaryDirectory() as cache:
            context = LoadContext(folder, Path(cache))
            subject = DatasetSubject(spec, experiment.config.dataset_params, context)
            _must_work(partial(getattr, subject, "dataset"), f"data set {name}")
            title = f"{name}, {' or '.join(group).replace('_', ' ')}"
            promises = tuple(
                Promise((run.__doc__ or "").splitlines()[0], partial(run, subject))
                for run in DATASET_CHECKS
            )
            yield Case(title, group, promises)


def _experiment(
    folder: Path, settings: Sequence[str], *, model: str = "dense", dataset: str = "parity"
) -> Experiment:
    tree = {
        "experiment_name": "check",
        "model_type": model,
        "model_params": SMALL,
        "dataset_name": dataset,
        "dataset_params": small_sizes(DATASETS_MAP.find(dataset, folder)),
    }
    return validate(tree, overrides=settings, base_dir=folder)


def _must_work(make: Callable[[], Any], what: str) -> None:
    try:
        make()
    except ResearchEvalError:
        raise
    except Exception as error:  # a plug-in may fail in any way; the user is told which
        raise PluginError(f"{what} does not work: {_in_words(error)}") from error


def _in_words(error: Exception) -> str:
    """Return the message of a failed check; of any other mistake what it is and where."""
    if isinstance(error, AssertionError) and str(error):
        return str(error)
    where = traceback.extract_tb(error.__traceback__)[-1]
    told = f"{type(error).__name__}: {error}".rstrip(": ")
    return f"{told} ({Path(where.filename).name}, line {where.lineno})"
