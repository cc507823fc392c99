"""Documents over HTTP, for admins: which there are, and what a search finds. Nothing is changed here.

The knowledge is handed in; the gateway knows nothing of indexes.
"""

import asyncio
from typing import Any, Protocol

from fastapi import APIRouter, Depends
from pydantic import Field

from data.settings import Frozen
from serve.admin import Guard


class Documents(Protocol):
    """What is asked of the knowledges. All calls are made in a thread; they raise `BrogueError`, `UnknownName`."""

    def listed(self) -> list[dict[str, Any]]:
        """All knowledges."""

    def described(self, name: str) -> dict[str, Any]:
        """One of them, with its documents."""

    def searched(self, name: str, question: str, limit: int) -> dict[str, Any]:
        """What is found for a question, with scores by stage."""


class Search(Frozen):
    """A question to try."""

    question: str = Field(min_length=1, max_length=10_000)
    limit: int = Field(5, ge=1, le=50)


def knowledge_routes(documents: Documents, guard: Guard) -> APIRouter:
    """The routes under /v1/knowledge."""
    routes = APIRouter(prefix="/v1/knowledge", tags=["knowledge"], dependencies=[Depends(guard)])

    @routes.get("")
    async def all_of_them() -> dict[str, Any]:
        """The assistants that have documents, with the numbers of documents and passages."""
        return {"object": "list", "data": await asyncio.to_thread(documents.listed)}

    @routes.get("/{name}")
    async def one(name: str) -> dict[str, Any]:
        """An assistant's documents, with the number of passages of each."""
        return await asyncio.to_thread(documents.described, name)

    @routes.post("/{name}/search")
    async def search(name: str, wanted: Search) -> dict[str, Any]:
        """The passages found for a question, with scores by stage, and whether the assistant would answer."""
        return await asyncio.to_thread(documents.searched, name, wanted.question, wanted.limit)

    return routes
