"""The store of responses and judgements, on SQLite and on PostgreSQL alike."""

import multiprocessing
import os
import random
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import create_engine, inspect, text

from data.errors import BrogueError, UnknownName
from data.home import Home
from data.judgements import Comparison, Correction, PassageRef, Ranking, Rating, Removed, Response, Wanted
from data.store import NotYours, Store, StoreDown
from data.store_open import migrate, open_engine
from data.store_queues import Queues
from data.store_schema import Base
from data.store_users import Users
from tests.postgres import admin

pytest_plugins = ["tests.databases"]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def response(id: str, version: str = "voice@1", minute: int = 0, **fields: Any) -> Response:
    defaults: dict[str, Any] = {
        "messages": ({"role": "user", "content": f"question of {id}"},),
        "text": f"answer {id}",
        "created": NOON + timedelta(minutes=minute),
    }
    return Response(id=id, version=version, **defaults | fields)


def four(store: Store) -> None:
    """Four responses: two of Ann's, one of Bob's, one of nobody's, by three versions."""
    store.add_response(response("r1", "voice@1", 1, subject="ann", assistant="shop", conversation="c1"))
    store.add_response(response("r2", "voice@2", 2, subject="ann", assistant="shop", conversation="c1"))
    store.add_response(response("r3", "base", 3, subject="bob", assistant="desk"))
    store.add_response(response("r4", "voice@2", 4))


def ids(found: list[Any]) -> list[str]:
    return [getattr(item, "judgement", item).id for item in found]


def test_a_response_is_read_as_it_was_written(store: Store) -> None:
    given = response(
        "r1", subject="ann", assistant="shop", conversation="c1", prompt_tokens=12, completion_tokens=7, seconds=0.25,
        messages=({"role": "user", "content": [{"type": "text", "text": "Hé, a question in parts?"}]},),
        passages=(PassageRef(id="p1", source="returns.md", text="30 days"),),
    )  # fmt: skip
    assert store.add_response(given) == given
    assert store.response("r1") == given
    with pytest.raises(BrogueError, match="'r1' is in the store already"):
        store.add_response(given)
    with pytest.raises(UnknownName, match="no response 'r9'"):
        store.response("r9")


def test_several_responses_are_added_at_once_and_those_that_are_there_stay(store: Store) -> None:
    store.add_response(response("r1", text="first"))
    store.add_responses([response("r1", text="second"), response("r2", subject="ann")])
    assert {r.id: r.text for r in store.responses()} == {"r1": "first", "r2": "answer r2"}


def test_a_database_that_is_away_is_told_in_one_line(home: Home, request: pytest.FixtureRequest) -> None:
    sqlite = Store.open(home)
    sqlite.close()
    for path in home.root.glob("store.db*"):
        path.unlink()
    (home.root / "store.db").mkdir()
    folder = request.getfixturevalue("postgresql")
    with admin(folder) as connection:
        connection.execute(text("CREATE DATABASE gone"))
    postgres = Store.open(home, f"postgresql://brogue@/gone?host={folder}")
    with admin(folder) as connection:
        connection.execute(text("DROP DATABASE gone WITH (FORCE)"))
    for store in (sqlite, postgres):
        with pytest.raises(StoreDown, match="the store cannot be written: ") as caught:
            store.add_responses([response("r1")])
        assert "\n" not in str(caught.value)
        store.close()


def test_a_raters_latest_thumb_stands_alone(store: Store) -> None:
    four(store)
    assert store.rate(Rating(id="j1", rater="ann", response="r1", thumb="up")) == ("voice@1", None)
    version, before = store.rate(Rating(id="j2", rater="ann", response="r1", thumb="down"))
    assert (version, before and before.thumb) == ("voice@1", "up")
    store.rate(Rating(id="j3", rater="ann", response="r1", thumb="down"))
    store.rate(Rating(id="j4", rater="bob", response="r1", thumb="up"))
    assert ids(store.judgements()) == ["j4", "j2"]
    with pytest.raises(UnknownName, match="no response 'r9'"):
        store.rate(Rating(rater="ann", response="r9", thumb="up"))


def test_text_that_a_database_would_refuse_is_mended(store: Store) -> None:
    store.add_response(
        response("r1", text="a\x00b\ud83d", messages=({"role": "user", "content": "\ud83d\ude00 \x00 \udc00"},))
    )
    found = store.response("r1")
    assert found.text == "a\ufffdb\ufffd"
    assert found.messages[0]["content"] == "\U0001f600 \ufffd \ufffd"


