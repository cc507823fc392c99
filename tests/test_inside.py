"""What the tests' own way to run `brogue` promises: as a process of its own, and nothing stays behind."""

import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from assistant.cli_app import app
from tests.conftest import Run


@pytest.fixture
def command() -> Iterator[str]:
    """A command that changes whatever a command can change."""

    @app.command("spoil", hidden=True)
    def spoil(word: str) -> None:
        os.environ["SPOILT"] = "yes"
        os.chdir("/")
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        logging.getLogger().setLevel(logging.DEBUG)
        logging.getLogger("some.library").warning("a logged warning")
        warnings.warn("a warning", UserWarning, stacklevel=1)
        warnings.warn("a developer's warning", DeprecationWarning, stacklevel=1)
        os.system("echo a child")
        print(sys.stdin.read() + word)
        raise ValueError("a bug")

    yield "spoil"
    app.registered_commands.pop()


def test_a_command_inside_the_test_leaves_nothing_behind(brogue: Run, command: str, tmp_path: Path) -> None:
    def state() -> list[object]:
        root = logging.getLogger()
        streams = (sys.stdin, sys.stdout, sys.stderr, sys.argv, sys.excepthook)
        return [
            dict(os.environ), Path.cwd(), signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM),
            root.level, root.handlers[:], warnings.filters[:], *streams,
        ]  # fmt: skip

    before = state()
    done = brogue(command, "word", input="given ", cwd=tmp_path)
    assert state() == before
    assert done.stdout.splitlines() == ["a child", "given word"]
    assert done.returncode == 1
    for said in ("a logged warning\n", "UserWarning: a warning\n", "Traceback", "\nValueError: a bug\n"):
        assert said in done.stderr
    assert "developer" not in done.stderr


def test_a_command_says_the_same_inside_and_in_a_process_of_its_own(brogue: Run) -> None:
    for words in (("data", "show", "none"), ("nonsense",)):
        inside, process = brogue(*words), brogue(*words, process=True)
        assert (inside.returncode, inside.stdout, inside.stderr) == (
            process.returncode, process.stdout, process.stderr,
        )  # fmt: skip


def test_a_library_that_closes_what_it_took_for_stderr_spoils_no_other_command(brogue: Run) -> None:
    taken: list[TextIO] = []

    @app.command("take", hidden=True)
    def take() -> None:
        taken.append(sys.stderr)

    try:
        assert brogue("take").returncode == 0
        taken[0].close()  # as absl's logging does when uvicorn configures logging anew
        assert "no such command" in brogue("no-such-command").stderr.lower()
    finally:
        app.registered_commands.pop()
