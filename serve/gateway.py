"""The OpenAI-compatible door: assistants, adapters and the base model by name, in front of one vLLM engine.

`build_app(pool, catalogue, …)` gets everything handed in. The gateway knows nothing of personas: the catalogue turns
the name that a client asks for, and its messages, into what the engine is to see.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from data.audit import Audit
from data.errors import BrogueError, UnknownName
from data.home import Home
from data.settings import GatewaySettings
from data.store import NotYours, StoreDown
from serve import embeddings, knowledge
from serve.admin import admin_routes
from serve.answers import answer_routes
from serve.asked import Asked
from serve.background import beside
from serve.doors import Doors
from serve.engine_api import Refused, Unavailable
from serve.exams import Exams, Loops, exam_routes, loop_routes
from serve.exchange import Catalogue
from serve.feedback import complaint, feedback_routes
from serve.feedback_answers import TaskAnswers
from serve.feedback_turns import queue_routes, turn_routes
from serve.files import file_routes
from serve.fine_tuning import job_routes
from serve.hangups import HangUps
from serve.identity import Access, Caller
from serve.keys import key_routes
from serve.metric_routes import metric_routes
from serve.openai_errors import ApiError, engine_down, without_paths
from serve.openapi import new_app
from serve.pool import AdapterPool
from serve.reconciler import Reconciler
from serve.recorder import Recorder
from serve.relay import CLIENT_GONE, Relay
from serve.replica import Replica
from serve.request_ids import HEADER
from serve.responses import response_routes
from serve.rollouts import rollout_routes
from serve.runs import Runs, run_routes
from serve.shadow import Shadow
from serve.tallies import SharedTallies
from serve.tuning import Door, Tuning
from serve.users import user_routes
from serve.watching import Telemetry, Watching

_LOG = logging.getLogger("brogue.gateway")
RETRY_S = 5  # when the store is away


def build_app(
    pool: AdapterPool, catalogue: Catalogue, reconciler: Reconciler, shadow: Shadow, recorder: Recorder, admin_key: str,
    home: Home, embedding: embeddings.Model | None = None, documents: knowledge.Documents | None = None,
    runs: Runs | None = None, exams: Exams | None = None, loops: Loops | None = None, tuning: Tuning | None = None,
    settings: GatewaySettings | None = None, telemetry: Telemetry | None = None, has_eyes: bool = False,
) -> FastAPI:  # fmt: skip
    """The gateway as an ASGI application. Reconciler and recorder run as long as the application does.

    `home` has the datasets that raters' queues can draw on. Without `embedding`, `documents`, `runs`, `exams`, `loops`
    and `tuning` there are no routes for them. `has_eyes`: the base model reads more than text.
    """
    settings = settings or GatewaySettings(port=8000)
    access = Access(admin_key, recorder, may_open=settings.is_local and not settings.behind_proxy)
    doors = Doors(access, Audit.of(home), settings)
    relay = Relay(pool, shadow, recorder, Asked(settings), has_eyes)
    answers = TaskAnswers(catalogue, relay, recorder)
    tallies = SharedTallies(pool.trials, pool.live.canaries, recorder.store, home)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        recorder.start()
        async with beside(reconciler.run()), doors.running(), tallies.running():
            yield
        await answers.stop()
        await shadow.stop()
        await pool.own.stop()
        await pool.replicas.stop()
        await asyncio.to_thread(recorder.stop)
        pool.trials.flush()
        if telemetry is not None and telemetry.tracing is not None:
            await asyncio.to_thread(telemetry.tracing.stop)

    app = new_app(lifespan=lifespan, openapi_url=None)
    doors.add_to(app)
    app.state.access = access
    app.add_middleware(Watching, metrics=pool.metrics, telemetry=telemetry or Telemetry())
    app.add_middleware(HangUps)  # outside of all others
    _add_health(app, pool, access)
    app.include_router(metric_routes(pool, doors.turns))
    _add_models(app, catalogue, embedding, access)
    app.include_router(answer_routes(catalogue, relay, access))
    app.include_router(response_routes(catalogue, relay, access, recorder))
    app.include_router(admin_routes(pool, access.admin))
    app.include_router(rollout_routes(pool, home, access.admin))
    app.include_router(user_routes(access, recorder))
    app.include_router(key_routes(access))
    app.include_router(feedback_routes(access, pool.trials, recorder))
    app.include_router(queue_routes(access, recorder, home, catalogue))
    app.include_router(turn_routes(access, recorder, answers))
    if embedding is not None:
        app.include_router(embeddings.embedding_routes(embedding, access))
    if documents is not None:
        app.include_router(knowledge.knowledge_routes(documents, access.admin))
    if runs is not None:
        app.include_router(run_routes(runs, access.admin))
    if exams is not None:
        app.include_router(exam_routes(exams, access.admin))
    if loops is not None:
        app.include_router(loop_routes(loops, access.admin))
    if tuning is not None:
        door = Door(access, recorder, home, tuning)
        app.include_router(file_routes(door))
        app.include_router(job_routes(door))
    _answer_errors_in_openai_shape(app)

    @app.get("/openapi.json", include_in_schema=False)
    async def schema() -> JSONResponse:
        """All of this, as OpenAPI; whatever is asked of a route is asked of this one."""
        return JSONResponse(app.openapi())

    return app


def _add_health(app: FastAPI, pool: AdapterPool, access: Access) -> None:
    @app.get("/health", tags=["health"])
    async def health() -> dict[str, str]:
        """The gateway itself is alive."""
        return {"status": "ok"}

    @app.get("/ready", tags=["health"])
    async def ready(request: Request) -> JSONResponse:
        """The engine answers; and, for whoever has a credential where one is wanted, how its adapter slots are used."""
        reason = pool.why_closed() or await _why_unhealthy(pool.replicas.open)
        is_known = await access.is_known(request)
        if reason is not None:
            return engine_down(reason if is_known else "see its log").response()
        if not is_known:
            return JSONResponse({"status": "ready"})
        used = pool.replicas.slots()._asdict()
        refused = {version: without_paths(why) for version, (why, _) in pool.refusals.reasons.items()}
        engines = [state | {"detail": without_paths(str(state["detail"]))} for state in pool.replicas.states()]
        router = {"router": pool.replicas.router.state()} if pool.replicas.router is not None else {}
        return JSONResponse({"status": "ready", "slots": used, "refused": refused, "engines": engines, **router})


async def _why_unhealthy(engines: Sequence[Replica]) -> str | None:
    """Why none of the engines says that it is well, or none."""
    why = ""
    for engine in engines:
        try:
            reply = await engine.client.get("/health", timeout=5)
        except httpx.HTTPError as error:
            why = type(error).__name__
            continue
        if reply.status_code == 200:
            return None
        why = f"its health check says {reply.status_code}"
    return why


def _add_models(app: FastAPI, catalogue: Catalogue, embedding: embeddings.Model | None, access: Access) -> None:
    client = Annotated[Caller, Depends(access.client)]

    def entries() -> list[dict[str, Any]]:
        entry = {"object": "model", "created": 0, "owned_by": "brogue", "kind": "embedding model"}
        return [*catalogue.models(), *([{"id": embedding.model, **entry}] if embedding else [])]

    @app.get("/v1/models", tags=["models"])
    async def models(caller: client) -> dict[str, Any]:
        """Assistants, then adapters by alias and version, then the base model, then the embedding model; those that the
        key may use."""
        return {"object": "list", "data": [entry for entry in entries() if caller.may_use(entry["id"])]}

    @app.get("/v1/models/{name:path}", tags=["models"])
    async def model(name: str, caller: client) -> dict[str, Any]:
        """One model of the list; an adapter by its name alone, too."""
        for entry in entries() if caller.may_use(name) else ():
            if entry["id"] in (name, f"{name}@stable"):
                return entry | {"id": name}
        raise ApiError(404, f"no model '{name}'; see /v1/models", code="model_not_found", param="model")


def _answer_errors_in_openai_shape(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def api_error(_request: Request, error: ApiError) -> JSONResponse:
        return error.response()

    @app.exception_handler(BrogueError)
    async def refusal(_request: Request, error: BrogueError) -> JSONResponse:
        """What the routes let through."""
        if isinstance(error, Unavailable):
            return engine_down(str(error), error.retry_after_s).response()
        if isinstance(error, StoreDown):
            return ApiError(503, str(error), code="store_down", retry_after_s=RETRY_S).response()
        if isinstance(error, NotYours):
            return ApiError(403, str(error), code="not_yours").response()
        if isinstance(error, UnknownName):
            return ApiError(404, str(error), code="not_found").response()
        return ApiError(
            409, str(error), code="version_refused" if isinstance(error, Refused) else "conflict"
        ).response()

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        problem = error.errors()[0]
        where = ".".join(str(part)[:80] for part in problem["loc"][1:])
        return ApiError(400, complaint(problem, "the body", skip=1), param=where or None).response()

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        reply = ApiError(error.status_code, f"{request.method} {request.url.path}: {error.detail}").response()
        reply.headers.update(error.headers or {})  # with a 405, the methods that there are
        return reply

    @app.exception_handler(ClientDisconnect)
    async def gone(_request: Request, _error: ClientDisconnect) -> Response:
        """While its request was being read."""
        return Response(status_code=CLIENT_GONE)

    @app.exception_handler(Exception)
    async def bug(request: Request, _error: Exception) -> JSONResponse:
        incident = request.state.request_id  # the server logs the traceback, the client gets an id to quote
        _LOG.error("incident %s", incident)
        wrong = ApiError(500, f"something broke in the gateway; incident {incident} in its log")
        wrong.headers = {HEADER: incident}
        return wrong.response()
