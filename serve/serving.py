"""Serving the gateway with uvicorn until SIGTERM or Ctrl-C; where it encrypts, on loopback in plain HTTP as well."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from data.settings import GatewaySettings
from serve.calm import calm_down
from serve.connections import connection
from serve.local_names import LocalNames

GRACE_S = 5  # for answers that are being written when it stops


def serve(app: ASGIApp, settings: GatewaySettings, inner_port: int | None = None) -> None:
    """Serve `app`; also by plain HTTP on loopback at `inner_port`: the page and the commands of this machine cannot
    check a certificate that bears another name."""
    calm_down()
    if settings.is_local and not settings.behind_proxy:
        app = LocalNames(app, settings.cors_origins)
    outer = uvicorn.Server(config_of(app, settings, settings.host, settings.port, is_outer=True))
    if inner_port is None:
        outer.run()
        return
    inner = _Inner(config_of(app, settings, "127.0.0.1", inner_port, is_outer=False))
    with asyncio.Runner(loop_factory=outer.config.get_loop_factory()) as runner:
        runner.run(_both(outer, inner))


def config_of(app: ASGIApp, settings: GatewaySettings, host: str, port: int, is_outer: bool) -> uvicorn.Config:
    """How uvicorn serves it: with our connections, without websockets; only the outer one runs the app's lifespan."""
    tls = (settings.tls_certificate, settings.tls_key) if is_outer else (None, None)
    return uvicorn.Config(
        app, host=host, port=port, log_config=None, log_level="warning", access_log=False,
        timeout_graceful_shutdown=GRACE_S, ws="none", http=connection(settings),
        lifespan="on" if is_outer else "off", server_header=False, proxy_headers=is_outer and settings.behind_proxy,
        forwarded_allow_ips="*" if settings.behind_proxy else None, ssl_certfile=tls[0],
        ssl_keyfile=tls[1],
    )  # fmt: skip


async def _both(outer: uvicorn.Server, inner: uvicorn.Server) -> None:
    """The inner one runs as long as the outer one."""
    task = asyncio.create_task(inner.serve())
    try:
        await outer.serve()
    finally:
        inner.should_exit = True
        await task


class _Inner(uvicorn.Server):
    """One that leaves the signals to the other."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
