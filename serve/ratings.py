"""`POST /v1/feedback/ratings`: a thumb for an answer counts for its version's canary and is kept in the store."""

import asyncio
from typing import Any, Literal

from pydantic import Field

from data.errors import UnknownName
from data.judgements import Key, Rating, Reason
from data.settings import Frozen
from data.store import StoreDown
from serve.openai_errors import ApiError
from serve.pool import AdapterPool
from serve.recorder import Recorder

ANONYMOUS = "anonymous"  # a rater who gave no name


class Thumb(Frozen):
    """A thumb for an answer, and what it is for or against; the latest one of a rater takes the place of the others."""

    response_id: str  # the answer's header x-brogue-response-id
    rating: Literal[1, -1]
    rater: Key | None = None  # who says so, or `user`, as OpenAI calls people
    user: Key | None = None
    reasons: tuple[Reason, ...] = Field((), max_length=20)  # such as "wrong-source", "right-source-wrong-answer"


async def rate(thumb: Thumb, pool: AdapterPool, recorder: Recorder) -> dict[str, Any]:
    """Count and keep a thumb: the version that it is for, and whether the store has it.

    An answer that this process does not remember, such as one from before a restart, is looked up in the store.
    """
    trials = pool.trials
    try:
        adapter, number = trials.rate(thumb.response_id, thumb.rating)
        version: str | None = f"{adapter}@{number}"
    except KeyError:
        version = None
    try:
        stored, before = await asyncio.to_thread(recorder.rate, _judgement(thumb))
    except (UnknownName, ValueError):  # the latter: no id that an answer could have
        stored, before = None, None
    except StoreDown as error:
        raise ApiError(503, f"the rating could not be kept ({error}); send it again", code="store_down") from error
    if version is None and stored is None:
        message = f"no answer '{thumb.response_id}' that can be rated (still); it is in x-brogue-response-id"
        raise ApiError(404, message, code="response_not_found", param="response_id")
    if version is None and stored is not None and "@" in stored:
        adapter, _, digits = stored.partition("@")
        known = {"up": 1, "down": -1}[before.thumb] if before is not None else 0
        trials.remember(thumb.response_id, adapter, int(digits), known)
        trials.rate(thumb.response_id, thumb.rating)
    return {"version": version or stored, "stored": stored is not None}


def _judgement(thumb: Thumb) -> Rating:
    rater = thumb.rater or thumb.user or ANONYMOUS
    up_or_down: Literal["up", "down"] = "up" if thumb.rating > 0 else "down"
    return Rating(rater=rater, response=thumb.response_id, thumb=up_or_down, reasons=thumb.reasons)
