"""An advice as one page of HTML. It asks for nothing from outside and runs no script."""

from html import escape
from pathlib import Path

from assistant.advice_types import Advice
from assistant.report_html import frame
from data.errors import BrogueError, one_line
from data.home import write_text


def write(advice: Advice, path: Path) -> None:
    """Write the page to `path`, whole or not at all."""
    try:
        write_text(path.absolute(), page(advice))
    except OSError as error:
        raise BrogueError(f"cannot write {path}: {one_line(error)}") from error


def page(advice: Advice) -> str:
    """The whole page."""
    said = "".join(f"<p>{escape(line)}</p>" for line in advice.recommendation.words)
    return frame(f"Advice on {escape(advice.task.dataset)}", said)
