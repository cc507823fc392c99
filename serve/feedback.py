"""`/v1/feedback`: what people say of answers. Everybody sees, and takes back, their own; admins see everybody's."""

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime, BeforeValidator, Field, ValidationError

from data.judgements import (
    JUDGEMENT,
    MAX_COMMENT,
    MAX_CORRECTION,
    AnyJudgement,
    JudgementKind,
    Key,
    PassageRef,
    Rating,
    Reason,
    Response,
    StoredJudgement,
    Wanted,
    Words,
    now,
)
from data.queues import Verdict
from data.settings import Frozen, Logging
from data.store_queues import Queues
from data.store_text import storable
from serve.canary import Trials
from serve.identity import Access, Caller, check_may_judge, may_read
from serve.openai_errors import ApiError
from serve.ratings import Rated, Thumb, rate, uncount
from serve.recorder import Recorder


class NewJudgement(Frozen):
    """Something said of one or more answers, by kind: rating (response, thumb), comparison (shown, verdict), ranking
    (shown, ranks, all_bad), correction (response, text)."""

    kind: JudgementKind
    id: Key | None = Field(None, description="one's own; sent again under the same id it is not a second judgement")
    rater: Key | None = Field(None, description="only where nobody signs in")
    response: Key | None = Field(None, description="rating, correction: the answer's id")
    shown: tuple[Key, ...] | None = Field(None, description="comparison, ranking: the answers' ids in the order shown")
    thumb: Literal["up", "down"] | None = Field(None, description="rating")
    verdict: Verdict | None = Field(None, description="comparison: by the position shown")
    ranks: tuple[int, ...] | None = Field(None, description="ranking: as `shown`; 0 is best, equal ones are a tie")
    all_bad: bool | None = Field(None, description="ranking: none of them should have been given")
    text: Words | None = Field(None, max_length=MAX_CORRECTION, description="correction: the answer as it should be")
    seconds: float | None = Field(None, ge=0, description="how long it took")
    reasons: tuple[Reason, ...] = Field((), max_length=20, description="labels, such as those of /v1/me")
    comment: Words = Field("", max_length=MAX_COMMENT)

    def of(self, rater: str) -> AnyJudgement:
        """The judgement as a person's. Raises 400 if its fields are not those of its kind."""
        try:
            return JUDGEMENT.validate_python(self.model_dump(exclude_none=True) | {"rater": rater})
        except ValidationError as error:
            raise invalid(error, self.kind) from error


class KeptJudgement(Frozen):
    """A judgement as it is kept. Versions and assistants are for admins: others judge blind."""

    id: str
    kind: JudgementKind
    rater: str
    shown: tuple[str, ...] = Field(description="the answers' ids in the order shown")
    response: str | None = None
    thumb: Literal["up", "down"] | None = None
    verdict: Verdict | None = None
    ranks: tuple[int, ...] | None = None
    all_bad: bool | None = None
    text: str | None = None
    seconds: float | None = None
    reasons: tuple[str, ...] = ()
    comment: str = ""
    created: AwareDatetime
    taken_back: AwareDatetime | None = None
    versions: tuple[str, ...] | None = None
    assistants: tuple[str | None, ...] | None = None


class JudgementList(Frozen):
    """Judgements, newest first."""

    data: tuple[KeptJudgement, ...]


class KeptResponse(Frozen):
    """An answer as the store keeps it. Who sees it as a turn's does not see whose it is."""

    id: str
    messages: tuple[dict[str, Any], ...]
    text: str
    passages: tuple[PassageRef, ...]
    logging: Logging = Field(description="what was kept of it")
    created: AwareDatetime
    topic: str | None = None
    version: str | None = None
    assistant: str | None = None
    subject: str | None = None
    conversation: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds: float | None = None


def _no_number(given: Any) -> Any:
    """A time as the document says: pydantic would take a number for seconds since 1970."""
    if isinstance(given, str) and "T" not in given.upper():
        raise ValueError("wanted a time such as 2026-11-29T12:00:00Z")
    return given


Moment = Annotated[AwareDatetime, BeforeValidator(_no_number)]


class Filter(Frozen):
    """Which judgements to list; whatever is given must be met."""

    kind: JudgementKind | None = None
    rater: str | None = Field(None, description="for admins")
    assistant: str | None = None
    version: str | None = None
    response: str | None = None
    conversation: str | None = None
    since: Moment | None = None
    until: Moment | None = Field(None, description="not included")
    taken_back: bool = Field(False, description="also those that were taken back")
    limit: int = Field(100, ge=1, le=10_000)


def feedback_routes(access: Access, trials: Trials, recorder: Recorder) -> APIRouter:
    """The routes for thumbs, judgements and responses."""
    routes = APIRouter(prefix="/v1/feedback", tags=["feedback"])
    anybody = Annotated[Caller, Depends(access.at_least("user"))]
    _add_giving(routes, anybody, trials, recorder)
    _add_reading(routes, anybody, trials, recorder)
    return routes


