"""How many processes share the work, as the options say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Self

import typer

from research_eval.cli._options import split_commas
from research_eval.processes import launched, quiet_torch

WorkersOption = Annotated[int, typer.Option(min=1, help="Processes that share the runs.")]

WorkersOrNoneOption = Annotated[
    int,
    typer.Option(
        min=0, help="Processes that carry out trials, a fresh one for each; 0 uses this one."
    ),
]

NprocOption = Annotated[
    int, typer.Option("--nproc", min=1, metavar="N", help="Processes that share each run.")
]

GpusOption = Annotated[
    list[str] | None,
    typer.Option(metavar="IDS", help="One process for each of these GPUs, for example 0,2,3."),
]


@dataclass(frozen=True, slots=True)
class Crew:
    """The processes that share the work.

    Attributes:
        workers: How many; 0 for none but this one.
        gpus: The GPU of each; empty to let the configurations say the device.
        nproc: How many share each run instead.
    """

    workers: int = 1
    gpus: tuple[int, ...] = ()
    nproc: int = 1

    @classmethod
    def sharing(cls, nproc: int, workers: int, gpus: list[str] | None) -> Self:
        """Read the options of a command whose runs several processes can share.

        Raises:
            typer.BadParameter: If they do not go together, or a launcher started processes.
        """
        crew, here = cls.of(workers, gpus), launched()
        if here is not None:
            if nproc > 1 or crew != cls():
                option = "--nproc" if nproc > 1 else "--gpus" if gpus else "--workers"
                told = f"cannot start processes: a launcher has started {here.size} already"
                raise typer.BadParameter(told, param_hint=option)
            return cls(nproc=here.size)
        if nproc > 1 and crew != cls():
            told = "shares each run, one after the other; leave out "
            told += "--gpus" if gpus else "--workers"
            raise typer.BadParameter(told, param_hint="--nproc")
        if nproc > 1:
            quiet_torch()
        return replace(crew, nproc=nproc)

    @classmethod
    def of(cls, workers: int, gpus: list[str] | None) -> Self:
        """Read the two options.

        Raises:
            typer.BadParameter: If both are given, or an id is no number or appears twice.
        """
        ids = split_commas(gpus)
        if not all(each.isdecimal() for each in ids) or len(set(ids)) < len(ids):
            raise typer.BadParameter(
                f"takes ids of GPUs, each once, as in 0,2,3, not '{','.join(ids)}'",
                param_hint="--gpus",
            )
        if ids and workers > 1:
            raise typer.BadParameter("says already how many processes", param_hint="--gpus")
        return cls(len(ids) or workers, tuple(map(int, ids)))

    def at_most(self, tasks: int) -> Self:
        """Return the crew without processes that would have nothing to do."""
        return replace(self, workers=min(self.workers, tasks), gpus=self.gpus[:tasks])

    def in_words(self) -> str:
        """Return how many there are, and what each gets."""
        from research_eval.executors import threads_each

        share = threads_each(max(1, self.workers))
        where = f" on GPU {', '.join(map(str, self.gpus))}" if self.gpus else ""
        return (
            f"{self.workers} workers{where} with {share} CPU threads each; "
            "another number of threads may change the last digits of results"
        )
