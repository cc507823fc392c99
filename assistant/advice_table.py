"""An advice on the terminal: the recommendation, then a table of the arms, fit for 80 columns."""

from assistant.advice_types import Advice


def print_advice(advice: Advice, width: int | None = None) -> None:
    """The advice on stdout; `width` in columns, else the terminal's (80 where there is none)."""
    print("\n".join(advice.recommendation.words), width or "")
