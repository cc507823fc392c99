"""OpenAI's client for Node.js, unchanged, against the gateway. `make clients` fetches it from npm."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from data.home import Home
from tests.clients_gateway import EMBEDDING, clients_gateway
from tests.conftest import ROOT
from tests.fakes import FakeEngine


def package() -> Path:
    """The folder of the package; skips where it or Node.js is missing."""
    found = re.search(r"^OPENAI_NODE := (\S+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert found, "the Makefile names the version"
    folder = ROOT / ".venv" / f"openai-node-{found[1]}"
    if shutil.which("node") is None:
        pytest.skip("Node.js is not installed")
    if not folder.is_dir():
        pytest.skip(f"OpenAI's client for Node.js is not in {folder.name}; fetch it: make clients")
    return folder


def run_node(base_url: str, model: str) -> dict[str, Any]:
    """What the script saw."""
    command = ["node", str(ROOT / "tests" / "openai_node.js"), str(package()), base_url, model, EMBEDDING]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_openais_client_for_node_reads_models_answers_streams_embeddings_and_errors(home: Home) -> None:
    with clients_gateway(home, FakeEngine()) as (_, url):
        seen = run_node(url, "fern")
    assert seen["models"][0] == "fern"
    assert (seen["text"], seen["version"]) == ("fern-voice@1 fern-voice@1", "fern-voice@1")
    assert (seen["streamed"], seen["usage"]["prompt_tokens"]) == ("fern-voice@1fern-voice@1", 7)
    assert seen["dimensions"] == [64, 64]
    assert seen["responses"] == ["fern-voice@1 fern-voice@1", True]
    assert seen["error"] == ["NotFoundError", 404, "model_not_found"]
