"""The one error that may be shown to a person as a single line.

Everything below the command line, the gateway and the page raises `BrogueError` for what a user can mend:
it says what was wanted, what was found and what to type next. Any other exception is a bug and keeps its traceback.
"""


class BrogueError(Exception):
    """Safe to show, as one line."""


class DataError(BrogueError):
    """A user's file or dataset is not as it should be; the message starts with `file:line` where there is one."""


class UnknownName(BrogueError):
    """A name (assistant, adapter, dataset) that is not there; the message lists what is."""


def one_line(text: object, limit: int = 300) -> str:
    """`text` with its white space folded to single blanks, cut at `limit` characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def unknown(kind: str, name: str, known: list[str], next_step: str) -> UnknownName:
    """The error for a name that does not exist: what was asked for, what there is, what to type next."""
    have = ", ".join(sorted(known)) or "none yet"
    return UnknownName(f"no {kind} '{name}'; have: {have}. {next_step}")
