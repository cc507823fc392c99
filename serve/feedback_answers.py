"""The answers of a raters' queue: all arms of a task at the same time, once, for all who wait for them.

A task's answers are written to their end even when nobody listens any more: a rater who closes the tab finds them.
"""

import asyncio
import json
import logging
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from data.errors import BrogueError, one_line
from data.queues import Slot, Task, Turn
from data.store import Store
from data.store_queues import Queues
from serve.exchange import CHAT, Catalogue, Exchange
from serve.openai_errors import ApiError
from serve.recorder import Recorder
from serve.relay import Relay
from serve.timing import Timing

_LOG = logging.getLogger("brogue.feedback")
Event = dict[str, Any]  # {"delta"}, {"response_id"} at the end, or {"error"}


class _Generation:
    """What has been said so far of one task's answers, and who waits for more."""

    def __init__(self) -> None:
        self.events: list[tuple[int, Event]] = []  # the arm's number, and what it says
        self.task: asyncio.Task[None] | None = None
        self._more = asyncio.Condition()
        self._finished = False

    async def tell(self, number: int, event: Event) -> None:
        async with self._more:
            self.events.append((number, event))
            self._more.notify_all()

    async def finish(self) -> None:
        async with self._more:
            self._finished = True
            self._more.notify_all()

    async def follow(self) -> AsyncIterator[tuple[int, Event]]:
        """Everything from the beginning, as it comes."""
        seen = 0
        while not self._finished or seen < len(self.events):
            for event in self.events[seen:]:
                yield event
                seen += 1
            await self._past(seen)

    async def _past(self, seen: int) -> None:
        """Wait until there is more than that, or all has been said."""
        async with self._more:
            await self._more.wait_for(lambda: len(self.events) > seen or self._finished)


class TaskAnswers:
    """Has tasks answered. For one process: two that answer the same task keep the first one's answers."""

    def __init__(self, catalogue: Catalogue, relay: Relay, recorder: Recorder) -> None:
        self._catalogue = catalogue
        self._relay = relay
        self._recorder = recorder
        self._running: dict[str, _Generation] = {}

    async def of(self, turn_id: str, rater: str) -> AsyncGenerator[Event, None]:
        """The events of a turn's answers with their `position`; those that are there come whole, at last the turn."""
        store = await asyncio.to_thread(self._recorder.store)
        task, turn = await asyncio.to_thread(_read, store, turn_id, rater)
        for shown in turn.answers:
            if shown.response_id is not None:
                yield {"position": shown.position, "delta": shown.text or ""}
                yield {"position": shown.position, "response_id": shown.response_id}
        missing = [slot for slot in task.slots if slot.response_id is None]
        if missing:
            positions = {slot.number: slot.position for slot in missing}
            async for number, event in self._generation(task, missing).follow():
                if number in positions:
                    yield {"position": positions[number], **event}
        _, turn = await asyncio.to_thread(_read, store, turn_id, rater)
        yield {"turn": turn.model_dump(mode="json")}

    async def stop(self) -> None:
        """Give up what is running."""
        tasks = [running.task for running in self._running.values() if running.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _generation(self, task: Task, missing: list[Slot]) -> _Generation:
        """The one that runs for this task, or a new one."""
        if (running := self._running.get(task.id)) is None:
            running = self._running[task.id] = _Generation()
            running.task = asyncio.create_task(self._generate(task, missing, running))
        return running

    async def _generate(self, task: Task, missing: list[Slot], told: _Generation) -> None:
        try:
            await asyncio.gather(*(self._answer(task, slot, told) for slot in missing))
        finally:
            del self._running[task.id]
            await told.finish()

    async def _answer(self, task: Task, slot: Slot, told: _Generation) -> None:
        try:
            exchange = await self._exchange(task, slot)
            async with aclosing(self._relay.blocks(exchange)) as blocks:
                async for piece in _pieces(blocks):
                    await told.tell(slot.number, {"delta": piece})
            await asyncio.to_thread(self._keep, task, slot, exchange.response_id)
            await told.tell(slot.number, {"response_id": exchange.response_id})
        except (ApiError, BrogueError) as error:
            await told.tell(slot.number, {"error": one_line(error)})
        except Exception:  # the background task's edge: the other arms go on
            incident = uuid.uuid4().hex[:8]
            _LOG.exception("incident %s", incident)
            message = f"something broke in the gateway; incident {incident} in its log"
            await told.tell(slot.number, {"error": message})

    async def _exchange(self, task: Task, slot: Slot) -> Exchange:
        timing = Timing()
        sampling = slot.arm.model_dump(include={"model", "temperature", "max_tokens"}, exclude_none=True)
        body = {**sampling, "messages": list(task.messages), "stream": True}
        if task.subject is not None:  # whose words they are: by it `forget` finds the answers
            body["user"] = task.subject
        if task.topic is not None:
            body["metadata"] = {"topic": task.topic}
        return Exchange(CHAT, body, {}, await self._catalogue.prepare(body), timing)

    def _keep(self, task: Task, slot: Slot, response_id: str) -> None:
        Queues(self._recorder.settled()).set_answers(task.id, {slot.number: response_id})


def _read(store: Store, turn_id: str, rater: str) -> tuple[Task, Turn]:
    queues = Queues(store)
    return queues.task(turn_id, rater), queues.turn(turn_id, rater)


async def _pieces(blocks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """The pieces of text of an answer's events. Raises `ApiError` for an answer that broke off, or is an error."""
    async for block in blocks:
        for line in block.split(b"\n\n"):
            if not line.startswith(b"data: ") or line == b"data: [DONE]":
                continue
            event = json.loads(line.removeprefix(b"data: "))
            if "error" in event:
                raise ApiError(503, str(event["error"].get("message", "the answer broke off")))
            for choice in event.get("choices", ()):
                if text := choice.get("delta", {}).get("content"):
                    yield text
