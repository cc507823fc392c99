"""The registry: moves of aliases with their history, what a kill leaves behind, retired versions, the admin key."""

import json
import multiprocessing
import os
import signal
import stat
import time
from pathlib import Path

import pytest

from adapters.registry import AdapterState, CanaryPlan, Registry
from data.errors import BrogueError, UnknownName
from data.home import Home, write_text
from data.secrets import admin_key
from tests.fakes import add_version


@pytest.fixture
def registry(home: Home) -> Registry:
    """An adapter `a` with three versions, the first of which is stable."""
    for _ in range(3):
        add_version(home, "a")
    return Registry(home)


def test_every_move_is_remembered_with_who_when_and_why(registry: Registry) -> None:
    registry.move("a", "stable", 2, who="ada", why="warmer")
    move = registry.state("a").history[-1]
    assert (move.alias, move.before, move.after, move.who, move.why) == ("stable", 1, 2, "ada", "warmer")
    assert move.time.endswith("+00:00")
    assert registry.resolve("a").version == 2


def test_a_move_to_where_an_alias_is_already_is_not_written(registry: Registry) -> None:
    registry.move("a", "canary", 2, canary=CanaryPlan(share=10))
    before = registry.signature(), registry.state("a")
    registry.move("a", "canary", 2, canary=CanaryPlan(share=10))
    registry.move("a", "canary", 2)
    assert (registry.signature(), registry.state("a")) == before
    registry.move("a", "canary", 2, canary=CanaryPlan(share=50))
    assert registry.state("a").canary == CanaryPlan(share=50)


def test_a_canary_that_becomes_stable_is_canary_no_longer(registry: Registry) -> None:
    registry.move("a", "candidate", 2)
    registry.move("a", "canary", 2, canary=CanaryPlan(share=30, shadow=True))
    state = registry.move("a", "stable", 2)
    assert (state.aliases, state.canary) == ({"stable": 2}, None)
    assert [(m.alias, m.after) for m in state.history[-3:]] == [("stable", 2), ("candidate", None), ("canary", None)]


def test_another_stable_version_leaves_the_canary_alone(registry: Registry) -> None:
    registry.move("a", "canary", 2, canary=CanaryPlan(share=30))
    state = registry.move("a", "stable", 3)
    assert (state.aliases, state.canary) == ({"stable": 3, "canary": 2}, CanaryPlan(share=30))
    assert registry.move("a", "canary", None).canary is None


def test_roll_back_goes_to_the_stable_version_before_and_again_forward(registry: Registry) -> None:
    assert registry.previous("a") is None
    registry.move("a", "stable", 3)
    assert registry.previous("a") == 1
    registry.move("a", "stable", 1)
    assert registry.previous("a") == 3
    registry.retire("a", 3)
    assert registry.previous("a") is None


@pytest.mark.parametrize(
    ("alias", "version", "message"),
    [
        ("live", 2, "no alias 'live'; have: stable, candidate, canary"),
        ("stable", None, "stable of 'a' cannot be removed; promote another version or roll back"),
        ("stable", 9, "no version 'a@9'; have: a@1, a@2, a@3. See: brogue adapters list"),
        ("canary", 1, "a@1 is stable already; canary wants another version"),
    ],
)
def test_a_move_that_makes_no_sense_is_refused(
    registry: Registry, alias: str, version: int | None, message: str
) -> None:
    with pytest.raises(BrogueError) as error:
        registry.move("a", alias, version)
    assert str(error.value) == message
    assert registry.aliases("a") == {"stable": 1}


def test_a_retired_version_is_gone_for_everybody_but_its_files_stay_until_purged(registry: Registry) -> None:
    registry.retire("a", 2)
    assert registry.versions("a") == [1, 3]
    assert registry.folder("a", 2).exists(), "a running engine may know it"
    with pytest.raises(UnknownName, match="^a@2 was retired; see: brogue adapters list$"):
        registry.resolve("a@2")
    with pytest.raises(UnknownName, match="was retired"):
        registry.move("a", "stable", 2)
    assert registry.purge_retired() == ["a@2"]
    assert registry.purge_retired() == []
    assert not registry.folder("a", 2).exists()


