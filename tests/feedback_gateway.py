"""A real gateway with a real store over the fake engine, on a port of its own: for tests of pages and clients."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data.home import Home, write_text
from tests.fakes import ADMIN_KEY, FakeEngine, FakeGateway, add_assistant, add_version
from tests.scripted_gateway import served


@contextmanager
def feedback_gateway(
    tmp_path: Path, *, engine: FakeEngine | None = None, logging: str = "full"
) -> Iterator[tuple[str, Home, str]]:
    """(url, home, admin key). Models: assistants reed and fern, reed-voice@1 and @2 (stable: 1), fern-voice@1, base.

    An answer by a version is its name, twice; `FakeEngine(words=…, pause_s=…)` makes answers longer and slower, and
    `engine.says` gives them any text. The home is the one that the test's own `home` fixture names. For people that
    sign in, make users in `home` (the gateway sees them at once).
    """
    home = Home(tmp_path / "home")
    home.create()
    write_text(home.settings_file, f'[store]\nlogging = "{logging}"\n')
    for adapter in ("reed-voice", "reed-voice", "fern-voice"):
        add_version(home, adapter)
    for name, colour in (("reed", "#4a6b57"), ("fern", "#8a4a2f")):
        brand = f'brand: {{colour: "{colour}", greeting: {name} greets}}'
        add_assistant(home, name, f"adapter: {name}-voice\nsystem_prompt: Be {name.title()}.\n{brand}\n")
    with served(FakeGateway(home, engine, max_wait_s=5).app) as url:
        yield url, home, ADMIN_KEY
