"""The rows of the gateways' tallies, in either kind of database, and the id that a home's gateway has."""

import threading
from pathlib import Path

import pytest

from data.errors import BrogueError
from data.gateway_id import gateway_id
from data.home import Home
from data.store import Store
from data.store_tallies import Tallies
from data.tallies import Tally

pytest_plugins = ["tests.databases"]


def test_a_gateways_row_holds_what_it_wrote_last(store: Store) -> None:
    tallies = Tallies(store)
    tallies.write("one", {("reed", 1): Tally(answers=5), ("reed", 2): Tally(answers=2, errors=1, up=1, down=-1)})
    tallies.write("two", {("reed", 1): Tally(answers=7), ("fern", 1): Tally()})
    for _ in range(2):
        tallies.write("one", {("reed", 1): Tally(answers=6, up=2)})
    tallies.write("one", {})
    reed = {
        ("reed", 1): {"one": Tally(answers=6, up=2), "two": Tally(answers=7)},
        ("reed", 2): {"one": Tally(answers=2, errors=1, up=1, down=-1)},
    }
    assert tallies.read() == reed | {("fern", 1): {"two": Tally()}}
    assert tallies.read({"reed", "moss"}) == reed
    assert tallies.read(set()) == {}


def test_only_a_store_in_postgresql_is_shared(store: Store, url: str) -> None:
    assert store.is_shared is url.startswith("postgresql")


def test_tallies_add_up_and_differ_without_going_below_zero() -> None:
    assert Tally(1, 2, 3, -4) + Tally(1, 1, 1, 1) == Tally(2, 3, 4, -3)
    assert Tally(5, 1, 0, -1).since(Tally(2, 2, 0, 0)) == Tally(3, 0, 0, 0)


def test_a_home_keeps_its_id_and_another_has_another(home: Home, tmp_path: Path) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(gateway_id(home))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1, "of several at once the first one's stays"
    assert gateway_id(Home(home.root)) == found[0] != gateway_id(Home(tmp_path / "other"))
    assert [path.name for path in home.root.iterdir()] == ["gateway.id"], "nothing is left beside it"


def test_a_file_that_holds_no_id_is_told_with_the_way_out(home: Home) -> None:
    gateway_id(home)
    (home.root / "gateway.id").write_text("")
    with pytest.raises(BrogueError, match="gateway.id holds no gateway's id; remove it"):
        gateway_id(home)
