"""Several gateways' tallies through one store: nothing is lost or counted twice, and a canary is judged by all."""

import asyncio
import json
import random
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from data.gateway_id import gateway_id
from data.home import Home, write_text
from data.store import Store, StoreDown
from data.store_tallies import Tallies
from data.tallies import Tally
from serve import tallies
from serve.canary import Trials
from serve.ratings import count
from serve.tallies import ALL_S, SharedTallies
from tests.fakes import FakeGateway, add_assistant, add_version
from tests.swapping import put, until

pytest_plugins = ["tests.databases"]


class Gateway:
    """One of several: its home, what it counts, and its exchange, by a clock that stands still."""

    def __init__(self, store: Store, root: Path, comparing: bool = False) -> None:
        self.home, self._store = Home(root), store
        self.canaries = {"reed": (1, 2)} if comparing else {}
        self.away, self.s, self.asked = False, 0.0, 0
        self.begin()

    def begin(self) -> None:
        """Start, or start again with what lies in the home."""
        self.trials = Trials(self.home)
        self._shared = SharedTallies(self.trials, lambda: self.canaries, self.store, self.home, lambda: self.s)

    def store(self) -> Store:
        self.asked += 1
        if self.away:
            raise StoreDown("the store cannot be written: away")
        return self._store

    def answer(self, version: int, good: int = 0, failed: int = 0) -> None:
        for number in range(good + failed):
            self.trials.answered("reed", version, error=number < failed)

    def exchange(self) -> None:
        asyncio.run(self._shared.exchange())

    def running(self) -> AbstractAsyncContextManager[None]:
        return self._shared.running()

    def tally(self, version: int) -> Tally:
        return self.trials.tally("reed", version)

    def why_stop(self) -> str | None:
        return self.trials.why_stop("reed", 1, 2)


@pytest.fixture
def shared(home: Home, new_postgresql: str) -> Iterator[Store]:
    opened = Store.open(home, new_postgresql)
    yield opened
    opened.close()


@pytest.fixture
def pair(shared: Store, tmp_path: Path) -> tuple[Gateway, Gateway]:
    """Two gateways that try version 2 against version 1, from now on."""
    one, two = (Gateway(shared, tmp_path / name, comparing=True) for name in ("one", "two"))
    for gateway in (one, two):
        gateway.trials.start("reed", 1, 2)
    rounds(one, two)
    return one, two


def rounds(*gateways: Gateway) -> None:
    """All write, and all have read what all wrote."""
    for _ in range(2):
        for gateway in gateways:
            gateway.exchange()


def test_two_gateways_stop_a_bad_canary_that_neither_would_have_stopped(pair: tuple[Gateway, Gateway]) -> None:
    for gateway in pair:
        gateway.answer(1, good=45)
        gateway.answer(2, good=3, failed=2)
        assert gateway.why_stop() is None, "five answers are too few"
    rounds(*pair)
    for gateway in pair:
        assert gateway.why_stop() == "reed@2 failed in 4 of 10 answers, reed@1 in 0 of 90"


def test_a_tally_is_all_gateways_together_and_each_home_keeps_its_own(pair: tuple[Gateway, Gateway]) -> None:
    one, two = pair
    one.answer(1, good=3)
    two.answer(1, good=4, failed=1)
    assert (one.tally(1).answers, two.tally(1).answers) == (3, 5)
    rounds(one, two)
    assert one.tally(1) == two.tally(1) == Tally(answers=8, errors=1)
    one.trials.flush()
    file = json.loads((one.home.adapters / "reed" / "tallies.json").read_text())
    assert file["versions"]["1"]["answers"] == one.trials.own("reed", 1).answers == 3


def test_what_was_counted_elsewhere_before_the_start_is_not_compared(shared: Store, tmp_path: Path) -> None:
    old, new = Gateway(shared, tmp_path / "old"), Gateway(shared, tmp_path / "new", comparing=True)
    old.answer(1, good=500)
    old.answer(2, failed=100)  # it was asked by its name
    old.exchange()
    new.trials.start("reed", 1, 2)  # before it has read anything
    new.answer(1, good=50)
    new.answer(2, good=10)
    new.exchange()
    assert new.tally(2) == Tally(answers=110, errors=100)
    assert new.why_stop() is None
    old.answer(2, failed=10)
    old.exchange()
    new.exchange()
    assert new.why_stop() == "reed@2 failed in 10 of 20 answers, reed@1 in 0 of 50"
    new.trials.start("reed", 1, 2)  # a second try
    new.exchange()
    assert new.why_stop() is None


