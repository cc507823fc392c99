"""How the gateway's application is served: by uvicorn, on its fastest loop and parser, with our own log."""

import uvicorn
from starlette.types import ASGIApp

from data.settings import Address

STOP_S = 5  # running answers have so long to end when the gateway is stopped


def server_config(app: ASGIApp, address: Address) -> uvicorn.Config:
    """What `uvicorn.Server` wants to know."""
    return uvicorn.Config(
        app, host=address.host, port=address.port, log_config=None, log_level="warning", access_log=False,
        timeout_graceful_shutdown=STOP_S,
    )  # fmt: skip
