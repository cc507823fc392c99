"""Running `brogue` inside the test's own process, for commands that are asked many times."""

import io
from contextlib import redirect_stderr, redirect_stdout
from subprocess import CompletedProcess

from typer.main import get_command

from assistant.cli_app import app
from data.errors import BrogueError


def brogue_inside(*words: str) -> "CompletedProcess[str]":
    """As the command does it: output as text, exit code 1 with one line for a refusal. stdin is no terminal."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = get_command(app).main(list(words), "brogue", standalone_mode=False) or 0
        except BrogueError as error:
            print(f"brogue: {error}", file=err)
            code = 1
    return CompletedProcess(list(words), code, out.getvalue(), err.getvalue())