def _add_giving(routes: APIRouter, anybody: Any, trials: Trials, recorder: Recorder) -> None:
    @routes.post("/ratings")
    async def rate_answer(thumb: Thumb, caller: anybody) -> Rated:
        """A thumb up (1) or down (-1) for an answer; given again, the latest counts."""
        given = caller.acting(thumb.rater or thumb.user)
        try:
            rating = thumb.judgement(given.rater())
        except ValidationError as error:
            message = f"no answer '{thumb.response_id[:200]}' that can be rated; it is in x-brogue-response-id"
            raise ApiError(404, message, code="response_not_found", param="response_id") from error
        await recorder.arrived(rating.response)
        return (await rate(rating, given, trials, recorder))[0]

    @routes.post("/judgements", response_model_exclude_none=True)
    async def judge(new: NewJudgement, caller: anybody) -> KeptJudgement:
        """A rating, comparison, ranking or correction of answers that one may see."""
        given = caller.acting(new.rater)
        judgement = new.of(given.rater())
        await recorder.arrived(*judgement.shown)
        if isinstance(judgement, Rating):
            _, stored = await rate(judgement, given, trials, recorder)
            if stored is None:
                message = f"answer '{judgement.response}' is not in the store, so nothing can be kept of it"
                raise ApiError(404, message, code="response_not_found", param="response")
            return _kept(stored, given)
        return await asyncio.to_thread(_judge, recorder, judgement, given)


def _add_reading(routes: APIRouter, anybody: Any, trials: Trials, recorder: Recorder) -> None:
    @routes.get("/judgements", response_model_exclude_none=True)
    async def judgements(wanted: Annotated[Filter, Query()], caller: anybody) -> JudgementList:
        """One's own judgements, newest first; for admins everybody's."""
        rater = wanted.rater if caller.may("admin") else caller.rater(wanted.rater)
        query = Wanted.model_validate(wanted.model_dump() | {"rater": rater})
        found = await asyncio.to_thread(lambda: recorder.settled().judgements(query))
        return JudgementList(data=tuple(_kept(one, caller) for one in found))

    @routes.delete("/judgements/{judgement_id}", response_model_exclude_none=True)
    async def take_back(judgement_id: str, caller: anybody, rater: Key | None = None) -> KeptJudgement:
        """From now on one's judgement counts for nothing; a second time changes nothing."""
        at, who = now(), caller.rater(rater)
        stored = await asyncio.to_thread(lambda: recorder.store().take_back(storable(judgement_id), who, at))
        if stored.taken_back == at:  # not before, here or at another gateway
            uncount(trials, stored)
        return _kept(stored, caller)

    @routes.get("/responses/{response_id}", response_model_exclude_none=True)
    async def response(response_id: str, caller: anybody, rater: Key | None = None) -> KeptResponse:
        """An answer to oneself, or one that a turn shows; for admins any."""
        await recorder.arrived(response_id)
        return await asyncio.to_thread(_response, recorder, response_id, caller.acting(rater))


def invalid(error: ValidationError, what: str) -> ApiError:
    """The first of pydantic's complaints about what a client sent, as one line."""
    return ApiError(400, complaint(error.errors(include_url=False)[0], what), code="invalid_judgement")


def complaint(problem: Any, what: str, skip: int = 0) -> str:
    """One of pydantic's complaints as a line; `skip`: how much of the path to it is not the client's."""
    where = ".".join(str(part)[:80] for part in problem["loc"][skip:] if part != what)
    return f"{where or what}: {problem['msg'].removeprefix('Value error, ')}"


def _judge(recorder: Recorder, judgement: AnyJudgement, caller: Caller) -> KeptJudgement:
    store = recorder.settled()
    for response_id in judgement.shown:
        check_may_judge(caller, store.response(response_id), Queues(store))
    return _kept(store.judge(judgement), caller)


def _kept(stored: StoredJudgement, caller: Caller) -> KeptJudgement:
    said = stored.judgement
    more: dict[str, Any] = {"shown": said.shown, "created": stored.created, "taken_back": stored.taken_back}
    if caller.may("admin"):
        more |= {"versions": stored.versions, "assistants": stored.assistants}
    return KeptJudgement.model_validate(said.model_dump() | more)


def _response(recorder: Recorder, response_id: str, caller: Caller) -> KeptResponse:
    store = recorder.settled()
    response: Response = store.response(storable(response_id))
    blind = {"version", "assistant", "subject", "conversation", "prompt_tokens", "completion_tokens", "seconds"}
    if caller.may("admin"):
        return KeptResponse.model_validate(response.model_dump())
    if Queues(store).may_see(caller.rater(), response.id):
        return KeptResponse.model_validate(response.model_dump(exclude=blind))
    if not may_read(caller, response):
        message = f"response '{response.id}' is another person's private conversation"
        raise ApiError(403, message, code="not_yours")
    return KeptResponse.model_validate(response.model_dump())
