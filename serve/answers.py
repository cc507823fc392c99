"""The answer routes that vLLM has, too: `/v1/chat/completions` and `/v1/completions`, plain and streaming.

Nothing of an answer is touched here: serve/relay.py sends, the catalogue says what the engine is to see.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from data.judgements import EXAM_HEADER
from serve.asking import Body, parsed, told, unless_gone
from serve.best_of import best_of
from serve.exchange import CHAT, COMPLETIONS, Catalogue, Exchange
from serve.identity import Access, Caller
from serve.openai_errors import ApiError
from serve.relay import Relay
from serve.timing import timing_of


def answer_routes(catalogue: Catalogue, relay: Relay, access: Access) -> APIRouter:
    """Both routes."""
    routes = APIRouter(tags=["answers"])

    @routes.post(CHAT)
    async def chat_completions(request: Request, who: Annotated[Caller, Depends(access.client)]) -> Response:
        """OpenAI's chat completions, plain and streaming; what vLLM understands passes through.

        With the admin key, x-brogue-exam: VERSION (or base) lets that version answer; nothing of it is kept or counted.
        """
        timing = timing_of(request.scope)
        body = parsed(await request.body())
        who.require_model(body["model"])
        check_messages(body)
        examined = await _examined(request, access)
        with told():
            prepared = await catalogue.prepare(body)
            exchange = Exchange(CHAT, body, request.headers, prepared, timing, examined, who)
            return await unless_gone(request, relay.send(exchange))

    @routes.post(COMPLETIONS)
    async def completions(request: Request, who: Annotated[Caller, Depends(access.client)]) -> Response:
        """OpenAI's completions: the base model or an adapter goes on with a text, to which nothing is added."""
        timing = timing_of(request.scope)
        body = parsed(await request.body())
        who.require_model(body["model"])
        if body.get("prompt") is None:
            raise ApiError(400, "wanted 'prompt': a text, a list of texts, or token ids", param="prompt")
        examined = await _examined(request, access)
        with told():
            prepared = catalogue.raw(body)
            exchange = Exchange(COMPLETIONS, body, request.headers, prepared, timing, examined, who)
            return await unless_gone(request, best_of(exchange, relay.send))

    return routes


def check_messages(body: Body) -> None:
    """Raises `ApiError` if a chat has no messages."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        message = "wanted 'messages': a list of at least one {role, content} object"
        raise ApiError(400, message, param="messages")


async def _examined(request: Request, access: Access) -> str | None:
    """The version that is to sit an exam with this request."""
    if (examined := request.headers.get(EXAM_HEADER)) is not None:
        await access.admin(request)
    return examined
