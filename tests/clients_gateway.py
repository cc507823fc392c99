"""A gateway over the fake engine on a port of its own, for other people's clients."""

from collections.abc import Iterator
from contextlib import contextmanager

from assistant.knowledge import Knowledge
from data.home import Home
from data.settings_knowledge import KnowledgeSettings
from tests.fakes import FakeEngine, FakeGateway, add_assistant, add_version
from tests.knowledge_fakes import WordEmbedder
from tests.scripted_gateway import served

EMBEDDING = "all-minilm-l6-v2"


@contextmanager
def clients_gateway(home: Home, engine: FakeEngine) -> Iterator[tuple[FakeGateway, str]]:
    """The gateway and its base_url. Models: the assistant fern, fern-voice@1, base, and an embedding model."""
    home.create()
    add_version(home, "fern-voice")
    add_assistant(home, "fern", "adapter: fern-voice\nsystem_prompt: Be Fern.\n")
    gateway = FakeGateway(home, engine, Knowledge(home, KnowledgeSettings(), WordEmbedder()), max_wait_s=0.3)
    with served(gateway.app) as url:
        yield gateway, f"{url}/v1"
