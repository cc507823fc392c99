"""An exam's questions to the gateway, over the HTTP that everybody has: many at once, each answer handed over as it
comes, so that what was answered before a kill is never asked again.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import httpx

from adapters.exam_types import Answer
from data.errors import BrogueError, one_line
from data.judgements import EXAM_HEADER

PATH = "/v1/chat/completions"
SUPPORTED = ("cited", "attributed")  # what a sentence's check says of one that a passage supports
PATIENCE_S = 300.0  # an engine that is starting, or starting again, is waited for this long
PAUSE_S = 2.0
TIMEOUT = httpx.Timeout(900, connect=10)  # seconds; the gateway gives up long before


class Unreachable(BrogueError):
    """Nothing answers: the exam cannot go on, whatever part it is in."""


class Refused(BrogueError):
    """This question cannot be answered, such as one that is longer than the model's context; others may be."""


class Gateway(NamedTuple):
    """Where the models of this home answer."""

    url: str
    key: str  # the admin key
    at_once: int = 16  # questions; as many as the engine writes at a time


Question = Mapping[str, Any]  # the body but for the model
Take = Callable[[int, Answer], None]  # is told a question's number and its answer
Skip = Callable[[int, Refused], None]  # is told a question's number and why it has none


def ask(gateway: Gateway, model: str, version: str, questions: Sequence[Question], take: Take,
        skip: Skip | None = None) -> None:  # fmt: skip
    """Ask `model`, answered by `version`, all questions. Raises `BrogueError` where there is no answer to be had.

    With `skip`, a question that is refused is handed to it and the others are asked all the same.
    """
    asyncio.run(_ask(gateway, model, version, questions, take, skip))


async def _ask(gateway: Gateway, model: str, version: str, questions: Sequence[Question], take: Take,
               skip: Skip | None) -> None:  # fmt: skip
    headers = {"Authorization": f"Bearer {gateway.key}", EXAM_HEADER: version}
    limits = httpx.Limits(max_connections=gateway.at_once)
    async with httpx.AsyncClient(
        base_url=gateway.url, headers=headers, timeout=TIMEOUT, limits=limits, trust_env=False
    ) as client:
        numbers = iter(range(len(questions)))

        async def one_after_another() -> None:
            for number in numbers:
                try:
                    take(number, await _answer(client, {"model": model, **questions[number]}))
                except Refused as error:
                    if skip is None:
                        raise
                    skip(number, error)

        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(min(gateway.at_once, len(questions))):
                    tasks.create_task(one_after_another())
        except* BrogueError as errors:
            raise errors.exceptions[0] from None


async def _answer(client: httpx.AsyncClient, body: Question) -> Answer:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        began = time.monotonic()
        try:
            reply = await client.post(PATH, json=body)
        except httpx.ConnectError as error:
            raise Unreachable(f"cannot reach the gateway at {client.base_url}; start it: brogue up") from error
        except httpx.HTTPError as error:
            broken: str | None = type(error).__name__
        else:
            if reply.status_code == 200:
                return _read(reply.json(), time.monotonic() - began)
            broken = message_of(reply)
            if reply.status_code == 400:  # what this question asks for, such as a prompt beyond the model's context
                raise Refused(f"{body['model']} cannot answer a question: {broken}")
            if reply.status_code < 500 or reply.headers.get("retry-after") is None:
                raise Unreachable(f"{body['model']} cannot be examined: {broken}")
        if time.monotonic() > deadline:
            raise Unreachable(
                f"{body['model']} gave no answer within {PATIENCE_S:.0f} s ({broken}); see: brogue status"
            )
        await asyncio.sleep(PAUSE_S)


def _read(reply: dict[str, Any], seconds: float) -> Answer:
    choice, usage = reply["choices"][0], reply.get("usage") or {}
    checked = [sentence["support"] for sentence in (reply.get("brogue") or {}).get("sentences", [])]
    claims = [support for support in checked if support != "no claim"] if "brogue" in reply else None
    return Answer(
        text=choice["message"].get("content") or "",
        prompt_tokens=usage.get("prompt_tokens") or 0,
        completion_tokens=usage.get("completion_tokens") or 0,
        seconds=round(seconds, 4),
        finish_reason=choice.get("finish_reason") or "stop",
        claims=None if claims is None else len(claims),
        supported=None if claims is None else sum(support in SUPPORTED for support in claims),
    )


def message_of(reply: httpx.Response) -> str:
    """What a refused request says: the error's message, or the status."""
    try:
        return one_line(reply.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the gateway answered {reply.status_code}: {one_line(reply.text, 200)}"