def test_a_version_with_an_alias_is_not_retired(registry: Registry) -> None:
    registry.move("a", "canary", 2)
    with pytest.raises(BrogueError, match="^a@1 is stable, so it cannot be retired; promote another version first$"):
        registry.retire("a", 1)
    with pytest.raises(BrogueError, match="^a@2 is canary, so it cannot be retired; remove its alias canary first$"):
        registry.retire("a", 2)


def test_the_number_of_a_retired_version_is_never_used_again(registry: Registry, home: Home) -> None:
    registry.retire("a", 3)
    registry.purge_retired()
    assert add_version(home, "a").version == 4


def test_a_home_from_before_there_was_a_history_is_read(registry: Registry, home: Home) -> None:
    write_text(home.adapters / "a" / "aliases.json", '{"stable": 2}')
    assert registry.state("a") == AdapterState(aliases={"stable": 2})
    registry.move("a", "stable", 3)
    assert registry.previous("a") == 2


def test_a_broken_state_file_is_one_line(registry: Registry, home: Home) -> None:
    for text in ("{", "[]", '{"stable": "x"}', "null"):
        write_text(home.adapters / "a" / "aliases.json", text)
        with pytest.raises(BrogueError, match="aliases.json: not an adapter's state"):
            registry.states()


def test_the_signature_changes_with_states_and_versions_and_with_nothing_else(registry: Registry, home: Home) -> None:
    seen = [registry.signature()]
    write_text(home.adapters / "a" / "tallies.json", "{}")
    assert registry.signature() == seen[0]
    for change in (lambda: registry.move("a", "stable", 2), lambda: add_version(home, "a"),
                   lambda: registry.retire("a", 1)):  # fmt: skip
        change()
        seen.append(registry.signature())
    assert len(set(seen)) == 4


@pytest.mark.parametrize("reference", ["../a", "a/../a@1", "", "@1", "A@1"])
def test_a_name_that_leads_elsewhere_is_an_unknown_adapter(registry: Registry, reference: str) -> None:
    with pytest.raises(UnknownName, match="no adapter"):
        registry.resolve(reference)


def _move_for_ever(home: Home) -> None:
    registry = Registry(home)
    while True:
        for version in (2, 1):
            registry.move("a", "stable", version, why="x" * 2000)


def test_a_kill_in_the_middle_of_a_move_leaves_the_old_or_the_new_state(registry: Registry, home: Home) -> None:
    registry.move("a", "stable", 3)
    for _ in range(5):
        process = multiprocessing.get_context("fork").Process(target=_move_for_ever, args=(home,))
        process.start()
        while registry.state("a").aliases["stable"] == 3:
            time.sleep(0.001)
        time.sleep(0.02)
        assert process.pid
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        state = registry.state("a")
        assert state.aliases["stable"] in (1, 2)
        assert state.history[-1].after == state.aliases["stable"]
        registry.move("a", "stable", 3)  # the dead process's lock is gone
        registry.move("a", "stable", 1)


def _move_many(home: Home, alias: str) -> None:
    for version in (2, 3) * 20:
        Registry(home).move("a", alias, version)


def test_moves_of_two_processes_at_once_are_all_kept(registry: Registry, home: Home) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_move_many, args=(home, alias)) for alias in ("candidate", "canary")]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    history = registry.state("a").history
    assert [sum(m.alias == alias for m in history) for alias in ("candidate", "canary")] == [40, 40]


def test_the_admin_key_is_made_once_for_its_owner_only(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    key = admin_key(home)
    path = home.root / "admin.key"
    assert len(key) > 30
    assert admin_key(home) == key == path.read_text().strip()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in home.root.iterdir()] == ["admin.key"]
    monkeypatch.setenv("BROGUE_ADMIN_KEY", "mine")
    assert admin_key(home) == "mine"
    monkeypatch.delenv("BROGUE_ADMIN_KEY")
    path.write_text("")
    with pytest.raises(BrogueError, match="is empty; remove it"):
        admin_key(home)


def test_the_state_file_is_readable_json_for_people_too(registry: Registry, home: Home) -> None:
    registry.move("a", "canary", 2, who="ada", canary=CanaryPlan(share=25))
    raw = json.loads(Path(home.adapters / "a" / "aliases.json").read_text())
    assert (raw["aliases"], raw["canary"]) == ({"stable": 1, "canary": 2}, {"share": 25, "shadow": False})
