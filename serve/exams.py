"""Exams and the loop over HTTP, for admins: how each version did, the reports, what a retrain does now, and its start.

Both are handed in; the gateway knows nothing of their folders. A retrain is a process of its own.
"""

import asyncio
from typing import Any, Literal, Protocol, Self

from fastapi import APIRouter, Depends, Query
from pydantic import Field, model_validator
from starlette.responses import HTMLResponse

from data.settings import Frozen
from serve.admin import Guard

# What a browser that opens a report may do with it: show it.
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"


class Exams(Protocol):
    """What is asked of the exams. All calls are made in a thread; they raise `BrogueError`, `UnknownName`."""

    def listed(self, adapter: str | None = None) -> list[dict[str, Any]]:
        """All exams, or an adapter's, the newest first, each in short."""

    def described(self, id: str) -> dict[str, Any]:
        """The whole of one."""

    def report(self, id: str) -> str:
        """Its report, a page of HTML."""


class Wish(Frozen):
    """How to retrain. Left out: an unfinished round goes on as it was asked, a new one as `brogue retrain` would."""

    recipe: Literal["dpo", "ppo", "sft", "kto"] | None = None
    auto: bool = Field(False, description="a version that passes goes live")
    canary: int | None = Field(None, ge=1, le=99, description="percent of the conversations that it is tried on")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.auto and self.canary is not None:
            raise ValueError("wanted one of auto and canary; found both")
        return self


class Loops(Protocol):
    """What is asked of the loop. All calls are made in a thread; they raise `BrogueError`, `UnknownName`."""

    def history(self, adapter: str) -> dict[str, Any]:
        """The adapter's rounds and the exams of its versions, and what is going on now."""

    def retrain(self, adapter: str, wish: Wish) -> dict[str, Any]:
        """Start a retrain; gives what `history` does."""


def exam_routes(exams: Exams, guard: Guard) -> APIRouter:
    """The routes under /v1/exams."""
    routes = APIRouter(prefix="/v1/exams", tags=["exams"], dependencies=[Depends(guard)])

    @routes.get("")
    async def all_of_them(adapter: str | None = Query(None, description="only this one's")) -> dict[str, Any]:
        """The exams, the newest first: who was asked, the verdict, every figure with its interval and its way."""
        return {"object": "list", "data": await asyncio.to_thread(exams.listed, adapter)}

    @routes.get("/{id}")
    async def one(id: str) -> dict[str, Any]:
        """An exam with all that it found: the figures of all arms, by slice, and the prompts that moved most."""
        return await asyncio.to_thread(exams.described, id)

    @routes.get("/{id}/report.html", response_class=HTMLResponse)
    async def report(id: str) -> HTMLResponse:
        """Its report as a page of HTML that fetches nothing and runs no script."""
        page = await asyncio.to_thread(exams.report, id)
        return HTMLResponse(page, headers={"content-security-policy": REPORT_POLICY, "cache-control": "no-cache"})

    return routes


def loop_routes(loops: Loops, guard: Guard) -> APIRouter:
    """The loop's routes under /v1/adapters."""
    routes = APIRouter(prefix="/v1/adapters", tags=["adapters"], dependencies=[Depends(guard)])

    @routes.get("/{name}/loop")
    async def loop(name: str) -> dict[str, Any]:
        """How an adapter got better: its `rounds` and its `versions`, each with its latest exam in short; whether a
        retrain is `running`; what it said last (`said`); how many new `judgements` wait for one."""
        return await asyncio.to_thread(loops.history, name)

    @routes.post("/{name}/retrain")
    async def retrain(name: str, wish: Wish | None = None) -> dict[str, Any]:
        """Start a retrain as a process of its own, one at a time; answers at once, as /loop does."""
        return await asyncio.to_thread(loops.retrain, name, wish or Wish())

    return routes
