"""The engine's keeper: an engine that dies is started again with growing patience, and given up when it never stays."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from data.errors import BrogueError
from serve import engine_keeper
from serve.engine_keeper import EngineKeeper, EngineKeepers


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

    def client(self) -> None:
        return None


def keeper_of(engine: Any, restarts: list[int]) -> EngineKeeper:
    return EngineKeeper(engine, 10, lambda: None, lambda: restarts.append(1))


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def test_an_engine_that_dies_is_started_again_with_growing_patience_and_at_last_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine_keeper, "BACK_OFF_S", (0, 0.5))
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
    monkeypatch.setattr(engine_keeper, "BACK_OFF_S", (60,))
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


def test_of_several_engines_one_line_tells_how_many_are_ready_and_what_the_others_do() -> None:
    told: list[tuple[str, str, list[int]]] = []
    engines: list[Any] = [MortalEngine(), MortalEngine(), MortalEngine(comes_up=False)]
    keepers = EngineKeepers(engines, 10, lambda *one: told.append(one), lambda: None)
    keepers.start()
    wait_until(lambda: bool(told) and told[-1][:2] == ("ready", "2 of 3 ready; engine-3 dead: no memory"))
    assert told[-1][2] == [1, 1, 1]
    assert [(link.name, link.is_elsewhere) for link in keepers.links()] == [
        ("engine-1", False), ("engine-2", False), ("engine-3", False)
    ]  # fmt: skip
    keepers.stop()
