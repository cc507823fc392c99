"""The gateway over the fake engine, served as `brogue up` serves it: `python -m tests.raw_server HOME PORT`."""

import logging
import sys
from pathlib import Path

from assistant.knowledge import Knowledge
from data.home import Home
from data.settings import GatewaySettings
from data.settings_knowledge import KnowledgeSettings
from serve.serving import serve
from tests.fakes import FakeGateway, add_assistant, add_version
from tests.knowledge_fakes import WordEmbedder
from tests.strict_engine import StrictEngine


def main() -> None:
    home = Home(Path(sys.argv[1]))
    home.create()
    add_version(home, "reed-voice")
    add_assistant(home, "reed", "adapter: reed-voice\nsystem_prompt: Be Reed.\n")
    logging.basicConfig(level=logging.INFO, format="%(name)s %(levelname)s %(message)s")
    knowledge = Knowledge(home, KnowledgeSettings(), WordEmbedder())
    settings = GatewaySettings(port=int(sys.argv[2]), slow_client_s=5)
    gateway = FakeGateway(home, StrictEngine(), knowledge, settings=settings, max_wait_s=1)
    serve(gateway.app, settings)


if __name__ == "__main__":
    main()
