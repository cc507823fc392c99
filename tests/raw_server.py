"""The gateway over the fake engine, served as `brogue up` serves it: `python -m tests.raw_server HOME PORT`."""

import logging
import sys
from pathlib import Path

import uvicorn

from assistant.knowledge import Knowledge
from data.home import Home
from data.settings_knowledge import KnowledgeSettings
from tests.fakes import FakeGateway, add_assistant, add_version
from tests.knowledge_fakes import WordEmbedder


def main() -> None:
    home = Home(Path(sys.argv[1]))
    home.create()
    add_version(home, "reed-voice")
    add_assistant(home, "reed", "adapter: reed-voice\nsystem_prompt: Be Reed.\n")
    logging.basicConfig(level=logging.INFO, format="%(name)s %(levelname)s %(message)s")
    gateway = FakeGateway(home, knowledge=Knowledge(home, KnowledgeSettings(), WordEmbedder()), max_wait_s=1)
    uvicorn.Server(
        uvicorn.Config(gateway.app, port=int(sys.argv[2]), log_level="warning", timeout_graceful_shutdown=5)
    ).run()


if __name__ == "__main__":
    main()