def test_every_kind_of_judgement_is_read_as_it_was_given(store: Store) -> None:
    four(store)
    given = [
        Rating(id="j1", rater="ann", response="r1", thumb="down", reasons=("wrong", "too long"), comment="<b>no</b>"),
        Comparison(id="j2", rater="eve", shown=("r2", "r1"), verdict="tie", seconds=8.5),
        Comparison(id="j3", rater="eve", shown=("r1", "r2"), verdict="both-bad"),
        Ranking(id="j4", rater="eve", shown=("r3", "r1", "r4"), ranks=(1, 0, 1), all_bad=True),
        Correction(id="j5", rater="bob", response="r3", text="It is 30 days."),
    ]
    kept = [store.judge(judgement) for judgement in given]
    assert [k.judgement for k in kept] == given
    assert sorted(store.judgements(), key=lambda s: s.judgement.id) == kept
    assert kept[3].versions == ("base", "voice@1", "voice@2")
    assert kept[3].assistants == ("desk", "shop", None)


def test_a_judgement_that_makes_no_sense_is_refused(store: Store) -> None:
    four(store)
    with pytest.raises(ValidationError, match="'r1' is named twice"):
        Ranking(rater="eve", shown=("r1", "r2", "r1"), ranks=(0, 1, 2))
    with pytest.raises(ValidationError, match="no gaps"):
        Ranking(rater="eve", shown=("r1", "r2"), ranks=(0, 2))
    with pytest.raises(UnknownName, match="no response 'r9' in the store"):
        store.judge(Comparison(rater="eve", shown=("r1", "r9"), verdict="tie"))
    with pytest.raises(BrogueError, match="the comment has 1,000,000 characters; wanted at most 10,000"):
        store.judge(Rating(rater="eve", response="r1", thumb="up", comment="x" * 1_000_000))
    assert store.judgements() == []


def test_the_same_judgement_sent_again_is_acknowledged_and_counted_once(store: Store) -> None:
    four(store)
    given = Rating(id="j1", rater="ann", response="r1", thumb="up")
    assert store.judge(given) == store.judge(given)
    with pytest.raises(BrogueError, match="'j1' is in the store already and says something else"):
        store.judge(given.model_copy(update={"thumb": "down"}))
    assert len(store.judgements()) == 1


def test_only_its_rater_takes_a_judgement_back(store: Store) -> None:
    four(store)
    store.judge(Rating(id="j1", rater="ann", response="r1", thumb="up"))
    with pytest.raises(NotYours):
        store.take_back("j1", "bob")
    with pytest.raises(UnknownName):
        store.take_back("j9", "bob")
    taken = store.take_back("j1", "ann")
    assert taken.taken_back is not None and store.take_back("j1", "ann") == taken
    assert store.judgements() == []
    assert store.judgements(Wanted(taken_back=True)) == [taken]


def test_responses_are_found_by_what_is_known_of_them(store: Store) -> None:
    four(store)
    assert ids(store.responses()) == ["r4", "r3", "r2", "r1"]
    assert ids(store.responses(Wanted(limit=2))) == ["r4", "r3"]
    assert ids(store.responses(Wanted(version="voice@2"))) == ["r4", "r2"]
    assert ids(store.responses(Wanted(assistant="shop", version="voice@2"))) == ["r2"]
    assert ids(store.responses(Wanted(subject="bob"))) == ["r3"]
    assert ids(store.responses(Wanted(conversation="c1"))) == ["r2", "r1"]
    since, until = NOON + timedelta(minutes=2), NOON + timedelta(minutes=4)
    assert ids(store.responses(Wanted(since=since, until=until))) == ["r3", "r2"]


def test_judgements_are_found_by_what_they_are_about(store: Store) -> None:
    four(store)
    began = datetime.now(UTC)
    store.judge(Rating(id="j1", rater="ann", response="r3", thumb="up"))
    store.judge(Comparison(id="j2", rater="eve", shown=("r1", "r3"), verdict="first"))
    store.judge(Ranking(id="j3", rater="bob", shown=("r2", "r4"), ranks=(0, 0)))
    assert ids(store.judgements()) == ["j3", "j2", "j1"]
    assert ids(store.judgements(Wanted(response="r3"))) == ["j2", "j1"]
    assert ids(store.judgements(Wanted(version="voice@2"))) == ["j3"]
    assert ids(store.judgements(Wanted(assistant="shop"))) == ["j3", "j2"]
    assert ids(store.judgements(Wanted(subject="ann"))) == ["j3", "j2", "j1"]  # given by Ann, or about answers to her
    assert ids(store.judgements(Wanted(subject="bob", kind="ranking"))) == ["j3"]
    assert ids(store.judgements(Wanted(rater="eve"))) == ["j2"]
    assert ids(store.judgements(Wanted(since=began, limit=1))) == ["j3"]
    assert store.judgements(Wanted(until=began)) == []


