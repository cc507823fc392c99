"""What the gateway asks of the engine besides answers: load, unload, list and try adapters. And how the engine is."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from data.errors import BrogueError, one_line

PROBE_TIMEOUT_S = 60
LOOK_AGAIN_S = 0.25
_PROBE = [{"role": "user", "content": "Hello"}]


class Refused(BrogueError):
    """A version that cannot be served, with the reason."""


class Unavailable(BrogueError):
    """The engine cannot answer now; it may later (`retry_after_s`), or not by itself (none)."""

    def __init__(self, message: str, retry_after_s: int | None = 10) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unreachable(Unavailable):
    """The connection to the engine broke."""


@dataclass(frozen=True)
class EngineState:
    """How the engine's process is; `starts` tells one process from the next."""

    state: str = "ready"  # starting, ready, dead
    detail: str = ""
    starts: int = 1


@dataclass(frozen=True)
class EngineLink:
    """An engine as the pool meets it: `client` speaks to it with its key, `now` tells how its process is.

    Of one that was started elsewhere (`is_elsewhere`) nobody here knows that: it has to be asked.
    """

    name: str
    client: httpx.AsyncClient
    now: Callable[[], EngineState] = EngineState
    is_elsewhere: bool = False

    @property
    def address(self) -> str:
        """Its URL, without a slash at the end."""
        return str(self.client.base_url).rstrip("/")


@dataclass(frozen=True)
class Lease:
    """Where to send what a version is to answer: the name that it has in its engine, and a client of that engine.

    With `is_routed` the client is one of a router, which chooses the engine.
    """

    name: str
    client: httpx.AsyncClient
    dress: Callable[[dict[str, Any]], dict[str, Any]] | None = None  # what a soft prompt makes of a request
    is_routed: bool = False

    def body(self, asked: dict[str, Any]) -> dict[str, Any]:
        """A chat request as this version's engine is to see it."""
        body = asked | {"model": self.name}
        return body if self.dress is None else self.dress(body)


class EngineApi:
    """vLLM's run-time LoRA endpoints. `client` speaks to the engine with its key."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def load(self, name: str, folder: str, patience_s: float = 0) -> None:
        """Register an adapter folder under a name. Never `load_inplace`: it goes on reading the folder later.

        A folder that the engine does not see is waited for so long: it may be on its way to the engine's machine.
        """
        body, deadline = {"lora_name": name, "lora_path": folder}, time.monotonic() + patience_s
        while True:
            with _reachable():
                reply = await self._client.post("/v1/load_lora_adapter", json=body)
            if not _is_missing(reply) or time.monotonic() >= deadline:
                break
            await asyncio.sleep(LOOK_AGAIN_S)
        # A name that is there already holds the same weights: the content's hash is part of it.
        if reply.status_code != 200 and "already been loaded" not in reply.text:
            raise Refused(f"the engine refused adapter {name}: {_message(reply)}")

    async def unload(self, name: str) -> None:
        """Forget a name; one that is not there is fine."""
        with _reachable():
            reply = await self._client.post("/v1/unload_lora_adapter", json={"lora_name": name})
        if reply.status_code not in (200, 404):
            raise BrogueError(f"the engine did not unload adapter {name}: {_message(reply)}")

    async def loaded(self) -> set[str]:
        """Names of the adapters that the engine knows."""
        with _reachable():
            reply = await self._client.get("/v1/models", timeout=30)
        if reply.status_code != 200:
            raise BrogueError(f"the engine did not list its adapters: {_message(reply)}")
        return {model["id"] for model in reply.json()["data"] if model.get("parent")}


async def probe(version: str, lease: Lease) -> None:
    """A short greedy answer must come."""
    body = lease.body({"messages": _PROBE, "max_tokens": 4, "temperature": 0})
    with _reachable():
        try:
            reply = await lease.client.post("/v1/chat/completions", json=body, timeout=PROBE_TIMEOUT_S)
        except httpx.ReadTimeout as error:
            raise Refused(f"{version} gave no answer to a first question in {PROBE_TIMEOUT_S} s") from error
    if reply.status_code != 200 or not reply.json().get("choices"):
        raise Refused(f"{version} could not answer a first question: {_message(reply)}")


@contextmanager
def _reachable() -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as error:
        raise Unreachable(f"the connection to the engine broke ({type(error).__name__})") from error


def _is_missing(reply: httpx.Response) -> bool:
    """Whether vLLM says that it has not found the folder, or a file in it."""
    return reply.status_code == 404 or (reply.status_code != 200 and "No such file" in reply.text)


def _message(reply: httpx.Response) -> str:
    try:
        return one_line(reply.json()["error"]["message"], 200)
    except (ValueError, KeyError, TypeError):
        return f"{reply.status_code} {one_line(reply.text, 200)}"
