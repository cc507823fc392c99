"""Clients that hang up before they have their answer: nothing of it is a bug of the gateway's."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HangUps:
    """ASGI middleware: drops what is sent to who has gone.

    uvicorn drops it, too, but does not hear of a client that had sent further requests and left (pipelining); uvloop's
    error would then pass for a bug of ours, with a traceback in the log for each.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            try:
                await send(message)
            except RuntimeError as error:
                if "handler is closed" not in str(error):
                    raise

        await self._app(scope, receive, sent)
