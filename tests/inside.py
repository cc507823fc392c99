"""Running `brogue` inside the test's own process: a process of its own would import for two seconds and more."""

import io
import logging
import os
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess
from typing import BinaryIO

from assistant.cli import main

_QUIET = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)  # so is Python by itself


def _file() -> BinaryIO:
    return tempfile.TemporaryFile()


class _Stream(io.TextIOWrapper):
    """A whole process's stdout or stderr: it stays open, whoever closes it.

    What a library's logger took for stderr when it was imported must go on working; absl's even closes that as soon as
    somebody configures logging anew, as uvicorn does.
    """

    def __init__(self, errors: str) -> None:
        super().__init__(_file(), encoding="utf-8", errors=errors)

    def close(self) -> None:
        self.flush()


_OUT, _ERR = _Stream("strict"), _Stream("backslashreplace")


def brogue_inside(
    *words: str, cwd: Path | None = None, env: dict[str, str] | None = None, input: str = ""
) -> "CompletedProcess[str]":
    """`brogue WORDS` as a process of its own would do it: output as text, exit code; stdin is no terminal.

    Nothing stays behind: environment, working folder, streams (file descriptors 0, 1, 2 too), signal handlers,
    root logger and warning filters are as before afterwards. Only in the main thread.
    """
    with _signals(), _surroundings(cwd, env), _streams(input), _logging(), _warnings():
        sys.argv = ["brogue", *words]
        code = _exit_code()
    return CompletedProcess(["brogue", *words], code, _read(_OUT), _read(_ERR))


def _exit_code() -> int:
    try:
        main()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


@contextmanager
def _signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    hook = sys.excepthook
    try:
        yield
    finally:
        sys.excepthook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _surroundings(cwd: Path | None, env: dict[str, str] | None) -> Iterator[None]:
    folder, before, argv = Path.cwd(), dict(os.environ), sys.argv
    os.chdir(cwd or folder)
    _set_environment(env or before)
    try:
        yield
    finally:
        sys.argv = argv
        _set_environment(before)
        os.chdir(folder)


def _set_environment(env: dict[str, str]) -> None:
    for name in set(os.environ) - set(env):
        del os.environ[name]
    os.environ.update(env)


@contextmanager
def _streams(text: str) -> Iterator[None]:
    streams = sys.stdin, sys.stdout, sys.stderr
    given = io.TextIOWrapper(_file(), encoding="utf-8")
    given.write(text)
    given.seek(0)
    for stream in (_OUT, _ERR):
        stream.seek(0)
        stream.truncate()
    kept = [os.dup(number) for number in range(3)]
    for number, stream in enumerate((given, _OUT, _ERR)):
        os.dup2(stream.fileno(), number)
    sys.stdin, sys.stdout, sys.stderr = given, _OUT, _ERR
    try:
        yield
    finally:
        _OUT.flush()
        _ERR.flush()
        for number, descriptor in enumerate(kept):
            os.dup2(descriptor, number)
            os.close(descriptor)
        sys.stdin, sys.stdout, sys.stderr = streams
        given.close()


def _read(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()


@contextmanager
def _logging() -> Iterator[None]:
    """Without pytest's handlers: warnings go to stderr, unless a server that the test runs beside says them."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    others = {thread.ident for thread in threading.enumerate()} - {threading.get_ident()}
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.WARNING)
    handler.addFilter(lambda record: record.thread not in others)
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@contextmanager
def _warnings() -> Iterator[None]:
    """Python's own rules for warnings, not pytest's; they are said on stderr."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for category in _QUIET:
            warnings.simplefilter("ignore", category)
        yield
    for warning in caught:
        sys.stderr.write(warnings.formatwarning(warning.message, warning.category, warning.filename, warning.lineno))
