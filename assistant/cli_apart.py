"""`brogue engine` and `brogue page`: one part of what `brogue up` starts, in the foreground, for gateways elsewhere."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from assistant.cli_services import bring_shared
from assistant.cli_share import following
from assistant.console import working
from data.errors import BrogueError
from data.home import Home
from data.secrets import ENGINE_KEY
from data.settings import PageSettings, Settings, load_settings

LOOK_S = 0.5


def engine(
    host: Annotated[str, typer.Option(help="Where it listens; let only the gateways reach it.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Its port.")] = 8100,
) -> None:
    """Run one vLLM engine for gateways elsewhere (engine.urls in their brogue.toml), until Ctrl-C.

    It wants $BROGUE_ENGINE_KEY, the gateways' own. Where homes share their adapters it brings them here.
    """
    from adapters.base_model import prepare
    from serve.engine import Engine, Place
    from serve.hardware import plan_all
    from serve.model_check import check_servable

    home = Home.from_environment()
    home.create()
    settings = load_settings(home.settings_file)
    key = os.environ.get(ENGINE_KEY, "")
    if not key:
        raise BrogueError(f"an engine for gateways elsewhere wants a key that they have, too; set {ENGINE_KEY}")
    bring_shared(home, settings)
    mine = settings.engine.model_copy(update={"urls": (), "router": None, "count": 1})
    with working("base model") as tell:
        base = prepare(settings.base_model, home, tell)
        check_servable(base.path, base.sha256, mine.dtype, home)
        [plan] = plan_all(mine, base.weight_bytes, base.kv_bytes_per_token, base.context_length)
    place = Place(port, key, host)
    started = Engine.build(base.path, base.name, mine, plan, home, log=f"engine-{port}.log", place=place)
    try:
        with _following(home, settings):
            started.start()
            with working("engine") as tell:
                started.wait_ready(mine.start_timeout_s, tell)
            typer.echo(f"engine   http://{host}:{port}  ({base.name}; Ctrl-C stops it)")
            while started.is_alive():
                time.sleep(LOOK_S)
            raise BrogueError(started.why_dead())
    finally:
        started.stop()


def page(
    gateway: Annotated[str, typer.Option(help="The gateway's address, such as http://gateway:8000.")],
    host: Annotated[
        str | None, typer.Option(help="Where it listens (default: brogue.toml, else this machine).")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Its port (default: brogue.toml, else 7860).")] = None,
) -> None:
    """Run the page alone, for a gateway elsewhere, until Ctrl-C."""
    from assistant.exposure import require_guarded
    from assistant.page_process import page_command, page_environment
    from assistant.services import require_free

    home = Home.from_environment()
    home.create()
    settings = load_settings(home.settings_file)
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    address = PageSettings.model_validate(settings.page.model_dump() | given)
    require_guarded(home, settings.model_copy(update={"page": address}), ("page",))
    require_free("page", address)
    typer.echo(f"page     {address.url}  (Ctrl-C stops it)")
    command = page_command(gateway.rstrip("/"), address)
    os.execve(command[0], command, page_environment(address, home, _signs_in(home)))


def _signs_in(home: Home) -> bool:
    from assistant.cli_store import opened_store
    from data.store_users import Users

    with opened_store(home) as store:
        return Users(store).any()


@contextmanager
def _following(home: Home, settings: Settings) -> Iterator[None]:
    """Meanwhile, what other homes change comes here: an engine reads adapters from its own disk."""
    if settings.shared.artefacts is None:
        yield
        return
    from data.sharing import opened_shared

    with opened_shared(home, settings) as shared, following(shared):
        yield
