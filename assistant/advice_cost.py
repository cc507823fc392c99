"""What an arm costs: money for a thousand answers, and memory beside the base model."""

from adapters.base_model import BaseModel
from assistant.advice_types import Figures, Ready
from data.home import Home
from data.settings import PriceSettings


def price(prices: PriceSettings, figures: Figures) -> float | None:
    """Of 1,000 answers, in the price table's currency; none without prices."""
    raise NotImplementedError


def memory(home: Home, ready: Ready, base: BaseModel) -> int | None:
    """Bytes that serving the arm takes beside the base model; none where that cannot be told."""
    raise NotImplementedError
