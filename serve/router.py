"""A vllm-router before the base model's engines: which requests go through it, and which engines it may choose from.

It chooses by what an engine has cached and has to do, but knows nothing of adapters: so it gets only what every open
engine can answer, and is told which engines are open. Nothing hangs on it: while it is away engines are asked directly.
"""

import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import httpx

from adapters.registry import AdapterCard
from data.errors import one_line
from serve.engine_api import EngineLink, Lease
from serve.replica import LOOK_S, Replica
from serve.ways import InFlight

_LOG = logging.getLogger("brogue.router")
# What the router passes on of the parts of a request that it reads; what else is in them it drops without a word.
_PASSED_ON = {
    "messages": {"role", "content", "reasoning", "tool_calls", "tool_call_id"},
    "tools": {"type", "function"},
    "tool_calls": {"id", "type", "function"},
    "tool_choice": {"type", "function"},
    "function": {"name", "description", "parameters", "arguments"},
    "response_format": {"type", "json_schema"},
    "json_schema": {"name", "schema", "strict"},
    "stream_options": {"include_usage"},
}


def is_passed_whole(asked: Mapping[str, Any]) -> bool:
    """Whether an engine sees all of a request that goes through the router."""
    for name, passed_on in _PASSED_ON.items():
        held = asked.get(name)
        for one in held if isinstance(held, list) else (held,):
            if isinstance(one, dict) and not (one.keys() <= passed_on and is_passed_whole(one)):
                return False
    return isinstance(asked.get("arguments", ""), str)  # a call of a tool, which it drops if this is no text


class Router:
    """It is asked as long as it says that it has an engine that is well. `link` is to itself, not to an engine."""

    def __init__(self, link: EngineLink, in_flight: InFlight) -> None:
        self.name, self.client = link.name, link.client
        self.busy = 0  # answers that come through it
        self._in_flight = in_flight
        self._trouble = "not looked at yet"
        self._remark = ""  # what is wrong with the engines that it has
        self._met: set[str] = set()  # addresses of engines that have been open to us

    @property
    def is_well(self) -> bool:
        """Whether it can be asked."""
        return not self._trouble

    @property
    def detail(self) -> str:
        """Why it is away, or what is wrong with the engines that it has, in one line; else empty."""
        return self._trouble or self._remark

    def state(self) -> dict[str, str | int]:
        """For whoever runs it."""
        return {"name": self.name, "state": "ready" if self.is_well else "away",
                "detail": self.detail, "answers_now": self.busy}  # fmt: skip

    @contextmanager
    def base(self, name: str) -> Iterator[Lease]:
        """The base model, at an engine of its choice."""
        self.busy += 1
        try:
            yield Lease(name, self.client, is_routed=True)
        finally:
            self.busy -= 1

    @asynccontextmanager
    async def holding(self, card: AdapterCard, engines: Sequence[Replica], deadline: float) -> AsyncIterator[Lease]:
        """A version that has a slot and is loaded on each of `engines`, whichever of them answers."""
        name = card.engine_name
        async with AsyncExitStack() as stack:
            for one in engines:  # always in the same order: two requests never wait for each other
                await one.loader.take_slot(name, deadline)
                stack.callback(one.loader.slots.leave, name)
            stack.enter_context(self._in_flight.counted(card))
            for one in engines:
                await one.loader.ensure_loaded(card)
            yield stack.enter_context(self.base(name))

    def suspect(self, why: str) -> None:
        """A connection to it broke, it may be an engine's fault: engines are asked directly until it was looked at."""
        self._trouble = self._trouble or why

    async def look(self, engines: Sequence[Replica]) -> None:
        """Tell it which engines are open, then ask it how it is."""
        try:
            remark = await self._tell(engines)
            reply = await self.client.get("/readiness", timeout=LOOK_S)  # its /health fails with any of its engines
            trouble = "" if reply.status_code == 200 else f"it says {reply.status_code}: {one_line(reply.text, 120)}"
        except httpx.HTTPError as error:
            trouble, remark = f"it cannot be reached ({type(error).__name__})", ""
        if (trouble, remark) != (self._trouble, self._remark) and (trouble or remark):
            _LOG.warning("router %s: %s", self.name, trouble or remark)
        self._trouble, self._remark = trouble, remark

    async def _tell(self, engines: Sequence[Replica]) -> str:
        """Give it the engines that are open and take the others from it; in one line what could not be done.

        Several gateways may do so at once: what another one has done already is done. Those that are well and were
        never open to us are left as they are: we may have begun just now, while other gateways use them.
        """
        reply = await self.client.get("/list_workers", timeout=LOOK_S)
        if reply.status_code != 200:
            return f"it answers {reply.status_code} when asked for its engines"
        listed, problems = _addresses(reply), []
        self._met |= {one.address for one in engines if one.is_open}
        for one in engines:
            if one.is_open and one.address not in listed:
                problems.append(await self._change("add_worker", one.address))
            elif one.address in listed and not one.is_open and (one.address in self._met or not one.is_ready):
                problems.append(await self._change("remove_worker", one.address))
        if strange := sorted(listed - {one.address for one in engines}):
            problems.append(f"it has engines that engine.urls does not name: {', '.join(strange)}")
        return "; ".join(filter(None, problems))

    async def _change(self, what: str, address: str) -> str:
        try:
            reply = await self.client.post(f"/{what}", params={"url": address}, timeout=LOOK_S)
        except httpx.HTTPError as error:
            return f"{what} {address}: {type(error).__name__}"
        if reply.status_code == 200 or "already exists" in reply.text:
            return ""
        return f"{what} {address}: {one_line(reply.text, 120)}"


def _addresses(reply: httpx.Response) -> set[str]:
    try:
        return {str(url) for url in reply.json()["urls"]}
    except (ValueError, KeyError, TypeError):
        return set()
