"""`/v1/responses`: OpenAI's newer shape of an answer, with a memory of conversations on the server's side.

Answers come by the same way as chat completions', so that assistants keep their prompts, documents, examples and forms;
vLLM's own `/v1/responses` knows nothing of those, and forgets with its process. What is stored belongs to who asked.
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from data.errors import UnknownName
from data.judgements import now
from data.store import StoreDown
from data.store_responses import StoredResponse, StoredResponses
from serve.asking import Body, parsed, told, unless_gone
from serve.exchange import CHAT, RESPONSES, Catalogue, Exchange
from serve.identity import Access, Caller
from serve.openai_errors import ApiError
from serve.recorder import Recorder, key_of, subject_of
from serve.relay import EventStream, Relay
from serve.responses_answer import Answer, check_one
from serve.responses_asked import as_chat, input_items
from serve.responses_stream import translated
from serve.stream import compact
from serve.timing import timing_of

_LOG = logging.getLogger("brogue.responses")
MOST_ITEMS = 100  # on a page


class Memory:
    """The stored answers, as one caller may see them. Calls wait for the database in a thread."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    async def before(self, id: Any, who: Caller) -> list[StoredResponse]:
        """The conversation up to this answer. Raises `ApiError`."""
        if id is None:
            return []
        try:
            turns = await asyncio.to_thread(lambda: self._stored().conversation(str(id)))
        except UnknownName as error:
            raise _unknown(str(id), "previous_response_id") from error
        if not all(who.may_see(turn.owner) for turn in turns):
            raise _unknown(str(id), "previous_response_id")
        return turns

    async def get(self, id: str, who: Caller) -> StoredResponse:
        """One answer. Raises `ApiError` for one that is not there, or not theirs."""
        try:
            found = await asyncio.to_thread(lambda: self._stored().get(id))
        except UnknownName as error:
            raise _unknown(id) from error
        if not who.may_see(found.owner):
            raise _unknown(id)
        return found

    async def delete(self, id: str) -> None:
        """Delete one for good."""
        await asyncio.to_thread(lambda: self._stored().delete(id))

    async def keeps(self) -> bool:
        """Whether anything is stored at all."""
        return await asyncio.to_thread(lambda: self._stored().keeps)

    async def keep(self, response: StoredResponse) -> bool:
        """Store an answer; a store that is away costs nobody their answer."""
        try:
            await asyncio.to_thread(lambda: self._stored().add(response))
        except StoreDown as error:
            _LOG.error("%s is not stored: %s", response.id, error)
            return False
        return True

    def _stored(self) -> StoredResponses:
        return StoredResponses(self._recorder.store())


@dataclass
class _Turn:
    """One request on its way."""

    memory: Memory
    chat: Body
    items: list[Body]
    who: Caller
    answer: Answer
    stores: bool

    async def kept(self, result: Body) -> Body:
        """The response, stored if it is to be; `store` in it says whether it is."""
        if not self.stores:
            return result
        stored = StoredResponse(
            id=self.answer.id, owner=self.who.owner, subject=key_of(subject_of(self.chat)),
            previous=self.answer.previous, asked=tuple(self.items), body=result, created=now(),
        )  # fmt: skip
        return result if await self.memory.keep(stored) else result | {"store": False}


def response_routes(catalogue: Catalogue, relay: Relay, access: Access, recorder: Recorder) -> APIRouter:
    """The routes under /v1/responses."""
    routes, memory = APIRouter(tags=["answers"]), Memory(recorder)

    @routes.post(RESPONSES)
    async def create(request: Request, who: Annotated[Caller, Depends(access.client)]) -> Response:
        """OpenAI's responses, plain and streaming. `previous_response_id` goes on from a stored one."""
        timing = timing_of(request.scope)
        body = parsed(await request.body())
        who.require_model(body["model"])
        check_one(body)
        items = input_items(body)
        before = await memory.before(body.get("previous_response_id"), who)
        said = [item for turn in before for item in (*turn.asked, *turn.body["output"])]
        chat = as_chat(body, [*said, *items])
        if before and before[-1].subject is not None and subject_of(chat) is None:
            chat["user"] = before[-1].subject  # their words are in this answer, too
        with told():
            prepared = await catalogue.prepare(chat)
            exchange = Exchange(CHAT, chat, request.headers, prepared, timing, caller=who)
            stores = body.get("store") is not False and await memory.keeps()
            answer = Answer(exchange.response_id.replace("resp-", "resp_", 1), body, stores)
            turn = _Turn(memory, chat, items, who, answer, stores)
            return await unless_gone(request, _answered(relay, exchange, turn))

    @routes.get(RESPONSES + "/{id}")
    async def retrieve(id: str, who: Annotated[Caller, Depends(access.client)], stream: bool = False) -> Body:
        """A stored response."""
        if stream:
            raise ApiError(400, "a stored response is not streamed again; leave 'stream' out", param="stream")
        return (await memory.get(id, who)).body

    @routes.delete(RESPONSES + "/{id}")
    async def delete(id: str, who: Annotated[Caller, Depends(access.client)]) -> Body:
        """Delete a stored response for good."""
        await memory.get(id, who)
        await memory.delete(id)
        return {"id": id, "object": "response", "deleted": True}

    @routes.get(RESPONSES + "/{id}/input_items")
    async def asked(
        id: str, who: Annotated[Caller, Depends(access.client)],
        order: Annotated[str, Query(pattern="^(asc|desc)$")] = "desc",
        limit: Annotated[int, Query(ge=1, le=MOST_ITEMS)] = 20, after: str | None = None,
    ) -> Body:  # fmt: skip
        """What was asked in the request of a stored response, the latest first."""
        items = list((await memory.get(id, who)).asked)
        return _page(items if order == "asc" else items[::-1], limit, after)

    return routes


async def _answered(relay: Relay, exchange: Exchange, turn: _Turn) -> Response:
    reply = await relay.send(exchange)
    headers = {key: value for key, value in reply.headers.items() if key != "content-length"}
    if isinstance(reply, EventStream):
        return EventStream(translated(reply.events, turn.answer, turn.kept), headers, reply.held)
    if reply.status_code != 200:
        return reply
    if exchange.asked.get("stream"):  # an answer of ours, which is there at once
        events = [event async for event in translated(_one(bytes(reply.body)), turn.answer, turn.kept)]
        return Response(b"".join(events), 200, headers)
    result = await turn.kept(turn.answer.whole(orjson.loads(bytes(reply.body))))
    return Response(compact(result), 200, headers)


async def _one(block: bytes) -> Any:
    yield block


def _page(items: list[Body], limit: int, after: str | None) -> Body:
    ids = [item["id"] for item in items]
    if after is not None:
        if after not in ids:
            raise ApiError(400, f"no item '{after}' in this response", param="after")
        items = items[ids.index(after) + 1 :]
    page = items[:limit]
    first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
    return {"object": "list", "data": page, "first_id": first, "last_id": last, "has_more": len(items) > limit}


def _unknown(id: str, param: str | None = None) -> ApiError:
    message = f"no response '{id:.100}' is stored; it was asked with store: false, deleted, or never there"
    return ApiError(404, message, code="response_not_found", param=param)
