"""The middleware around the routes, from the outside in: ids, other web sites, who asks, bodies, limits."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware

from data.audit import Audit
from data.errors import BrogueError
from data.settings import GatewaySettings
from serve.background import beside
from serve.bodies import Bodies
from serve.gate import METRICS, PUBLIC, Gate
from serve.hardening import Hardening
from serve.identity import Access
from serve.limited import Limited
from serve.limits import Usages
from serve.turns import Turns

TOLD = ("x-request-id", "x-brogue-response-id", "x-brogue-version", "x-brogue-overhead-ms", "x-brogue-retrieval-ms",
        "retry-after", *(f"x-ratelimit-{which}-{what}" for which in ("limit", "remaining", "reset")
                         for what in ("requests", "tokens")))  # fmt: skip


class Doors:
    """Everything that a request passes before a route sees it. `add_to` an application, and `running` with it."""

    def __init__(self, access: Access, audit: Audit, settings: GatewaySettings) -> None:
        self._access = access
        self._audit = audit
        self._settings = settings
        self._usages = Usages(lambda: access.credentials.keys)
        self.turns = Turns(settings.max_at_once, settings.max_waiting, settings.max_wait_s)

    def add_to(self, app: Starlette) -> None:
        """The last one that is added stands outside of the others."""
        settings = self._settings
        public = PUBLIC | METRICS if settings.open_metrics else PUBLIC
        app.add_middleware(Limited, access=self._access, usages=self._usages, turns=self.turns)
        app.add_middleware(Bodies, settings=settings, public=public)
        app.add_middleware(Gate, access=self._access, audit=self._audit, public=public)
        if settings.cors_origins:
            app.add_middleware(
                CORSMiddleware, allow_origins=settings.cors_origins, allow_methods=["*"], allow_headers=["*"],
                expose_headers=TOLD,
            )  # fmt: skip
        app.add_middleware(Hardening)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write what keys use while the application runs, and once more at its end."""
        try:
            async with beside(self._usages.run()):
                yield
        finally:
            with suppress(BrogueError):  # told where it happened
                await self._usages.sync()
