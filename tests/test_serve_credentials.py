"""Who may ask is remembered for a moment, and read anew before that is over: no request waits for the database."""

import asyncio
import threading

import pytest

from data.home import Home
from data.store_home import open_store
from serve import credentials as module
from serve.credentials import EARLY, FRESH_S, Credentials
from serve.metrics import Metrics
from serve.recorder import Recorder


class Clock:
    """What `time.monotonic` says."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Slow(Credentials):
    """Reads the store when it may, and counts."""

    def __init__(self, home: Home) -> None:
        super().__init__(Recorder(lambda: open_store(home), Metrics()))
        self.may_read = threading.Event()
        self.may_read.set()
        self.readings = 0

    def _ask(self) -> module.Known:
        self.may_read.wait(30)
        self.readings += 1
        return super()._ask()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(module, "time", found)
    return found


def test_while_requests_come_it_is_read_anew_in_time_and_none_of_them_waits(home: Home, clock: Clock) -> None:
    home.create()

    async def story() -> None:
        known = Slow(home)
        first = await known.known()
        known.may_read.clear()
        clock.now += EARLY * FRESH_S
        assert await asyncio.wait_for(known.known(), 10) is first, "the reading hangs, the request does not"
        assert await asyncio.wait_for(known.known(), 10) is first
        known.may_read.set()
        while await known.known() is first:  # until what was read meanwhile counts
            await asyncio.sleep(0.005)
        assert known.readings == 2, "one reading for all who asked"

    asyncio.run(story())


def test_what_is_too_old_is_not_believed_for_a_moment_longer(home: Home, clock: Clock) -> None:
    home.create()

    async def story() -> None:
        known = Slow(home)
        first = await known.known()
        clock.now += FRESH_S
        assert await known.known() is not first
        assert known.readings == 2

    asyncio.run(story())
