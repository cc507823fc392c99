"""Files that several homes share: PostgreSQL says which, their bytes lie in a folder or on an S3 server."""

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from adapters.registry import Registry
from data.artefacts import Artefacts
from data.errors import BrogueError
from data.home import Home, write_text
from data.settings import load_settings
from data.sharing import opened_shared
from data.store_follow import Follower
from data.store_shared import Shared
from tests.fakes import add_version

pytest_plugins = ["tests.databases", "tests.s3"]
pytestmark = pytest.mark.slow

Places = Callable[[str], Home]


@pytest.fixture
def places(new_postgresql: str, tmp_path: Path) -> Places:
    """Homes by name that share a database and a folder of artefacts."""

    def make(name: str) -> Home:
        home = Home(tmp_path / name)
        write_text(home.settings_file, SETTINGS.format(url=new_postgresql, artefacts=tmp_path / "artefacts"))
        return home

    return make


SETTINGS = '[store]\nurl = "{url}"\n[shared]\nartefacts = "{artefacts}"\n'


@pytest.fixture
def shared(places: Places) -> Iterator[Callable[[str], Shared]]:
    """The shared files of a home by its name."""
    opened: list[Any] = []

    def open_one(name: str) -> Shared:
        home = places(name)
        opened.append(opened_shared(home, load_settings(home.settings_file)))
        made: Shared = opened[-1].__enter__()
        return made

    yield open_one
    for one in opened:
        one.__exit__(None, None, None)


def _files(home: Home, folder: str) -> dict[str, bytes]:
    root = home.root / folder
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file() and p.suffix != ".lock"}


def test_a_version_and_its_aliases_are_the_same_in_the_other_home(
    places: Places, shared: Callable[[str], Shared]
) -> None:
    here, there = places("here"), places("there")
    for _ in range(2):
        add_version(here, "shop")
    Registry(here).move("shop", "stable", 2, who="ada", why="warmer")
    pulled = shared("there").pull()
    assert pulled.problems == []
    assert _files(there, "adapters/shop") == {
        name: content for name, content in _files(here, "adapters/shop").items() if not name.startswith(".")
    }
    assert Registry(there).state("shop") == Registry(here).state("shop")
    assert shared("there").pull().changed == []


def test_two_homes_never_give_a_number_twice_and_see_each_others_moves(places: Places) -> None:
    homes = [places("here"), places("there")]
    names = [add_version(homes[turn % 2], "shop").name for turn in range(4)]
    assert names == ["shop@1", "shop@2", "shop@3", "shop@4"]
    Registry(homes[0]).move("shop", "candidate", 3)
    state = Registry(homes[1]).move("shop", "stable", 4)
    assert state.aliases == {"stable": 4, "candidate": 3}


def _move_often(root: Path, adapter: str, count: int) -> None:
    for turn in range(count):
        Registry(Home(root)).move(adapter, "candidate", 2 + turn % 2, why=f"{root.name} {turn}")


def test_moves_of_two_homes_at_once_all_stand_in_the_history(places: Places) -> None:
    here, there = places("here"), places("there")
    for _ in range(3):
        add_version(here, "shop")
    fork = multiprocessing.get_context("fork")
    both = [fork.Process(target=_move_often, args=(home.root, "shop", 20)) for home in (here, there)]
    for one in both:
        one.start()
    for one in both:
        one.join(120)
    assert [one.exitcode for one in both] == [0, 0]
    Registry(here).move("shop", "canary", 2)
    Registry(there).move("shop", "canary", 3)
    history = Registry(there).state("shop").history
    # Each began where the one before it ended: none was overwritten.
    candidates = [(move.before, move.after) for move in history if move.alias == "candidate"]
    assert all(later[0] == earlier[1] for earlier, later in zip(candidates, candidates[1:], strict=False))
    assert [move.after for move in history if move.alias == "canary"] == [2, 3]


