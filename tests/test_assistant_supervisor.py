"""The engine's keeper: an engine that dies is started again with growing patience, and given up when it never stays."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from assistant import supervisor
from assistant.supervisor import EngineKeeper, page_environment
from data.errors import BrogueError
from data.home import Home
from data.settings import Address


class MortalEngine:
    """Comes up at once and dies when told to."""

    pid = 1

    def __init__(self, comes_up: bool = True) -> None:
        self.comes_up = comes_up
        self.starts: list[float] = []
        self.alive = threading.Event()

    def start(self) -> None:
        self.starts.append(time.monotonic())
        self.alive.set()

    def stop(self) -> None:
        self.alive.clear()

    def is_alive(self) -> bool:
        return self.alive.is_set()

    def wait_ready(self, _timeout_s: float, _progress: Callable[[str], None]) -> None:
        if not self.comes_up:
            raise BrogueError("no memory")

    def why_dead(self) -> str:
        return "it was killed"


def keeper_of(engine: Any, restarts: list[int]) -> EngineKeeper:
    return EngineKeeper(engine, 10, lambda *_: None, lambda: restarts.append(1))


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def test_an_engine_that_dies_is_started_again_with_growing_patience_and_at_last_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor, "BACK_OFF_S", (0, 0.5))
    engine, restarts = MortalEngine(), []
    keeper = keeper_of(engine, restarts)
    keeper.start()
    for starts in (1, 2, 3):
        wait_until(lambda n=starts: (keeper.now().state, keeper.now().starts) == ("ready", n))  # type: ignore[misc]
        engine.alive.clear()
        assert keeper.now().state != "ready", "nobody waits for the keeper to notice"
    wait_until(lambda: keeper.now().state == "dead")
    assert keeper.now().detail == "it was killed"
    assert len(restarts) == 2
    first, second = (b - a for a, b in zip(engine.starts, engine.starts[1:], strict=False))
    assert second > first + 0.3
    keeper.stop()


def test_an_engine_that_never_comes_up_is_not_started_again() -> None:
    engine, restarts = MortalEngine(comes_up=False), []
    keeper = keeper_of(engine, restarts)
    keeper.start()
    wait_until(lambda: keeper.now().state == "dead")
    assert (keeper.now().detail, len(engine.starts)) == ("no memory", 1)
    keeper.stop()


def test_stopping_does_not_wait_for_the_next_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "BACK_OFF_S", (60,))
    engine = MortalEngine()
    keeper = keeper_of(engine, [])
    keeper.start()
    wait_until(lambda: keeper.now().state == "ready")
    engine.alive.clear()
    wait_until(lambda: "again" in keeper.now().detail)
    began = time.monotonic()
    keeper.stop()
    assert time.monotonic() - began < 30
    assert len(engine.starts) == 1


@pytest.mark.parametrize(
    ("host", "trusted"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("10.0.0.5", False)],
)
def test_the_page_has_the_admin_key_only_where_no_other_machine_reaches_it_or_people_sign_in(
    home: Home, monkeypatch: pytest.MonkeyPatch, host: str, trusted: bool
) -> None:
    home.create()
    monkeypatch.setenv("BROGUE_ADMIN_KEY", "secret")
    address = Address(host=host, port=7860)
    assert page_environment(address, home).get("BROGUE_ADMIN_KEY") == ("secret" if trusted else None)
    assert page_environment(address, home, signs_in=True)["BROGUE_ADMIN_KEY"] == "secret"
