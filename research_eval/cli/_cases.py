"""What `run` is asked to run: files, settings, and what is varied."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from research_eval.cli._records import field_text
from research_eval.cli._render import Column, write
from research_eval.errors import ConfigError, Issue

if TYPE_CHECKING:
    from research_eval.config import Experiment
    from research_eval.sweeps import Axis, Variant


@dataclass(frozen=True, slots=True)
class Cases:
    """Configurations to run.

    Attributes:
        experiments: By file and what is varied in it.
        words: What stands behind `run` for the same case alone, by the same key.
        seeds: Of each case; empty for the configuration's own.
        group: What the runs belong to; None for nothing.
        varied: Dotted paths of what is varied.
    """

    experiments: dict[str, Experiment]
    words: dict[str, list[str]]
    seeds: list[int]
    group: str | None
    varied: tuple[str, ...]

    def seeds_of(self, label: str) -> list[int]:
        """Return the seeds of a case."""
        return self.seeds or [self.experiments[label].config.seed]

    def require_one(self) -> None:
        """Refuse more than one run.

        Raises:
            ConfigError: If there are several.
        """
        count = sum(len(self.seeds_of(label)) for label in self.experiments)
        if count > 1:
            raise ConfigError(
                f"{count} runs are asked for, but the processes of a launcher carry out one; "
                "take --nproc instead, which starts processes for each, or one seed of one file"
            )

    def columns(self) -> list[Column]:
        """Return a column for each path that is varied, under its last name if that says enough."""
        last = [path.rpartition(".")[2] for path in self.varied]
        titles = last if len(set(last)) == len(last) else self.varied
        return [
            Column(path, title, field_text) for path, title in zip(self.varied, titles, strict=True)
        ]

    def print_commands(self, words: Sequence[str]) -> None:
        """Print a command for each run.

        Args:
            words: What stands at the end of each.
        """
        for label, own in self.words.items():
            for seed in self.seeds_of(label):
                write(shlex.join(["research-eval", "run", *own, "--seeds", f"{seed},", *words]))


def gather(
    files: Sequence[str],
    overrides: Sequence[str],
    sweep: Sequence[str] | None,
    ablate: Sequence[str] | None,
    *,
    seeds: list[int],
    group: str | None,
) -> Cases:
    """Return every variant of every file, or raise with the mistakes of all.

    Raises:
        ConfigError: If one is not legal.
    """
    from research_eval.sweeps import Axis, group_name, variants, with_origin

    swept, seeds = _without_seeds([Axis.parse(text) for text in sweep or ()], seeds)
    ablated = [Axis.parse(text) for text in ablate or ()]
    cases = {
        _label(file, variant): (file, variant)
        for file in files
        for variant in variants(swept, ablated)
    }
    experiments = _load(cases, overrides)
    if sweep or ablate:
        names = list(dict.fromkeys(each.config.experiment_name for each in experiments.values()))
        group = group or group_name(names, overrides, (*swept, *ablated))
        experiments = {
            label: with_origin(experiment, cases[label][1], group)
            for label, experiment in experiments.items()
        }
    words = {label: _words(*case, overrides) for label, case in cases.items()}
    varied = tuple(axis.path for axis in (*swept, *ablated))
    return Cases(experiments, words, seeds, group, varied)


def _without_seeds(axes: list[Axis], seeds: list[int]) -> tuple[list[Axis], list[int]]:
    """Return the axes but that of the seed, whose values become seeds: they share the data."""
    swept = [value for axis in axes if axis.path == "seed" for value in axis.values]
    if not all(value.isdecimal() for value in swept):
        return axes, seeds  # the configuration says what is wrong with it
    if swept and seeds:
        raise typer.BadParameter("is given, so seed cannot be swept too", param_hint="--seeds")
    return [axis for axis in axes if axis.path != "seed"], [*map(int, swept)] or seeds


def _label(file: str, variant: Variant) -> str:
    from research_eval.sweeps import settings

    return " ".join([file, *settings(variant)])


def _words(file: str, variant: Variant, overrides: Sequence[str]) -> list[str]:
    from research_eval.sweeps import settings

    varied = [word for setting in settings(variant) for word in ("--sweep", setting)]
    return [file, *overrides, *varied]


def _load(cases: dict[str, tuple[str, Variant]], overrides: Sequence[str]) -> dict[str, Experiment]:
    from research_eval.config import load_file
    from research_eval.sweeps import settings

    loaded: dict[str, Experiment] = {}
    wrong: list[tuple[str, ConfigError]] = []
    for label, (file, variant) in cases.items():
        try:
            loaded[label] = load_file(Path(file), [*overrides, *settings(variant)])
        except ConfigError as error:
            wrong.append((label, error))
    if len(wrong) == 1:
        raise wrong[0][1]
    if wrong:
        issues = [
            Issue(label, str(issue)) for label, error in wrong for issue in error.issues or (error,)
        ]
        raise ConfigError(f"{len(wrong)} of {len(cases)} configurations are not legal", issues)
    return loaded
