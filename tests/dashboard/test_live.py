"""The doorbell: who is told of a change, and when nobody is."""

import asyncio

from research_eval.dashboard.live import MAX_LISTENERS, Doorbell
from research_eval.errors import StoreError

RING = "event: changed\ndata: \n\n"


def listened(states, *, interval=0.001):
    """Return what one listener hears while a store goes through states, and then is closed."""

    async def hear():
        left = list(states)

        def look():
            if len(left) == 1:
                bell.close()
            state = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(state, Exception):
                raise state
            return state

        bell = Doorbell(look, interval=interval)
        return [event async for event in bell.events()]

    first, *events = asyncio.run(asyncio.wait_for(hear(), 10))
    assert first.startswith("retry: ")
    return events


def test_a_change_rings_once():
    assert listened(["a", "a", "b", "b", "b", "b"]) == [RING]


def test_nothing_new_does_not_ring():
    assert listened(["a"] * 5) == []


def test_a_store_that_is_away_for_a_moment_does_not_ring():
    assert listened(["a", StoreError("locked"), "a", "a", "a"]) == []


def test_no_more_pages_listen_than_there_is_room_for():
    async def crowd():
        bell = Doorbell(lambda: "a", interval=1)
        streams = [bell.events() for _ in range(MAX_LISTENERS)]
        for stream in streams:
            assert not bell.is_full
            await anext(stream)
        assert bell.is_full
        for stream in streams:
            await stream.aclose()
        assert not bell.is_full

    asyncio.run(crowd())
