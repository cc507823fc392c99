"""Thumbs: each counts for its version's canary and is kept in the store; the latest of a rater counts."""

import asyncio
from typing import Literal

from pydantic import Field

from data.errors import UnknownName
from data.judgements import MAX_COMMENT, Key, Rating, Reason, Response, StoredJudgement, Wanted, Words
from data.settings import Frozen
from data.store import StoreDown
from data.store_queues import Queues
from data.store_text import storable
from serve.canary import Trials
from serve.identity import Caller, check_may_judge
from serve.openai_errors import ApiError
from serve.recorder import Recorder


class Thumb(Frozen):
    """A thumb for an answer, and what it is for or against; the latest one of a rater takes the place of the others."""

    response_id: str = Field(description="the answer's header x-brogue-response-id")
    rating: Literal[1, -1]
    rater: Key | None = Field(None, description="who says so, where nobody signs in; or `user`, as OpenAI calls people")
    user: Key | None = None
    reasons: tuple[Reason, ...] = Field((), max_length=20, description="labels, such as those of /v1/me")
    comment: Words = Field("", max_length=MAX_COMMENT)

    def judgement(self, rater: str) -> Rating:
        """What the store keeps of it. Raises ValueError for an id that no answer can have."""
        up_or_down: Literal["up", "down"] = "up" if self.rating > 0 else "down"
        said = {"thumb": up_or_down, "reasons": self.reasons, "comment": self.comment}
        return Rating.model_validate({"rater": rater, "response": self.response_id, **said})


class Rated(Frozen):
    """What became of a thumb."""

    version: str | None = Field(description="that it counts for; none: a turn shows the answer, blind")
    stored: bool = Field(description="whether the store has it")
    judgement: str | None = Field(description="by which it can be taken back")


async def rate(
    rating: Rating, caller: Caller, trials: Trials, recorder: Recorder
) -> tuple[Rated, StoredJudgement | None]:  # fmt: skip
    """Count and keep a thumb; gives it as it is kept. An answer that the store does not have is counted all the same.

    One that this process does not remember, such as one from before a restart, is looked up in the store.
    """
    try:
        response, blind = await asyncio.to_thread(_judged, rating.response, caller, recorder)
        stored, before = (await asyncio.to_thread(recorder.rate, rating)) if response else (None, None)
        kept = (await asyncio.to_thread(_standing, rating, recorder)) if response else None
    except StoreDown as error:
        raise ApiError(503, f"the rating could not be kept ({error}); send it again", code="store_down") from error
    known = None if stored is None else 0 if before is None else _number(before)
    version = count(trials, rating.response, stored, known, _number(rating)) or stored
    if version is None:
        message = f"no answer '{rating.response}' that can be rated (still); it is in x-brogue-response-id"
        raise ApiError(404, message, code="response_not_found", param="response_id")
    told = None if blind else version
    return Rated(version=told, stored=kept is not None, judgement=kept and kept.judgement.id), kept


def uncount(trials: Trials, taken_back: StoredJudgement) -> None:
    """A thumb that has just been taken back counts for its version no more."""
    rating = taken_back.judgement
    if isinstance(rating, Rating):
        count(trials, rating.response, taken_back.versions[0], _number(rating), 0)


def count(trials: Trials, response_id: str, stored: str | None, known: int | None, number: int) -> str | None:
    """Let a rater's thumb for an answer be `number` (1, -1, or 0: none): its version, or none if nobody remembers it.

    `stored` is the version by the store, and `known` the rater's thumb before this one: it may have been counted at
    another gateway, or before a restart, so that only the store knows. Without them, what this process saw counts.
    """
    try:
        adapter, version = trials.rate(response_id, number, known)
    except KeyError:
        if stored is None or "@" not in stored:
            return None
        adapter, _, digits = stored.partition("@")
        trials.remember(response_id, adapter, int(digits))
        adapter, version = trials.rate(response_id, number, known)
    return f"{adapter}@{version}"


def _judged(response_id: str, caller: Caller, recorder: Recorder) -> tuple[Response | None, bool]:
    """The response if the store has it, and whether the rater is not to know who wrote it. Raises 403 for another's."""
    store = recorder.settled()
    try:
        response = store.response(storable(response_id))
    except UnknownName:
        return None, False
    check_may_judge(caller, response, Queues(store))
    return response, not caller.may("admin") and Queues(store).may_see(caller.rater(), response.id)


def _standing(rating: Rating, recorder: Recorder) -> StoredJudgement | None:
    """The rater's thumb for the response: this one, or the same one before it."""
    wanted = Wanted(response=rating.response, rater=rating.rater, kind="rating", limit=1)
    return next(iter(recorder.store().judgements(wanted)), None)


def _number(rating: Rating) -> int:
    return 1 if rating.thumb == "up" else -1
