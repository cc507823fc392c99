"""What Prometheus reads: our own metrics, and the engine's, which only the gateway can reach."""

import asyncio

import httpx
from fastapi import APIRouter
from starlette.responses import PlainTextResponse, Response

from data.errors import unknown
from serve.openai_errors import engine_down
from serve.pool import AdapterPool
from serve.turns import Turns

PATIENCE_S = 10


def metric_routes(pool: AdapterPool, turns: Turns) -> APIRouter:
    """`/metrics` and `/metrics/engine`: apart, so that ours can be read while the engine is away."""
    routes = APIRouter(tags=["health"])

    @routes.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """What Prometheus reads."""
        measured = pool.metrics
        measured.set_slots(*pool.replicas.slots())
        measured.set_engines(pool.replicas.states())
        if pool.replicas.router is not None:
            measured.set_router(pool.replicas.router.state())
        measured.set_turns(turns.running, turns.waiting)
        for adapter, state in pool.live.states.items():
            measured.canary_share(adapter, state.canary.share if state.canary and not state.canary.shadow else 0)
            for version in state.aliases.values():
                tally = pool.trials.tally(adapter, version)
                measured.ratings(f"{adapter}@{version}", tally.up, tally.down)
        content, media_type = await asyncio.to_thread(measured.render)  # with many labels it takes long
        return Response(content, media_type=media_type)

    @routes.get("/metrics/engine", response_class=PlainTextResponse)
    async def engine_metrics(engine: str | None = None) -> Response:
        """vLLM's own metrics, as an engine of the base model tells them: the first one, or the one of this name."""
        clients = dict(zip((one["name"] for one in pool.replicas.states()), pool.replicas.clients, strict=True))
        if engine is not None and engine not in clients:
            raise unknown("engine", engine, [str(name) for name in clients], "/ready lists them")
        client = clients[engine] if engine is not None else pool.replicas.clients[0]
        try:
            reply = await client.get("/metrics", timeout=PATIENCE_S)
        except httpx.HTTPError as error:
            why = pool.why_closed() or f"it does not tell its metrics ({type(error).__name__})"
            raise engine_down(why) from error
        if reply.status_code != 200:
            raise engine_down(f"it answers {reply.status_code} when asked for its metrics")
        return Response(reply.content, media_type=reply.headers.get("content-type", "text/plain"))

    return routes
