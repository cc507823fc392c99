"""What tests of the hot swap tell: clients that ask on under load, moves of aliases, and what an answer may be."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from data.home import Home
from tests.fakes import FakeGateway, add_assistant, add_version

CLIENTS = 8


@dataclass(frozen=True)
class Answer:
    """What a client got."""

    status: int
    version: str  # as the header says
    words: tuple[str, ...]
    error: str = ""
    whole: bool = False  # it ended with [DONE]

    @property
    def is_right(self) -> bool:
        """Complete, and every word is by the version that the header names."""
        return self.whole and not self.error and set(self.words) == {self.version}


def assert_only_streams_that_had_begun_broke(answers: Sequence[Answer]) -> None:
    """What an engine's death may cost."""
    broken = [answer for answer in answers if not answer.is_right]
    assert len(broken) <= CLIENTS, "only streams that had begun"
    assert all(answer.status == 200 and answer.error for answer in broken), "and these say so"


async def ask(client: httpx.AsyncClient, model: str = "reed", headers: dict[str, str] | None = None) -> Answer:
    """Stream one answer."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    reply = await client.post("/v1/chat/completions", json=body, headers=headers, timeout=60)
    if reply.status_code != 200:
        return Answer(reply.status_code, "", (), reply.json()["error"]["message"])
    words, error, lines = [], "", reply.text.split("\n\n")
    for line in lines:
        if line.startswith("data: {"):
            event = json.loads(line.removeprefix("data: "))
            error = error or event.get("error", {}).get("message", "")
            words += [choice["delta"]["content"] for choice in event.get("choices", [])]
    return Answer(200, reply.headers["x-brogue-version"], tuple(words), error, "data: [DONE]" in lines)


@asynccontextmanager
async def load(client: httpx.AsyncClient, *models: str) -> AsyncIterator[list[Answer]]:
    """Clients that ask one after the other as long as the block runs, and all that they got."""
    answers: list[Answer] = []
    over = asyncio.Event()

    async def ask_on(model: str) -> None:
        while not over.is_set():
            answers.append(await ask(client, model))

    async with asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(ask_on(models[number % len(models)]))
        try:
            yield answers
        finally:
            over.set()


async def until(true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.005)


async def put(client: httpx.AsyncClient, adapter: str, alias: str, version: int, **more: Any) -> httpx.Response:
    return await client.put(f"/v1/adapters/{adapter}/aliases/{alias}", json={"version": version, **more})


def run(gateway: FakeGateway, story: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    """Tell a story in a running gateway."""

    async def told() -> None:
        async with gateway.running() as client:
            await story(client)

    asyncio.run(told())


@pytest.fixture
def voices(home: Home) -> Home:
    """Adapter reed-voice with three versions, 1 being stable, and the assistant reed that uses it."""
    for _ in range(3):
        add_version(home, "reed-voice")
    add_assistant(home, "reed", "adapter: reed-voice\n")
    return home