def test_a_home_that_was_killed_at_a_move_has_the_old_state_or_the_new_one(places: Places) -> None:
    here, there = places("here"), places("there")
    for _ in range(3):
        add_version(here, "shop")
    Registry(there).move("shop", "candidate", 2)
    fork = multiprocessing.get_context("fork")
    for turn in range(6):
        mover = fork.Process(target=_move_often, args=(here.root, "shop", 1000))
        mover.start()
        time.sleep(0.15 + 0.05 * turn)
        assert mover.pid is not None
        os.kill(mover.pid, signal.SIGKILL)
        mover.join(30)
        state = Registry(there).move("shop", "canary", 2 + turn % 2)  # brings `there` up to date first
        with opened_shared(here, load_settings(here.settings_file)) as one:
            assert one.pull().problems == []
        assert Registry(here).state("shop") == state


def test_bytes_that_were_changed_are_refused_by_name_and_the_version_stays_away(
    places: Places, shared: Callable[[str], Shared], tmp_path: Path
) -> None:
    here, there = places("here"), places("there")
    card = add_version(here, "shop")
    add_version(here, "other")
    sha256 = next(iter(card.files.values()))
    blob = tmp_path / "artefacts" / "sha256" / sha256[:2] / sha256
    whole = blob.read_bytes()
    blob.write_bytes(whole[:-1] + b"!")
    problems = shared("there").pull().problems
    assert any("was changed or cut off" in problem and sha256 in problem for problem in problems)
    assert Registry(there).adapters() == ["other"]
    assert Registry(there).move("other", "candidate", add_version(there, "other").version).aliases["candidate"] == 2
    with pytest.raises(BrogueError, match="not up to date with the others: adapters/shop/1/"):
        add_version(there, "shop")
    blob.write_bytes(whole)
    assert shared("there").pull().problems == []
    assert Registry(there).adapters() == ["other", "shop"]


def test_a_version_of_the_same_number_with_other_weights_is_not_overwritten(
    places: Places, shared: Callable[[str], Shared], tmp_path: Path
) -> None:
    alone = Home(tmp_path / "there")
    add_version(alone, "shop", rank=4)
    mine = _files(alone, "adapters/shop/1")
    there = places("there")
    add_version(places("here"), "shop", rank=8)
    problems = shared("there").pull().problems
    assert any("with other content is here already" in problem for problem in problems)
    assert _files(there, "adapters/shop/1") == mine


def test_what_was_written_here_and_not_published_is_kept_aside(
    places: Places, shared: Callable[[str], Shared], tmp_path: Path
) -> None:
    one, other = shared("one"), shared("other")
    source = tmp_path / "reed.yaml"
    source.write_text("name: reed\n")
    one.publish({"assistants/reed.yaml": source})
    other.pull()
    mine = places("other").assistants / "reed.yaml"
    mine.write_text("name: reed\ntitle: mine\n")
    source.write_text("name: reed\ntitle: theirs\n")
    one.publish({"assistants/reed.yaml": source})
    assert other.pull().changed == ["assistants/reed.yaml"]
    assert mine.read_text() == "name: reed\ntitle: theirs\n"
    assert (mine.parent / "reed.yaml.mine").read_text() == "name: reed\ntitle: mine\n"
    mine.write_text("name: reed\ntitle: mine again\n")
    source.write_text("name: reed\ntitle: theirs again\n")
    one.publish({"assistants/reed.yaml": source})
    other.pull()
    assert [path.name for path in sorted(mine.parent.iterdir())] == ["reed.yaml", "reed.yaml.mine", "reed.yaml.mine1"]


def test_what_is_taken_away_goes_everywhere(places: Places, shared: Callable[[str], Shared], tmp_path: Path) -> None:
    source = tmp_path / "reed.yaml"
    source.write_text("name: reed\n")
    one, other = shared("one"), shared("other")
    one.publish({"assistants/reed.yaml": source})
    other.pull()
    one.publish({"assistants/reed.yaml": None})
    assert other.pull().changed == ["assistants/reed.yaml"]
    assert not (places("other").assistants / "reed.yaml").exists()
    assert one.listed() == {}


