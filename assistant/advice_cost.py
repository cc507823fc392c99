"""What an arm costs: money for a thousand answers, and memory beside the base model."""

from adapters.base_model import BaseModel
from adapters.measure_cost import cost
from adapters.registry import Registry
from assistant.advice_types import Figures, Ready
from assistant.definitions import Assistant
from assistant.embeddings import weight_bytes
from assistant.specialists import load_specialist
from data.home import Home
from data.settings import PriceSettings, load_settings
from serve.hardware import plan_own


def price(prices: PriceSettings, figures: Figures) -> float | None:
    """Of 1,000 answers, in the price table's currency; none without prices.

    As the measure `cost` found it; where it was not asked, of the average tokens and the median seconds.
    """
    if not prices.known:
        return None
    found = next((one for one in figures.measures if one.name.endswith(".price_per_1000")), None)
    if found is not None:
        return found.arms["version"].value
    return 1000 * cost(figures.prompt_tokens, figures.answer_tokens, figures.seconds_p50, prices)


def memory(home: Home, ready: Ready, base: BaseModel) -> int | None:
    """Bytes that serving the arm takes beside the base model's engine; none where its adapter is gone.

    What it has on disk, and the embedding model where questions are embedded. Weights of its own, and another base
    model (`base` is the one that the arm answers with), take an engine of their own, which is reckoned whole.
    """
    settings, definition = load_settings(home.settings_file), ready.definition
    engine = plan_own(settings.engine, base.weight_bytes, base.kv_bytes_per_token, base.context_length).memory_bytes
    if ready.base_model is not None:
        return engine
    found = ready.bytes
    if definition.adapter is not None:
        adapter = definition.adapter.partition("@")[0]
        if adapter not in Registry(home).adapters():
            return None
        if Registry(home).resolve(definition.adapter).served == "merged":
            found = engine or 0
    return found + (weight_bytes(settings.knowledge, home) if _embeds(home, definition) else 0)


def _embeds(home: Home, definition: Assistant) -> bool:
    """Whether each question is embedded: to find passages or examples, or for a specialist to read."""
    if definition.specialist is not None:
        return load_specialist(home, definition.specialist).embedding is not None
    return definition.knowledge.use is not None or definition.examples_from is not None
