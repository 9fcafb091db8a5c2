"""How a process leaves its open runs: by an exception, by a signal, or just so."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from research_eval.tracking.run import TrackedRun

SIGNALS = ("SIGTERM", "SIGHUP")
"""Those that would end the process without a word; Ctrl-C raises KeyboardInterrupt by itself."""


class Leaving:
    """Ends the runs that are open when their process ends.

    An exception that nobody catches and Ctrl-C go by `sys.excepthook`, signals raise `SignalExit`
    in the main thread, and what is still open at the end of the interpreter is INTERRUPTED. All
    is set back when the last run has ended; a handler that somebody else has set stays, and is
    theirs. A forked child leaves its parent's runs alone.
    """

    def __init__(self) -> None:
        self._open: list[TrackedRun] = []
        self._owner = os.getpid()
        self._before = sys.excepthook
        self._reason: BaseException | None = None
        self._handled: list[int] = []

    def watch(self, run: TrackedRun) -> None:
        """End this run when the process ends."""
        if self._owner != os.getpid():
            self._owner, self._open = os.getpid(), []
        if not self._open:
            self._install()
        self._open.append(run)

    def forget(self, run: TrackedRun) -> None:
        """Leave this run alone: it has ended."""
        if run in self._open:
            self._open.remove(run)
            if not self._open:
                self._uninstall()

    def _install(self) -> None:
        atexit.register(self._at_exit)
        self._before, sys.excepthook = sys.excepthook, self._on_exception
        if threading.current_thread() is threading.main_thread():
            for name in SIGNALS:
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                    signal.signal(number, self._on_signal)
                    self._handled.append(number)

    def _uninstall(self) -> None:
        atexit.unregister(self._at_exit)
        if sys.excepthook == self._on_exception:
            sys.excepthook = self._before
        if threading.current_thread() is threading.main_thread():
            while self._handled:
                self._release(self._handled.pop())

    def _release(self, number: int) -> None:
        if signal.getsignal(number) == self._on_signal:
            signal.signal(number, signal.SIG_DFL)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._release(number)  # a second one acts as it would without us
        if os.getpid() != self._owner:
            os.kill(os.getpid(), number)
            return
        from research_eval.ending import SignalExit

        self._reason = SignalExit(number)
        raise self._reason

    def _on_exception(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        self._reason = error
        self._end_all()
        self._before(kind, error, trace)

    def _at_exit(self) -> None:
        self._end_all()

    def _end_all(self) -> None:
        if os.getpid() == self._owner:
            for run in list(self._open):
                run.leave(self._reason or SystemExit())


LEAVING = Leaving()
