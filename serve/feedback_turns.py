"""`/v1/feedback/queues` and `/v1/feedback/turns`: raters put answers in order, blind, one prompt after the other."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Body, Depends
from pydantic import AwareDatetime, Field, ValidationError
from starlette.responses import StreamingResponse

from data.errors import one_line, unknown
from data.home import Home
from data.judgements import MAX_COMMENT, Key, Ranking, Words
from data.queue_prompts import gather
from data.queues import Arm, NewQueue, Progress, Queue, Said, Turn
from data.settings import Frozen
from data.store_queues import Queues
from serve.exchange import Catalogue
from serve.feedback import invalid
from serve.feedback_answers import TaskAnswers
from serve.identity import Access, Caller
from serve.openai_errors import ApiError
from serve.recorder import Recorder

T = TypeVar("T")


class Rater(Frozen):
    """Who rates; only needed where nobody signs in."""

    rater: Key | None = None


class TurnJudgement(Said):
    """What a rater says of a turn: `ranks` by position (0 is best, ties equal), or of two answers a `verdict`."""

    rater: Key | None = Field(None, description="only where nobody signs in")
    comment: Words = Field("", max_length=MAX_COMMENT)


class Skip(Rater):
    """Why a rater leaves a turn out."""

    reason: Words = Field("", max_length=MAX_COMMENT)


class NextTurn(Frozen):
    """The turn to judge, or none if there is nothing (more) at present."""

    turn: Turn | None
    progress: Progress


class Judged(Frozen):
    """The judgement's id, and how far the rater is."""

    judgement: str
    progress: Progress


class HowFar(Frozen):
    """How far the rater is."""

    progress: Progress


class QueueFacts(Frozen):
    """A queue. Its arms, and what others did, are for admins: raters judge blind."""

    name: str
    created: AwareDatetime
    tasks: int
    done: int = Field(description="tasks that as many raters as wanted have judged")
    open: int
    by_rater: dict[str, int]
    progress: Progress = Field(description="the caller's own")
    arms: tuple[Arm, ...] | None = None
    overlap: float | None = None
    raters: int | None = None
    repeat: float | None = None


class QueueList(Frozen):
    """All queues, newest first."""

    data: tuple[QueueFacts, ...]


class Removed(Frozen):
    """The queue that was removed; its judgements stay."""

    name: str
    removed: bool = True


async def in_store(recorder: Recorder, what: Callable[[Queues], T]) -> T:
    """Something done with the queues, off the event loop."""
    return await asyncio.to_thread(lambda: what(Queues(recorder.store())))


def queue_routes(access: Access, recorder: Recorder, home: Home, catalogue: Catalogue) -> APIRouter:
    """The routes for queues; admins make and remove them, raters take turns. `home` has the datasets."""
    routes = APIRouter(prefix="/v1/feedback/queues", tags=["queues"])
    rater = Annotated[Caller, Depends(access.at_least("rater"))]
    admin = Annotated[Caller, Depends(access.at_least("admin"))]

    @routes.post("")
    async def create(new: NewQueue, caller: admin) -> QueueFacts:
        """Make a queue of prompts (typed, of a dataset or of live traffic) that all arms answer for raters."""

        def make() -> QueueFacts:
            _check_arms(new, catalogue)
            store = recorder.settled()
            queues = Queues(store)
            return _facts(queues, queues.create(new, gather(home, store, new)), caller)

        return await asyncio.to_thread(make)

    @routes.get("")
    async def all_of_them(caller: rater) -> QueueList:
        """All queues, newest first, with the caller's progress."""
        found = await in_store(recorder, lambda queues: [_facts(queues, one, caller) for one in queues.all()])
        return QueueList(data=tuple(found))

    @routes.get("/{name}")
    async def one(name: str, caller: rater) -> QueueFacts:
        """One queue, and how far it is."""
        return await in_store(recorder, lambda queues: _facts(queues, queues.get(name), caller))

    @routes.delete("/{name}")
    async def remove(name: str, caller: admin) -> Removed:  # noqa: ARG001 - checked before
        """Remove a queue; what was said of its answers stays."""
        await in_store(recorder, lambda queues: queues.remove(name))
        return Removed(name=name)

    @routes.post("/{name}/next")
    async def next_turn(name: str, caller: rater, said: Annotated[Rater, Body()] = Rater()) -> NextTurn:
        """The caller's open turn, or a new one."""
        who = caller.rater(said.rater)
        return await in_store(
            recorder, lambda queues: NextTurn(turn=queues.next(name, who), progress=queues.progress(name, who))
        )

    return routes


