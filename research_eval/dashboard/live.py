"""The doorbell: open pages are told that something has changed, and fetch what they show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from starlette.concurrency import run_in_threadpool

from research_eval.errors import StoreError

INTERVAL_S = 1.0
SIGN_OF_LIFE_S = 15.0
MAX_LISTENERS = 64


class Doorbell:
    """Looks once a second, while anybody listens, whether the database has changed.

    Args:
        look: Returns a text that differs after a change.
        interval: Seconds between looks.
    """

    def __init__(self, look: Callable[[], str], *, interval: float = INTERVAL_S) -> None:
        self._look = look
        self._interval = interval
        self._listeners: set[asyncio.Event] = set()
        self._watch: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def is_full(self) -> bool:
        """Whether no further listener is taken."""
        return len(self._listeners) >= MAX_LISTENERS

    def close(self) -> None:
        """End all streams."""
        self._is_closed = True
        self._ring()

    def _ring(self) -> None:
        for bell in self._listeners:
            bell.set()

    async def events(self) -> AsyncIterator[str]:
        """Yield what an `EventSource` reads: `changed` after every change."""
        bell = asyncio.Event()
        self._listeners.add(bell)
        if self._watch is None:
            self._watch = asyncio.create_task(self._keep_looking())
        try:
            yield "retry: 2000\n\n"
            while not self._is_closed:
                try:
                    async with asyncio.timeout(SIGN_OF_LIFE_S):
                        await bell.wait()
                except TimeoutError:
                    yield ": nothing new\n\n"
                    continue
                bell.clear()
                if not self._is_closed:
                    yield "event: changed\ndata: \n\n"
        finally:
            self._listeners.discard(bell)
            if not self._listeners and self._watch is not None:
                self._watch.cancel()
                self._watch = None

    async def _keep_looking(self) -> None:
        before = None
        while True:
            try:
                now: str | None = await run_in_threadpool(self._look)
            except StoreError:  # away for a moment; pages that fetch are told why
                now = None
            if before is not None and now not in (None, before):
                self._ring()
            before = now or before
            await asyncio.sleep(self._interval)
