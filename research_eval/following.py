"""A process that trains with others and is not the first of them: it is silent and records nothing.

The first rank tells it what to take part in. It does the same steps and the same evaluations on
its share of the rows, so that it comes to the same end, and leaves.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from research_eval import ranks
from research_eval.allocator import tune_allocator
from research_eval.config import load_text
from research_eval.errors import CollapsedError, DivergedError, RunError, StoppedError
from research_eval.handover import measured
from research_eval.prepare import Prepared, build_network, prepare
from research_eval.processes import launched
from research_eval.records import ListRecorder
from research_eval.training.device import cpu_threads
from research_eval.training.progress import Nobody, StopSignal
from research_eval.training.train import Files, Trainer

ARRIVED = "arrived"
"""Under which the meeting place counts the ranks that wait to be told."""


@dataclass(frozen=True, slots=True)
class Training:
    """What the first rank tells the others.

    Attributes:
        config_json: The resolved configuration.
        base_dir: Folder that relative paths in it start from.
        hashes: Identity of the code and of the data, which must be the same for all.
        folder: Of the run; all ranks see the same files.
        is_resumed: Whether to continue from the resume point in it.
        with_test: Whether the test split is looked at.
    """

    config_json: str
    base_dir: Path
    hashes: tuple[str, str]
    folder: Path
    is_resumed: bool
    with_test: bool

    @classmethod
    def of(cls, prepared: Prepared, folder: Path, *, is_resumed: bool, with_test: bool) -> Self:
        """Return what is to be done in a folder."""
        experiment = prepared.experiment
        text = experiment.config.model_dump_json(by_alias=True, exclude={"schema_ref"})
        hashes = (prepared.code_hash, prepared.dataset.fingerprint)
        return cls(text, experiment.base_dir, hashes, folder, is_resumed, with_test)


def follow() -> None:
    """Take part in what the first rank trains, if it trains anything.

    Signals are the first rank's to answer: it tells the others when to stop.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    here = launched()
    assert here is not None, "whoever starts a process that follows sets its environment"
    store = ranks.meeting_place(here)
    store.add(ARRIVED, 1)
    with ranks.joined(here, store):
        training: Training | None = ranks.firsts(None)
        if training is not None:
            _take_part(training)


def _take_part(training: Training) -> None:
    tune_allocator()
    experiment = load_text(training.config_json, base_dir=training.base_dir)
    prepared = prepare(experiment, Nobody(), processes=ranks.size())
    if (prepared.code_hash, prepared.dataset.fingerprint) != training.hashes:
        raise RunError(f"process {ranks.rank()} has other code or other data than process 0")
    config, files = prepared.experiment.config, Files(training.folder)
    ended = suppress(DivergedError, CollapsedError, StoppedError)  # as on the first rank
    with cpu_threads(config.training_params.num_threads), ended:
        trainer = Trainer(
            config,
            build_network(prepared),
            prepared.dataset,
            ListRecorder(),
            files,
            Nobody(),
            StopSignal(),
        )
        if training.is_resumed:
            trainer.restore()
        trainer.run()
        measured(prepared, trainer, files, with_test=training.with_test)


def _end_with_parent() -> None:
    """Leave at once when the process that started this one is gone, which closes its pipe."""
    while os.read(0, 1):  # not sys.stdin, whose lock the interpreter takes when it ends
        pass
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    follow()
