"""Fixtures: a home of its own for every test; for the slow layers one real `brogue up` a session, and a browser."""

import gc
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from adapters.base_model import BaseModel, prepare
from data.home import Home
from serve.engine import free_port as free_port
from tests.inside import brogue_inside
from tests.voices import VOICES, overfit


class Begun(NamedTuple):
    """A `brogue up` on its way."""

    home: Home
    process: "subprocess.Popen[bytes]"
    said: Path  # what it has written


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The engine's tests come last: by then `brogue up` is done, which begins with the first test (see below)."""
    items.sort(
        key=lambda item: item.get_closest_marker("engine") is not None or "up_home" in getattr(item, "fixturenames", ())
    )


def pytest_collection_finish() -> None:
    """What has been imported stays to the end: to look through it for garbage took a sixth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


@pytest.fixture(scope="session", autouse=True)
def begun(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Begun | None]:
    """`brogue up`, if a test wants it: it begins with the first test, with what they leave of the processor.

    BROGUE_TEST_HOME names a home to keep and use again between runs of the tests (the first one trains into it).
    """
    if not any("up_home" in getattr(item, "fixturenames", ()) for item in request.session.items):
        yield None
        return
    folder = tmp_path_factory.mktemp("up")
    home, said = Home(Path(os.environ.get("BROGUE_TEST_HOME") or folder / "home")), folder / "said"
    command = [sys.executable, "-m", "assistant.cli", "up", "--port", str(free_port()), "--page-port", str(free_port())]
    with said.open("w") as file:
        process = subprocess.Popen(
            ["nice", "-n", "10", *command], env=os.environ | {"BROGUE_HOME": str(home.root)}, cwd=ROOT,
            stdin=subprocess.DEVNULL, stdout=file, stderr=file,
        )  # fmt: skip
    yield Begun(home, process, said)
    process.terminate()
    process.wait(60)
    run_brogue("down", home=home, timeout=120)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """So small a model is no faster on two, and several times slower when another process wants the second."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def up_home(begun: Begun) -> Home:
    """A home after a real `brogue up`: starter model, both voices trained, engine, gateway and page running."""
    assert begun.process.wait(1500) == 0, begun.said.read_text()[-3000:]
    return begun.home


@pytest.fixture(scope="session")
def starter(request: pytest.FixtureRequest, begun: Begun | None, tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """The starter model, unpacked once a session."""
    home = request.getfixturevalue("up_home") if begun else Home(tmp_path_factory.mktemp("starter"))
    return prepare("starter", home, print)


@pytest.fixture(scope="session")
def voice(starter: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders of adapters for the starter model, each made when it is first asked for (see tests/voices.py)."""
    folder = tmp_path_factory.mktemp("voices")

    def made(name: str) -> Path:
        if not (folder / name).exists():
            overfit(starter.path, VOICES[name], folder / name)
        return folder / name

    return made


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
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=30_000)  # not five seconds: the cores may be busy with something else
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