def mask(texts: list[str]) -> list[str]:
    """A redactor for tests: the same address has the same number in all texts of a record."""
    numbers: dict[str, int] = {}
    pattern = re.compile(r"[a-z]+@[a-z.]+")
    return [pattern.sub(lambda m: f"[EMAIL_{numbers.setdefault(m[0], len(numbers) + 1)}]", text) for text in texts]


def test_redacted_logging_writes_only_what_the_redactor_leaves(home: Home, url: str) -> None:
    store = Store.open(home, url, "redacted", mask)
    asked = ({"role": "user", "content": [{"type": "text", "text": "I am ann@x.org, not bob@x.org"}]},)
    store.add_response(response("r1", messages=asked, text="Hello bob@x.org"))
    kept = store.judge(Correction(id="j1", rater="ann", response="r1", text="Hello ann@x.org", comment="Ask bob@x.org"))
    found = store.response("r1")
    assert found.messages[0] == {"role": "user", "content": [{"type": "text", "text": "I am [EMAIL_1], not [EMAIL_2]"}]}
    assert (found.text, found.logging) == ("Hello [EMAIL_2]", "redacted")
    assert kept.judgement == Correction(
        id="j1", rater="ann", response="r1", text="Hello [EMAIL_2]", comment="Ask [EMAIL_1]"
    )
    store.close()
    with pytest.raises(ValueError, match="needs a redactor"):
        Store.open(home, url, "redacted")


def test_with_logging_off_nothing_that_people_wrote_is_kept(home: Home, url: str) -> None:
    store = Store.open(home, url, "off")
    kept = store.add_response(
        response("r1", subject="ann", prompt_tokens=5, passages=(PassageRef(id="p", source="s"),))
    )
    assert (kept.messages, kept.text, kept.passages, kept.prompt_tokens) == ((), "", (), 5)
    assert store.judge(Rating(rater="ann", response="r1", thumb="up", comment="thanks")).judgement.comment == ""
    with pytest.raises(BrogueError, match="a correction cannot be kept: logging is 'off'"):
        store.judge(Correction(rater="ann", response="r1", text="better"))
    store.close()


def test_forget_removes_a_person_and_names_the_versions(store: Store) -> None:
    four(store)
    store.judge(Rating(id="j1", rater="ann", response="r3", thumb="up"))
    store.judge(Comparison(id="j2", rater="eve", shown=("r1", "r4"), verdict="first"))
    store.judge(Rating(id="j3", rater="bob", response="r4", thumb="up"))
    store.take_back("j1", "ann")
    store.judge(Correction(id="j4", rater="ann", response="r4", text="better"))
    there = store.of_person("ann")
    gone = store.forget("ann")
    assert gone == there
    assert gone.corrected == ("r4",)
    assert (gone.responses, gone.judgements) == (("r1", "r2"), ("j1", "j2", "j4"))
    assert gone.by_version == {
        "base": Removed(judgements=1),
        "voice@1": Removed(responses=1, judgements=1),
        "voice@2": Removed(responses=1, judgements=2),
    }
    assert ids(store.responses()) == ["r4", "r3"]
    assert ids(store.judgements(Wanted(taken_back=True))) == ["j3"]
    assert store.forget("ann").by_version == {}


def test_forget_leaves_no_trace_in_the_databases_files(home: Home, url: str, request: pytest.FixtureRequest) -> None:
    store, other = Store.open(home, url), Store.open(home, url)  # the other one keeps the write-ahead log in use
    for n in range(300):  # some texts are longer than a page
        who = "zelda-subject" if n % 3 == 0 else "bob"
        said = "zelda-said " * (1 if n % 2 else 900) if who != "bob" else "bob-said"
        store.add_response(response(f"r{n}", subject=who, text=said, conversation=f"{who}-talk"))
        other.judge(Rating(rater=who, response=f"r{n}", thumb="up", comment=f"{said[:500]} in the comment"))
    other.responses()
    folder = home.root
    if not url.startswith("sqlite"):
        with create_engine(url).begin() as connection:
            connection.exec_driver_sql("ANALYZE")  # as the server does by itself now and then: it keeps common texts
        folder = Path(request.getfixturevalue("postgresql")) / "cluster" / "base"
    assert _files_with(folder, b"zelda-", url)
    assert len(store.forget("zelda-subject").responses) == 100
    assert _files_with(folder, b"zelda-", url) == []
    assert _files_with(folder, b"bob-said", url)
    store.close()
    other.close()
    assert _files_with(folder, b"zelda-", url) == []


