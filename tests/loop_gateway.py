"""A gateway over a fake engine that takes real versions, and a home that believes it is served by it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from assistant.services import Child, Services
from data.home import Home
from tests.fakes import FakeEngine, FakeGateway
from tests.scripted_gateway import served


class NamingEngine(FakeEngine):
    """Each version says its name: its weights are no text here."""

    async def _load(self, body: dict[str, Any]) -> httpx.Response:
        self.loads += 1
        self.loaded[body["lora_name"]] = body["lora_name"].rpartition("-")[0]
        return httpx.Response(200, text="Success")


@contextmanager
def gateway_of(home: Home, **more: Any) -> Iterator[str]:
    """Its address; this process passes for the supervisor. The admin key is tests.fakes.ADMIN_KEY."""
    me = Child.of(os.getpid())
    assert me is not None
    with served(FakeGateway(home, NamingEngine(), max_wait_s=5, **more).app) as url:
        Services(supervisor=me, gateway_url=url, page_url=url, base_model="base", engine_state="ready").save(home)
        yield url
