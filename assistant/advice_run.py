"""The advisor's run: every arm is made and measured, as far as the budget goes; then the verdict."""

from collections.abc import Callable

from adapters.exam_asking import Gateway
from assistant.advice_files import Asked as Asked
from assistant.advice_types import Advice
from data.home import Home

Tell = Callable[[str], None]


def run_advice(home: Home, asked: Asked, gateway: Gateway, tell: Tell) -> Advice:
    """The advice that is asked for: read if it is complete, else begun or gone on with. Raises `BrogueError`."""
    raise NotImplementedError
