"""What an exception that leaves a run says about how the run ended."""

from __future__ import annotations

import signal
import sys
import traceback

from research_eval.errors import (
    CollapsedError,
    DivergedError,
    LostProcessError,
    PrunedError,
    StoppedError,
)
from research_eval.records import RunStatus
from research_eval.redaction import without_password


class SignalExit(SystemExit):
    """The end of a process that a signal asked for; its exit code is 128 + the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number

    def __str__(self) -> str:
        return signal.Signals(self.number).name


def ending(error: BaseException) -> tuple[RunStatus, str]:
    """Return the status of a run that an exception left, and the message or traceback to keep.

    Passwords of URLs in it are replaced: a database that cannot be reached names its address.
    """
    status, text = _described(error)
    return status, without_password(text)


def _described(error: BaseException) -> tuple[RunStatus, str]:
    match error:
        case DivergedError():
            return RunStatus.DIVERGED, str(error)
        case CollapsedError():
            return RunStatus.COLLAPSED, str(error)
        case PrunedError():
            return RunStatus.PRUNED, str(error)
        case StoppedError() | LostProcessError() | KeyboardInterrupt() | SignalExit():
            return RunStatus.INTERRUPTED, str(error) or "interrupted"
        case SystemExit(code=None | 0):
            return RunStatus.INTERRUPTED, "the program exited before the run was finished"
    if _is_pruned(error):
        return RunStatus.PRUNED, str(error)
    return RunStatus.FAILED, "".join(traceback.format_exception(error))


def _is_pruned(error: BaseException) -> bool:
    optuna = sys.modules.get("optuna")  # whoever raised its exception has loaded it
    return optuna is not None and isinstance(error, optuna.TrialPruned)