def test_a_comparison_goes_on_where_it_was_after_a_restart(pair: tuple[Gateway, Gateway]) -> None:
    one, two = pair
    for gateway in pair:
        gateway.answer(1, good=45)
        gateway.answer(2, good=3, failed=2)
    rounds(one, two)
    two.trials.flush()
    two.begin()
    assert two.why_stop() is None, "alone it knows too little"
    two.exchange()
    assert two.why_stop() == "reed@2 failed in 4 of 10 answers, reed@1 in 0 of 90"
    assert one.tally(1).answers == two.tally(1).answers == 90


def test_a_gateway_that_was_killed_counts_nothing_twice(pair: tuple[Gateway, Gateway]) -> None:
    one, two = pair
    two.answer(1, good=10)
    two.trials.flush()
    two.answer(1, good=2)  # these are in the store and not in the file when it dies
    rounds(one, two)
    assert one.tally(1).answers == 12
    two.begin()
    two.answer(1, good=1)
    rounds(two, one)
    assert one.tally(1).answers == two.tally(1).answers == 11
    two.answer(1, good=5)
    rounds(two, one)
    assert one.tally(1).answers == 16


def test_a_home_that_was_lost_leaves_its_counts_and_begins_with_an_id_of_its_own(
    pair: tuple[Gateway, Gateway],
) -> None:
    one, two = pair
    two.answer(2, good=10)
    rounds(one, two)
    lost = gateway_id(two.home)
    shutil.rmtree(two.home.root)
    fresh = Gateway(two.store(), two.home.root, comparing=True)
    fresh.trials.start("reed", 1, 2)
    rounds(fresh, one)
    fresh.answer(2, failed=6)
    fresh.answer(1, good=20)
    one.answer(1, good=20)
    rounds(fresh, one)
    assert gateway_id(fresh.home) != lost
    assert one.tally(2) == fresh.tally(2) == Tally(answers=16, errors=6)
    assert one.why_stop() == "reed@2 failed in 6 of 16 answers, reed@1 in 0 of 40"
    assert fresh.why_stop() is None, "its own comparison began after the ten"


def test_a_gateway_that_lost_only_its_counts_does_not_take_the_others_away(pair: tuple[Gateway, Gateway]) -> None:
    one, two = pair
    two.answer(1, good=100)
    rounds(one, two)
    one.trials.start("reed", 1, 2)
    rounds(one, two)
    shutil.rmtree(two.home.adapters)
    two.begin()
    two.answer(1, good=20)
    two.answer(2, failed=10)
    rounds(two, one)
    one.answer(1, good=20)
    two.answer(1, good=20)
    two.answer(2, failed=10)
    rounds(two, one)
    assert one.why_stop() == "reed@2 failed in 10 of 10 answers, reed@1 in 0 of 40", "since it was heard of again"


def test_a_store_that_is_away_is_told_once_and_its_own_counts_go_on(
    pair: tuple[Gateway, Gateway], caplog: pytest.LogCaptureFixture
) -> None:
    one, two = pair
    two.answer(1, good=5)
    rounds(one, two)
    one.away = True
    for _ in range(3):
        one.answer(1, good=10)
        one.exchange()
    assert one.tally(1).answers == 35, "what was heard last, and its own"
    assert [record.message for record in caplog.records] == [
        "tallies are not exchanged with other gateways: the store cannot be written: away"
    ]
    one.away = False
    caplog.set_level("INFO", "brogue.tallies")
    rounds(one, two)
    assert two.tally(1).answers == 35
    assert [record.message for record in caplog.records[1:]] == ["tallies are exchanged with other gateways again"]


