"""Writes answers to the store, in a thread of its own and several at a time, so that no answer waits for a database.

A store that is away or full is tried again; what is waiting meanwhile is bounded, and what had to be left out is
counted and logged. A kill loses the answers of the last moments, a stop none.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from data.errors import one_line
from data.judgements import PassageRef, Rating, Response, as_key, now
from data.store import Store, StoreDown
from serve.metrics import Metrics

_LOG = logging.getLogger("brogue.recorder")
GATHER_S = 0.5  # answers of so long go into one transaction: each one costs milliseconds of processor time
BATCH = 200
WAITING = 5_000  # answers that may wait for a store that is away
BACK_OFF_S = (1.0, 2.0, 5.0, 10.0, 30.0)
SETTLE_S = 5.0  # so long a rating waits for the answers before it
ELSEWHERE_S = (0.1, 0.2, 0.3, 0.4)  # pauses between looks for an answer that another gateway gathers for `GATHER_S`
STOP_S = 10.0


@dataclass(frozen=True)
class Answered:
    """An answer as the gateway knows it at its last byte; what a client sent is not checked yet."""

    id: str
    version: str
    messages: list[Any]  # as asked
    text: str
    assistant: str | None
    subject: Any
    conversation: Any
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    passages: tuple[PassageRef, ...] = ()
    topic: Any = None
    private: bool = False  # its words are not to be kept, whatever the settings say
    created: Any = field(default_factory=now)


class Recorder:
    """`start` it with the gateway, `record` each answer, `stop` it at the end."""

    def __init__(self, open_store: Callable[[], Store], metrics: Metrics, back_off_s: tuple[float, ...] = BACK_OFF_S):
        self._open_store = open_store
        self._metrics = metrics
        self._back_off_s = back_off_s
        self._store: Store | None = None
        self._opening = threading.Lock()
        self._waiting: deque[Answered] = deque()
        self._changed = threading.Condition()
        self._taken = self._done = 0  # answers ever taken, and ever written or given up
        self._hurry = self._stopping = False
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is waiting; what a dead store does not take within one try is given up."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(STOP_S)
        if self._waiting:
            self._lose(len(self._waiting), "the store took nothing until the gateway had to stop")
        if self._store is not None and not self._thread.is_alive():
            self._store.close()

    def record(self, answer: Answered) -> None:
        """Take an answer; never waits and never fails."""
        with self._changed:
            full = len(self._waiting) >= WAITING
            if not full:
                self._waiting.append(answer)
                self._taken += 1
                if len(self._waiting) in (1, BATCH):  # else nobody waits for it: waking a thread costs, too
                    self._changed.notify_all()
        if full:
            self._lose(1, f"{WAITING} answers are waiting for the store already")

    def rate(self, rating: Rating) -> tuple[str, Rating | None]:
        """Write a thumb, after the answers before it: (the version rated, the rater's thumb before this one).

        May wait for the database, so call it off the event loop. Raises `UnknownName` and `StoreDown`.
        """
        return self.settled().rate(rating)

    def settled(self) -> Store:
        """The store once the answers before this call are in it, or after `SETTLE_S`: for what is said of answers."""
        with self._changed:
            target, self._hurry = self._taken, True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._done >= target, SETTLE_S)
        return self.store()

    async def arrived(self, *answers: str) -> None:
        """Returns when these answers are in the store, or none of them can be on its way any more.

        What another gateway has answered is written by that one, some moments later than somebody can judge it here.
        """
        store = await asyncio.to_thread(self.settled)
        for pause in ELSEWHERE_S if store.is_shared else ():
            if not await asyncio.to_thread(store.lacks, answers):
                return
            await asyncio.sleep(pause)

    def store(self) -> Store:
        """The store, opened by the first who asks."""
        with self._opening:
            if self._store is None:
                self._store = self._open_store()
            return self._store

    def _run(self) -> None:
        failures = 0
        while batch := self._next():
            try:
                self._write(batch)
                failures = 0
            except StoreDown as error:
                _LOG.error("%s; %d answers are waiting", error, len(batch) + len(self._waiting))
                self._put_back(batch)
                if self._stopping:
                    return
                with self._changed:
                    self._changed.wait_for(lambda: self._stopping, self._pause(failures))
                failures += 1

    def _next(self) -> list[Answered]:
        """The next answers, once there are some; none when all is written and it is time to stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping)
            self._changed.wait_for(lambda: self._hurry or self._stopping or len(self._waiting) >= BATCH, GATHER_S)
            self._hurry = False
            return [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]

    def _write(self, batch: list[Answered]) -> None:
        try:
            self.store().add_responses([_response(answer) for answer in batch])
        except StoreDown:
            raise
        except Exception as error:  # the thread's edge: one answer that cannot be written must not hold up the others
            if len(batch) > 1:
                for answer in batch:
                    self._write([answer])
                return
            self._lose(1, f"answer {batch[0].id} cannot be written: {one_line(error)}")
        self._finished(len(batch))

    def _put_back(self, batch: list[Answered]) -> None:
        with self._changed:
            self._waiting.extendleft(reversed(batch))

    def _finished(self, count: int) -> None:
        with self._changed:
            self._done += count
            self._changed.notify_all()

    def _pause(self, failures: int) -> float:
        return self._back_off_s[min(failures, len(self._back_off_s) - 1)]

    def _lose(self, count: int, why: str) -> None:
        self._metrics.unrecorded(count)
        _LOG.error("%d answers are not in the store: %s", count, why)


def _response(answer: Answered) -> Response:
    values = {name: getattr(answer, name) for name in Answered.__dataclass_fields__ if name != "private"}
    return Response(
        logging="off" if answer.private else "full", **values | {
            "messages": tuple(answer.messages), "subject": key_of(answer.subject),
            "conversation": key_of(answer.conversation), "topic": key_of(answer.topic),
        }
    )  # fmt: skip


def key_of(named: Any) -> str | None:
    """What a client calls a person or a conversation, as a key; none for what is no name."""
    return as_key(str(named)) if isinstance(named, str | int) and str(named) else None


def subject_of(body: Mapping[str, Any]) -> Any:
    """Whose words a request holds: OpenAI's `safety_identifier`, or `user`, its older name."""
    return body.get("user") or body.get("safety_identifier")


def conversation_of(body: Mapping[str, Any], header: str | None) -> Any:
    """The conversation that a request belongs to: the header x-brogue-conversation, or `metadata.conversation`."""
    return header or _metadata(body).get("conversation")


def topic_of(body: Mapping[str, Any]) -> Any:
    """What a request is about, if the client says so: `metadata.topic`."""
    return _metadata(body).get("topic")


def _metadata(body: Mapping[str, Any]) -> dict[str, Any]:
    metadata = body.get("metadata")
    return metadata if isinstance(metadata, dict) else {}
