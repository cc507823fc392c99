"""Fixtures: a home of its own for every test; for the slow layers one real `brogue up` a session, and a browser."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from data.home import Home
from tests.inside import brogue_inside

Run = Callable[..., "subprocess.CompletedProcess[str]"]
ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("BROGUE_TEST_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An empty home folder, also for commands that the test starts."""
    monkeypatch.setenv("BROGUE_HOME", str(tmp_path / "home"))
    return Home.from_environment()


@pytest.fixture(autouse=True)
def same_environment() -> Iterator[None]:
    """What a library sets when it is imported (TRL quiets vLLM's log) must not reach the engines of other tests."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def run_brogue(
    *words: str, home: Home | None = None, process: bool = False, cwd: Path | None = None, input: str = "",
    env: dict[str, str] | None = None, timeout: float | None = None,
) -> "subprocess.CompletedProcess[str]":  # fmt: skip
    """Run the command as a person would; output as text. `env` is the whole environment where it is given.

    In the test's own process, which is seconds faster; in one of its own with `process` or `timeout` (where signals,
    children or the start count) and in a thread.
    """
    env = (os.environ if env is None else env) | ({"BROGUE_HOME": str(home.root)} if home else {})
    if not process and timeout is None and threading.current_thread() is threading.main_thread():
        return brogue_inside(*words, cwd=cwd, env=env, input=input)
    command = [sys.executable, "-m", "assistant.cli", *words]
    return subprocess.run(command, env=env, cwd=cwd, input=input, timeout=timeout, capture_output=True, text=True)


@pytest.fixture
def brogue() -> Run:
    """Runs `brogue` with the given words."""
    return run_brogue


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def up_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home after a real `brogue up`: starter model, both voices trained, engine, gateway and page running.

    BROGUE_TEST_HOME names a home to keep and use again between runs of the tests (the first one trains into it).
    """
    kept = os.environ.get("BROGUE_TEST_HOME")
    home = Home(Path(kept) if kept else tmp_path_factory.mktemp("up") / "home")
    done = run_brogue("up", "--port", str(free_port()), "--page-port", str(free_port()), home=home, timeout=1500)
    assert done.returncode == 0, done.stderr[-3000:]
    yield home
    run_brogue("down", home=home, timeout=120)


@pytest.fixture(scope="session")
def services(up_home: Home) -> dict[str, Any]:
    """What `brogue status --json` says of the session's services."""
    done = run_brogue("status", "--json", home=up_home)
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="session")
def gateway_url(services: dict[str, Any]) -> str:
    return str(services["gateway_url"])


@pytest.fixture(scope="session")
def page_url(services: dict[str, Any]) -> str:
    return str(services["page_url"])


@pytest.fixture(scope="module")  # Playwright keeps an event loop running, in which other modules could not start theirs
def browser() -> Iterator[Any]:
    """The system's Chromium, headless, with nothing that talks to the outside by itself."""
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip
    path = next((p for p in ("/usr/bin/chromium", "/usr/bin/chromium-browser") if Path(p).exists()), None)
    assert path, "wanted Chromium for the page's tests; install it: apt-get install chromium"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=flags)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A new browser window, wide, with nothing remembered from others."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield context.new_page()
    context.close()


@pytest.fixture
def public_data() -> Path:
    """The folder of public data sets (docs/data.md says where they come from); skips where it is missing."""
    if not DATA.is_dir():
        pytest.skip(f"the public data sets are not in {DATA}; docs/data.md names their sources")
    return DATA