@pytest.mark.parametrize("path", ["../evil", "assistants/../../evil", "brogue.toml", "admin.key"])
def test_nothing_but_what_is_shared_is_written_into_a_home(
    shared: Callable[[str], Shared], places: Places, tmp_path: Path, path: str
) -> None:
    one, other = shared("one"), shared("other")
    source = tmp_path / "x"
    source.write_text("evil")
    one.publish({path: source})
    assert "files of that place are not shared" in other.pull().problems[0]
    assert not (tmp_path / "evil").exists() and not (places("other").root / "admin.key").exists()
    assert "evil" not in places("other").settings_file.read_text()


def test_without_the_database_nothing_moves_and_one_line_says_so(places: Places) -> None:
    here = places("here")
    for _ in range(2):
        add_version(here, "shop")
    write_text(here.settings_file, here.settings_file.read_text().replace("?host=/", "?host=/nowhere/"))
    with pytest.raises(BrogueError, match="cannot open the store"):
        Registry(here).move("shop", "stable", 2)
    assert Registry(here).aliases("shop") == {"stable": 1}


@pytest.mark.parametrize(("listens", "poll_s", "within_s"), [(True, 30.0, 2.0), (False, 0.5, 2.0)])
def test_a_follower_hears_of_a_move_at_once_and_without_notices_by_looking(
    places: Places, listens: bool, poll_s: float, within_s: float
) -> None:
    here, there = places("here"), places("there")
    for _ in range(2):
        add_version(here, "shop")
    changed = threading.Event()
    settings = load_settings(there.settings_file)
    with opened_shared(there, settings) as shared:
        follower = Follower(shared, changed.set, poll_s, listens)
        follower.start()
        assert changed.wait(20)
        time.sleep(0.5)  # it listens by now
        changed.clear()
        began = time.monotonic()
        Registry(here).move("shop", "stable", 2)
        assert changed.wait(20)
        assert time.monotonic() - began < within_s
        assert Registry(there).aliases("shop") == {"stable": 2}
        follower.stop()


def test_a_follower_whose_connections_are_killed_goes_on(places: Places) -> None:
    here, there = places("here"), places("there")
    for _ in range(2):
        add_version(here, "shop")
    changed = threading.Event()
    with opened_shared(there, load_settings(there.settings_file)) as shared:
        follower = Follower(shared, changed.set)
        follower.start()
        assert changed.wait(20)
        changed.clear()
        with shared.store.connect() as connection:
            killed = connection.execute(
                text("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                     "WHERE datname = current_database() AND pid <> pg_backend_pid()")
            )  # fmt: skip
            assert killed.scalar()
        Registry(here).move("shop", "stable", 2)
        assert changed.wait(20)
        assert Registry(there).aliases("shop") == {"stable": 2}
        follower.stop()


def test_artefacts_lie_on_an_s3_server_and_a_changed_object_is_refused(s3: Any, tmp_path: Path) -> None:
    artefacts = Artefacts("s3://voices/brogue")
    source = tmp_path / "weights"
    source.write_bytes(os.urandom(100_000))
    sha256 = artefacts.put(source)
    assert artefacts.put(source) == sha256
    key = f"brogue/sha256/{sha256[:2]}/{sha256}"
    assert [one["Key"] for one in s3.list_objects_v2(Bucket="voices")["Contents"]] == [key]
    artefacts.get(sha256, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == source.read_bytes()
    s3.put_object(Bucket="voices", Key=key, Body=source.read_bytes()[:-1] + b"!")
    with pytest.raises(BrogueError, match=f"s3://voices/{key} was changed or cut off"):
        artefacts.get(sha256, tmp_path / "bad")
    assert not (tmp_path / "bad").exists()
    assert not list(tmp_path.glob(".bad*"))
    artefacts.remove(sha256)
    artefacts.remove(sha256)
    with pytest.raises(BrogueError, match="nothing is there"):
        artefacts.get(sha256, tmp_path / "gone")


def test_a_home_remembers_how_far_it_has_come(places: Places, shared: Callable[[str], Shared]) -> None:
    add_version(places("here"), "shop")
    shared("there").pull()
    known = json.loads((places("there").root / "shared.json").read_text())
    assert known["revision"] > 0
    assert "adapters/shop/1/card.json" in known["files"]