def _files_with(folder: Path, word: bytes, url: str) -> list[str]:
    """The files that hold `word`; PostgreSQL is asked to write all its pages first."""
    if not url.startswith("sqlite"):
        with admin(url.rpartition("host=")[2]) as connection:
            connection.execute(text("CHECKPOINT"))
    return [p.name for p in sorted(folder.rglob("*")) if p.is_file() and word in p.read_bytes()]


def _submit(home: Home, url: str, acknowledged: Path, seed: int) -> None:
    """One process: judges without end, and writes down each judgement once the store has acknowledged it."""
    store, chance = Store.open(home, url), random.Random(seed)
    log = os.open(acknowledged, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    while True:
        ranks = chance.choice([(0, 1, 2), (2, 1, 0), (0, 0, 1)])
        kept = store.judge(Ranking(rater=f"rater-{seed}", shown=("r1", "r2", "r3"), ranks=ranks))
        os.write(log, f"{kept.judgement.id} {ranks}\n".encode())


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_when_writers_are_killed(home: Home, url: str, tmp_path: Path) -> None:
    store = Store.open(home, url)
    four(store)
    store.close()
    fork, log = multiprocessing.get_context("fork"), tmp_path / "acknowledged"

    def start(seed: int) -> Any:
        process = fork.Process(target=_submit, args=(home, url, log, seed))
        process.start()
        return process

    def wait_for(lines: int) -> None:
        deadline = time.monotonic() + 60
        while not log.exists() or log.read_bytes().count(b"\n") < lines:
            assert time.monotonic() < deadline, "the writers stand still"
            time.sleep(0.01)

    kills, writers = 10, [start(seed) for seed in range(5)]
    try:
        for kill in range(kills):
            wait_for(12 * (kill + 1))
            writers[kill % 5].kill()
            writers[kill % 5].join()
            writers[kill % 5] = start(100 + kill)
        wait_for(12 * (kills + 1))
        assert all(writer.is_alive() for writer in writers)
    finally:
        for writer in writers:
            writer.kill()
            writer.join()
    told = dict(line.split(" ", 1) for line in log.read_text().splitlines())
    store = Store.open(home, url)
    found = {kept.judgement.id: kept for kept in store.judgements()}
    store.close()
    print(f"{len(told)} acknowledged, {len(found)} in the store, {kills + 5} writers killed")
    assert len(told) > 100
    assert {id: str(found[id].judgement.ranks) for id in told} == told  # type: ignore[union-attr]
    assert all(kept.versions == ("voice@1", "voice@2", "base") for kept in found.values())  # none is half written
    assert len(told) <= len(found) <= len(told) + kills + 5  # a writer is killed at most once between write and word


# What the first schema's own code wrote. Never change it: new code has to read it.
_FIRST_ROWS = (
    "INSERT INTO responses VALUES ('r1', '2026-03-01 12:00:00', 'shop', 'voice@1', 'ann', 'c1', 'full', "
    """'[{"role": "user", "content": "Hé?"}]', 'Yes.', '[{"id": "p1", "source": "a.md", "text": ""}]', 3, 2, 0.5)""",
    "INSERT INTO responses VALUES "
    "('r2', '2026-03-01 12:01:00', NULL, 'base', NULL, NULL, 'off', '[]', '', '[]', 0, 0, 0)",
    "INSERT INTO judgements VALUES ('j1', '2026-03-01 12:02:00', 'comparison', 'eve', 4.5, "
    """'{"reasons": ["wrong"], "comment": "why", "verdict": "second"}', NULL)""",
    "INSERT INTO judgements VALUES ('j2', '2026-03-01 12:03:00', 'correction', 'ann', NULL, "
    """'{"reasons": [], "comment": "", "text": "No."}', '2026-03-01 12:04:00')""",
    "INSERT INTO judgements VALUES ('j3', '2026-03-01 12:05:00', 'rating', 'ann', NULL, "
    """'{"reasons": ["wrong-source"], "comment": "", "thumb": "down"}', NULL)""",
    "INSERT INTO judgements VALUES ('j4', '2026-03-01 12:06:00', 'ranking', 'eve', 9, "
    """'{"reasons": [], "comment": "", "ranks": [1, 0], "all_bad": true}', NULL)""",
    "INSERT INTO judged VALUES ('j1', 0, 'r2')",
    "INSERT INTO judged VALUES ('j1', 1, 'r1')",
    "INSERT INTO judged VALUES ('j2', 0, 'r1')",
    "INSERT INTO judged VALUES ('j3', 0, 'r1')",
    "INSERT INTO judged VALUES ('j4', 0, 'r1')",
    "INSERT INTO judged VALUES ('j4', 1, 'r2')",
)


def _address(url: str) -> str:
    return url.replace("postgresql:", "postgresql+psycopg:") + ("&options=-ctimezone%3DUTC" if "host=" in url else "")


def test_a_store_made_by_the_first_schema_opens_with_the_newest_code(home: Home, url: str) -> None:
    home.create()
    engine = create_engine(_address(url))
    migrate(engine, "0001")
    with engine.begin() as connection:
        for statement in _FIRST_ROWS:
            connection.exec_driver_sql(statement)
    engine.dispose()
    store = Store.open(home, url)
    first, second = store.response("r1"), store.response("r2")
    assert (first.created, first.text, first.messages[0]["content"]) == (NOON, "Yes.", "Hé?")
    assert (second.logging, second.messages, second.subject, second.topic) == ("off", (), None, None)
    compared, corrected, rated, ranked = sorted(
        store.judgements(Wanted(taken_back=True)), key=lambda kept: kept.judgement.id
    )
    assert compared.judgement == Comparison(
        id="j1", rater="eve", seconds=4.5, reasons=("wrong",), comment="why", shown=("r2", "r1"), verdict="second"
    )
    assert compared.versions == ("base", "voice@1")
    assert corrected.judgement == Correction(id="j2", rater="ann", response="r1", text="No.")
    assert corrected.taken_back == NOON + timedelta(minutes=4)
    assert rated.judgement == Rating(id="j3", rater="ann", response="r1", thumb="down", reasons=("wrong-source",))
    assert ranked.judgement == Ranking(id="j4", rater="eve", shown=("r1", "r2"), ranks=(1, 0), all_bad=True, seconds=9)
    store.add_response(response("r3", topic="returns"))
    store.judge(Comparison(rater="eve", shown=("r1", "r3"), verdict="tie"))
    assert store.judgements(Wanted(limit=1))[0].topics == (None, "returns")
    assert (Users(store).any(), Queues(store).all(), len(store.forget("ann").judgements)) == (False, [], 5)
    store.close()


def test_the_migrations_make_the_tables_that_the_code_has(url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    engine = open_engine(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        assert "alembic_version" in inspect(connection).get_table_names()
    engine.dispose()


def test_a_store_of_a_newer_brogue_is_refused(home: Home, url: str) -> None:
    Store.open(home, url).close()
    engine = create_engine(_address(url))
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(BrogueError, match="the store has schema 9999, this Brogue knows up to .* update this one"):
        Store.open(home, url)


def test_an_address_that_cannot_be_a_store_gets_one_line(home: Home) -> None:
    with pytest.raises(BrogueError, match=r"begins with 'mysql'; wanted sqlite:///FILE or postgresql://HOST/NAME"):
        Store.open(home, "mysql://me:secret@host/db")
    with pytest.raises(BrogueError, match="names no file"):
        Store.open(home, "sqlite://")
    with pytest.raises(BrogueError, match="cannot open the store at .*:\\*\\*\\*@.*; check that") as caught:
        Store.open(home, f"postgresql://me:secret@/db?host={home.root}")
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)
    home.create()
    (home.root / "store.db").write_text("no database at all, but longer than a header of a hundred bytes" * 3)
    with pytest.raises(BrogueError, match="cannot open the store at sqlite.*not a database"):
        Store.open(home)


def test_the_default_store_is_in_the_home_and_for_its_owner_only(home: Home) -> None:
    store = Store.open(home)
    four(store)
    assert sorted(p.name for p in home.root.iterdir()) == ["store.db", "store.db-shm", "store.db-wal"]
    assert {p.stat().st_mode & 0o077 for p in home.root.iterdir()} == {0}
    store.close()