def test_what_the_store_took_without_saying_so_is_written_again_and_counts_once(
    pair: tuple[Gateway, Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = pair
    with monkeypatch.context() as patch:

        def broken(*_: Any) -> None:
            raise StoreDown("the store cannot be read: the connection broke")

        patch.setattr(Tallies, "read", broken)
        one.answer(1, good=7)
        one.exchange()
    one.answer(1, good=1)
    rounds(one, two)
    assert one.tally(1).answers == two.tally(1).answers == 8


def test_a_copy_of_a_home_is_told_of(
    pair: tuple[Gateway, Gateway], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, _ = pair
    one.answer(1, good=5)
    one.trials.flush()
    one.exchange()
    shutil.copytree(one.home.root, tmp_path / "copy")
    copy = Gateway(one.store(), tmp_path / "copy", comparing=True)
    copy.answer(1, good=1)
    copy.exchange()
    one.exchange()
    assert "another gateway counts under this one's id" in caplog.text and "gateway.id" in caplog.text
    one.exchange()
    assert Tallies(one.store()).read()["reed", 1][gateway_id(one.home)].answers == 5


def test_who_has_nothing_to_say_asks_the_store_only_now_and_then(shared: Store, tmp_path: Path) -> None:
    one, two = (Gateway(shared, tmp_path / name) for name in ("one", "two"))
    one.answer(1, good=1)
    one.exchange()
    two.exchange()
    asked = one.asked, two.asked
    for _ in range(5):
        one.exchange()
        two.exchange()
    assert (one.asked, two.asked) == asked
    one.answer(1, good=1)
    one.exchange()
    two.exchange()
    assert (one.asked > asked[0], two.tally(1).answers) == (True, 1)
    two.s += ALL_S
    two.exchange()
    assert two.tally(1).answers == 2
    rows = Tallies(shared).read()
    assert list(rows) == [("reed", 1)], "versions that were only looked at have no row"


def test_a_home_with_a_store_of_its_own_writes_no_row_and_needs_no_id(home: Home) -> None:
    store = Store.open(home)
    gateway = Gateway(store, home.root, comparing=True)
    gateway.answer(1, good=3)
    gateway.exchange()
    gateway.answer(1, good=3)
    gateway.exchange()
    assert Tallies(store).read() == {} and not (home.root / "gateway.id").exists()
    assert gateway.tally(1).answers == 6 and gateway.asked == 1
    store.close()


def test_what_was_counted_up_to_the_stop_is_in_the_store(shared: Store, tmp_path: Path) -> None:
    gateway = Gateway(shared, tmp_path / "one")

    async def live() -> None:
        async with gateway.running():
            gateway.answer(1, good=4)

    asyncio.run(live())
    assert [sum(by.values(), Tally()) for by in Tallies(shared).read().values()] == [Tally(answers=4)]


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_in_the_end_every_answer_counts_once(shared: Store, tmp_path: Path, seed: int) -> None:
    rng, counted = random.Random(seed), Tally()
    fleet = [Gateway(shared, tmp_path / f"g{number}", comparing=True) for number in range(3)]
    for _ in range(150):
        gateway, deed = rng.choice(fleet), rng.random()
        if deed < 0.6:
            failed = rng.random() < 0.2
            gateway.answer(1, good=not failed, failed=failed)
            counted += Tally(answers=1, errors=failed)
        elif deed < 0.85:
            gateway.exchange()
        elif deed < 0.95:
            gateway.away = not gateway.away
        else:
            gateway.trials.flush()  # as the file has it at most a second later
            gateway.begin()
    for gateway in fleet:
        gateway.away, gateway.s = False, gateway.s + ALL_S
        gateway.tally(1)
    rounds(*fleet)
    assert [gateway.tally(1) for gateway in fleet] == [counted] * 3


# --- ratings ---


def test_a_rating_that_is_changed_at_another_gateway_counts_once(pair: tuple[Gateway, Gateway]) -> None:
    one, two = pair
    one.trials.remember("resp-a", "reed", 2)  # `one` wrote the answer
    assert count(two.trials, "resp-a", "reed@2", 0, 1) == "reed@2"
    assert count(one.trials, "resp-a", "reed@2", 1, -1) == "reed@2"
    rounds(one, two)
    assert one.tally(2) == two.tally(2) == Tally(down=1)
    assert count(two.trials, "resp-a", "reed@2", -1, 0) == "reed@2"
    rounds(one, two)
    assert one.tally(2) == two.tally(2) == Tally()


def test_ratings_that_were_changed_elsewhere_are_compared_as_they_are_now(pair: tuple[Gateway, Gateway]) -> None:
    one, two = pair
    for number in range(12):
        count(one.trials, f"good-{number}", "reed@1", 0, 1)
        count(one.trials, f"bad-{number}", "reed@2", 0, 1)
    rounds(one, two)
    for number in range(12):
        count(two.trials, f"bad-{number}", "reed@2", 1, -1)
    rounds(one, two)
    for gateway in pair:
        assert gateway.why_stop() == "reed@2 got 12 thumbs down of 12, reed@1 0 of 12"


def test_a_thumb_that_was_counted_without_the_store_is_not_counted_again_with_it(pair: tuple[Gateway, Gateway]) -> None:
    one, _ = pair
    one.trials.remember("resp-a", "reed", 2)
    assert count(one.trials, "resp-a", None, None, 1) == "reed@2"
    assert count(one.trials, "resp-a", "reed@2", 0, 1) == "reed@2"
    assert one.tally(2) == Tally(up=1)
    assert count(one.trials, "resp-a", "reed@2", 1, -1) == "reed@2"
    assert one.tally(2) == Tally(down=1)


# --- over HTTP ---


def test_two_gateways_over_http_show_the_same_figures_and_take_the_canary_back(
    tmp_path: Path, new_postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tallies, "EXCHANGE_S", 0.05)
    monkeypatch.setattr(tallies, "ALL_S", 0.05)
    gateways = []
    for name in ("one", "two"):
        home = Home(tmp_path / name)
        write_text(home.settings_file, f'[store]\nurl = "{new_postgresql}"\n')
        for _ in range(2):
            add_version(home, "reed-voice")
        add_assistant(home, "reed", "adapter: reed-voice\nsystem_prompt: Be reed.")
        gateways.append(FakeGateway(home, max_wait_s=5))

    async def story() -> None:
        async with gateways[0].running() as one, gateways[1].running() as two:
            for client in (one, two):
                assert (await put(client, "reed-voice", "stable", 1)).status_code == 200
                body = {"version": 2, "share": 50}
                path = "/v1/adapters/reed-voice/aliases/canary"
                assert (await client.put(path, json=body)).status_code == 200
            await asyncio.sleep(0.3)
            answers = [await _answer(client) for client in (one, two) for _ in range(3)]
            for client in (one, two):
                await until_shown(client, answers=6)
            await _rate(two, answers[0], 1)
            await _rate(one, answers[0], -1)
            for client in (one, two):
                await until_shown(client, answers=6, up=0, down=1)
            given = (await one.get("/v1/feedback/judgements")).json()["data"]
            for client in (two, one):
                path = f"/v1/feedback/judgements/{given[0]['id']}"
                assert (await client.delete(path, params={"rater": "ann"})).status_code == 200
            for client in (one, two):
                await until_shown(client, answers=6, up=0, down=0)
            for gateway in gateways:
                for _ in range(45):
                    gateway.trials.answered("reed-voice", 1, error=False)
                for number in range(6):
                    gateway.trials.answered("reed-voice", 2, error=number < 3)
            await until(lambda: all("canary" not in one.pool.live.states["reed-voice"].aliases for one in gateways))

    asyncio.run(story())
    store = gateways[0].recorder.store()
    assert {len(by) for by in Tallies(store).read().values()} == {2}
    store.close()


async def _answer(client: httpx.AsyncClient) -> str:
    body = {"model": "reed-voice@1", "messages": [{"role": "user", "content": "Hi"}]}
    return (await client.post("/v1/chat/completions", json=body)).headers["x-brogue-response-id"]


async def _rate(client: httpx.AsyncClient, response_id: str, rating: int) -> None:
    """The other gateway writes its answers every half second: till then they are unknown here."""
    body, deadline = {"response_id": response_id, "rating": rating, "rater": "ann"}, time.monotonic() + 5
    while (reply := await client.post("/v1/feedback/ratings", json=body)).status_code == 404:
        assert time.monotonic() < deadline, reply.text
        await asyncio.sleep(0.1)
    assert (reply.status_code, reply.json()["version"]) == (200, "reed-voice@1"), reply.text


async def until_shown(client: httpx.AsyncClient, **wanted: int) -> None:
    """Until the gateway shows these figures of reed-voice@1."""
    deadline, found = time.monotonic() + 10, {}
    while time.monotonic() < deadline:
        versions = (await client.get("/v1/adapters/reed-voice")).json()["versions"]
        found = next(one for one in versions if one["version"] == 1)
        if all(found[name] == number for name, number in wanted.items()):
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"wanted {wanted}, found {found}")