def turn_routes(access: Access, recorder: Recorder, answers: TaskAnswers) -> APIRouter:
    """The routes of one rater's turn."""
    routes = APIRouter(prefix="/v1/feedback/turns/{turn_id}", tags=["queues"])
    rater = Annotated[Caller, Depends(access.at_least("rater"))]

    @routes.post("/answers", response_class=StreamingResponse, responses={200: {"content": {"text/event-stream": {}}}})
    async def stream_answers(
        turn_id: str, caller: rater, said: Annotated[Rater, Body()] = Rater()
    ) -> StreamingResponse:  # fmt: skip
        """The turn's answers as server-sent events: {"position", "delta"}…, {"position", "response_id"} at an answer's
        end or {"position", "error"}, at last {"turn"} and [DONE]. Failed ones are asked for again by a new call."""
        who = caller.rater(said.rater)
        await in_store(recorder, lambda queues: queues.turn(turn_id, who))  # an unknown turn is a 404, not an event
        return StreamingResponse(_events(answers, turn_id, who), media_type="text/event-stream")

    @routes.post("/judgement")
    async def judge(turn_id: str, said: TurnJudgement, caller: rater) -> Judged:
        """Keep what the rater says of a turn; the same again is acknowledged again."""
        who = caller.rater(said.rater)

        def keep(queues: Queues) -> Judged:
            turn = queues.turn(turn_id, who)
            stored = queues.judge(turn_id, who, _checked(said, turn, who))
            return Judged(judgement=stored.judgement.id, progress=queues.progress(turn.queue, who))

        try:
            return await in_store(recorder, keep)
        except ValidationError as error:
            raise invalid(error, "the judgement") from error

    @routes.post("/skip")
    async def skip(turn_id: str, caller: rater, said: Annotated[Skip, Body()] = Skip()) -> HowFar:
        """Leave a turn to others; it does not come back."""
        who = caller.rater(said.rater)

        def leave(queues: Queues) -> HowFar:
            queues.skip(turn_id, who, said.reason)
            return HowFar(progress=queues.progress(queues.turn(turn_id, who).queue, who))

        return await in_store(recorder, leave)

    @routes.post("/undo")
    async def undo(turn_id: str, caller: rater, said: Annotated[Rater, Body()] = Rater()) -> NextTurn:
        """Take the turn's judgement back, or that it was skipped, and open it again."""
        who = caller.rater(said.rater)

        def reopen(queues: Queues) -> NextTurn:
            turn = queues.undo(turn_id, who)
            return NextTurn(turn=turn, progress=queues.progress(turn.queue, who))

        return await in_store(recorder, reopen)

    return routes


def _check_arms(new: NewQueue, catalogue: Catalogue) -> None:
    """Refuse a model that cannot answer now: raters would find it out one by one."""
    known = [entry["id"] for entry in catalogue.models()]
    for arm in new.arms:
        if arm.model not in known and not any(name.startswith(f"{arm.model}@") for name in known):
            raise unknown("model", one_line(arm.model, 60), known, "They are in /v1/models.")


def _facts(queues: Queues, queue: Queue, caller: Caller) -> QueueFacts:
    me = caller.rater()
    facts: dict[str, Any] = queue.model_dump() | {"progress": queues.progress(queue.name, me)}
    if not caller.may("admin"):
        facts = {k: v for k, v in facts.items() if k not in ("arms", "overlap", "raters", "repeat")}
        facts["by_rater"] = {name: count for name, count in queue.by_rater.items() if name == me}
    return QueueFacts.model_validate(facts)


def _checked(said: TurnJudgement, turn: Turn, rater: str) -> Said:
    """What the store is told. Raises 400, or pydantic's complaint, for what does not fit the turn."""
    count = len(turn.answers)
    if said.verdict is not None and count != 2:
        raise ApiError(400, f"verdict: the turn has {count} answers; wanted ranks", param="verdict")
    if said.ranks is not None:  # the rules of a ranking hold for two answers as well
        Ranking(rater=rater, shown=tuple(str(number) for number in range(count)), ranks=said.ranks)
    return Said.model_validate(said.model_dump(exclude={"rater"}))


async def _events(answers: TaskAnswers, turn_id: str, rater: str) -> AsyncIterator[bytes]:
    async for event in answers.of(turn_id, rater):
        yield f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode()
    yield b"data: [DONE]\n\n"
