"""Opening the store's database: SQLite (WAL) or PostgreSQL, brought up to the newest schema; and erasing for good."""

import json
import os
import time
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from data.errors import BrogueError, one_line
from data.store_schema import Base

BUSY_S = 30  # a writer waits so long for the others
_MIGRATION_LOCK = 7_236_402_317  # any number of our own: PostgreSQL's advisory lock while tables change


def open_engine(url: str) -> Engine:
    """An engine on the newest schema; the database's tables are made or migrated if need be."""
    parsed = _parse(url)
    try:
        engine = _sqlite(parsed) if parsed.get_backend_name() == "sqlite" else _postgresql(parsed)
        migrate(engine)
    except (DBAPIError, OSError) as error:
        reason = one_line(error.orig if isinstance(error, DBAPIError) else error, 200)
        raise BrogueError(
            f"cannot open the store at {parsed.render_as_string(hide_password=True)}: {reason}; "
            "check that the address is right and the database is running"
        ) from error
    return engine


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file."""
    return URL.create("sqlite", database=str(path)).render_as_string()


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
        parsed.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError):
        parsed = None
    if parsed is None or parsed.get_backend_name() not in ("sqlite", "postgresql"):
        scheme = url.partition("://")[0][:40]  # the rest may hold a password
        raise BrogueError(
            f"the store's address begins with '{scheme}'; wanted sqlite:///FILE or postgresql://HOST/NAME"
        )
    return parsed


def _sqlite(url: URL) -> Engine:
    if url.database in (None, "", ":memory:"):
        raise BrogueError("the store's address names no file; wanted sqlite:///FILE")
    path = Path(str(url.database))
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # people's conversations: for the owner's eyes
    engine = create_engine(url.set(drivername="sqlite"), connect_args={"timeout": BUSY_S}, json_serializer=_json)
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the sqlite3 module's own BEGINs come too late; _begin_sqlite does it
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten
    cursor.execute("PRAGMA synchronous = FULL")  # what was acknowledged survives a power cut
    if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        cursor.execute("PRAGMA journal_mode = WAL")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    """A writer takes its lock at once: one that read first and wrote later could be refused without waiting."""
    reader = connection.get_execution_options().get("reader")
    connection.exec_driver_sql("BEGIN" if reader else "BEGIN IMMEDIATE")


def _postgresql(url: URL) -> Engine:
    try:
        return create_engine(
            url.set(drivername="postgresql+psycopg"), pool_pre_ping=True, connect_args={"connect_timeout": 10},
            json_serializer=_json,
        )  # fmt: skip
    except ModuleNotFoundError as error:
        raise BrogueError(
            "a store in PostgreSQL needs the extra 'postgresql': pip install -e '.[postgresql]'"
        ) from error


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def migrate(engine: Engine, to: str = "head") -> None:
    """Bring the schema to revision `to`, in one transaction; of several processes one does it and the others wait."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}
    with engine.execution_options(reader=True).connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in known:
        raise BrogueError(
            f"the store has schema {current}, this Brogue knows up to {scripts.get_current_head()}; "
            "a newer Brogue wrote it: update this one"
        )
    if current == (scripts.get_current_head() if to == "head" else to):
        return
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, to)


def erase_deleted(engine: Engine) -> None:
    """Leave nothing of deleted rows in the database's files: free pages and SQLite's write-ahead log.

    PostgreSQL's tables are written anew, its statistics of them too where the user owns the database; its write-ahead
    log and its backups are the server's own matter.
    """
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(f"VACUUM (FULL, ANALYZE) {', '.join(Base.metadata.tables)}")
            connection.exec_driver_sql("VACUUM (FULL) pg_statistic")  # it holds common texts, and their old versions
        return
    sqlite = engine.raw_connection()  # without a transaction, for neither command works inside one
    try:
        cursor = sqlite.cursor()
        _truncate_log(cursor)
        cursor.execute("VACUUM")
        _truncate_log(cursor)
        cursor.close()
    finally:
        sqlite.close()


def _truncate_log(cursor: Any) -> None:
    """Copy SQLite's write-ahead log into the database and empty it; waits for readers and other checkpoints."""
    deadline = time.monotonic() + BUSY_S
    while cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] != 0:
        if time.monotonic() > deadline:
            raise BrogueError(
                "the rows are deleted, but another process reads the store without a pause, so that traces remain in "
                "its log; stop that process and do it again"
            )
        time.sleep(0.05)
