"""Runs of training over HTTP, for admins: what was trained, how far what runs now is, the curves.

The runs are handed in; the gateway knows nothing of their folders. Starting and stopping stays with the command line.
"""

import asyncio
from typing import Any, Protocol

from fastapi import APIRouter, Depends
from starlette.responses import Response

from serve.admin import Guard


class Runs(Protocol):
    """What is asked of the runs. All calls are made in a thread; they raise `BrogueError`, `UnknownName`."""

    def listed(self) -> list[dict[str, Any]]:
        """All runs, the newest first."""

    def described(self, id: str) -> dict[str, Any]:
        """One of them, with its curves as numbers."""

    def pictured(self, id: str) -> bytes:
        """Its curves as a PNG."""


def run_routes(runs: Runs, guard: Guard) -> APIRouter:
    """The routes under /v1/runs."""
    routes = APIRouter(prefix="/v1/runs", tags=["runs"], dependencies=[Depends(guard)])

    @routes.get("")
    async def all_of_them() -> dict[str, Any]:
        """The runs of training, the newest first; `progress` says how far one is that runs now."""
        return {"object": "list", "data": await asyncio.to_thread(runs.listed)}

    @routes.get("/{id}")
    async def one(id: str) -> dict[str, Any]:
        """A run with its `curves`: panels of lines, each with its steps and values, thinned to some hundred points."""
        return await asyncio.to_thread(runs.described, id)

    @routes.get("/{id}/curves.png", response_class=Response, responses={200: {"content": {"image/png": {}}}})
    async def curves(id: str) -> Response:
        """The curves as a picture; 404 while nothing has been measured."""
        picture = await asyncio.to_thread(runs.pictured, id)
        return Response(picture, media_type="image/png", headers={"cache-control": "no-cache"})

    return routes
