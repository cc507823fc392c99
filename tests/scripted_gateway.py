"""A stand-in for the gateway, for tests of the page and of the client: it answers what a script says."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse

from assistant.exam_report import page
from assistant.exams_api import in_short
from tests.conftest import free_port
from tests.sample_exams import exam, figures

ADMIN_KEY = "scripted"
REASONS = {"up": ["helpful", "right tone"], "down": ["wrong", "wrong-source", "right-source-wrong-answer"]}
SUMMARY = {"name": "reed", "documents": 2, "passages": 2, "model": "all-minilm-l6-v2", "language": "english"}
PASSAGES: list[dict[str, Any]] = [
    {"number": 1, "id": "a1", "source": "shop/returns.md", "title": "Returns", "section": "Plants", "page": None,
     "start": 10, "end": 50, "text": "Plants may be sent back within 30 days.", "score": 0.98},
    {"number": 2, "id": "b2", "source": "shop/terms.pdf", "title": "Terms", "section": "", "page": 3,
     "start": 0, "end": 38, "text": "Refunds take five working days at most.", "score": 0.91},
]  # fmt: skip
STEPS = list(range(1, 61))
CURVES: list[dict[str, Any]] = [
    {"title": "Loss", "curves": [
        {"name": "training", "steps": STEPS, "values": [2.4 / n**0.5 + 0.1 * (n % 3) for n in STEPS]},
        {"name": "validation", "steps": STEPS[9::10], "values": [2.6 / n**0.45 for n in STEPS[9::10]]}]},
    {"title": "Reward", "curves": [{"name": "reward", "steps": STEPS, "values": [n / 80 for n in STEPS]}]},
]  # fmt: skip
EXAMPLE = "Until when can I send a pair of shears back to you if I have used them only once or twice?"


def version(number: int, status: str = "loaded", detail: str = "", **counted: int) -> dict[str, Any]:
    """A version as GET /v1/adapters describes it."""
    counts = {"answers": 0, "errors": 0, "up": 0, "down": 0, "in_flight": 0, "waiting": 0} | counted
    return {"version": number, "id": f"reed-voice@{number}", "created": "2026-11-21", "status": status,
            "detail": detail, **counts}  # fmt: skip


def adapter(name: str = "reed-voice") -> dict[str, Any]:
    """An adapter whose second version answers and whose third is tried on a tenth of the conversations."""
    return {
        "id": name,
        "object": "adapter",
        "aliases": {"stable": 2, "canary": 3},
        "canary": {"share": 10, "shadow": False},
        "previous": 1,
        "versions": [
            version(1, answers=1200, errors=2, up=310, down=41),
            version(2, answers=84, errors=1, up=20, down=1),
            version(3, answers=9, errors=0),
            version(4, status="refused", detail="adapter_config.json: rank 64, above the engine's 16"),
        ],
        "history": [
            {"time": "2026-11-21T09:30:00+00:00", "alias": "canary", "before": None, "after": 3, "who": "ann",
             "why": ""},
            {"time": "2026-11-20T09:30:00+00:00", "alias": "stable", "before": 1, "after": 2, "who": "page",
             "why": "promoted"},
        ],
    }  # fmt: skip


def run(version: str | None = None, **more: Any) -> dict[str, Any]:
    """A run of training as GET /v1/runs describes it."""
    asked = {"adapter": "reed-voice", "dataset": "reed-answers", "created": "2026-11-21T09:30:00+00:00", "config": {}}
    return {
        "id": f"run-{version or 'failed'}", "state": "done" if version else "failed", "asked": asked, "recipe": "sft",
        "step": 60, "steps": 60, "loss": 0.421, "version": version, "pid": None, "progress": None,
        "reason": None if version else "the loss of step 6 is no number",
    } | more  # fmt: skip


EXAMS = [
    exam("pass", 2), exam("fail", 3, measures=figures(0.08)),
    exam("not enough evidence", 1, measures=figures(-0.09), names={"version": "reed-voice@1", "base": "base"}),
]  # fmt: skip


def round_(number: int, **more: Any) -> dict[str, Any]:
    """A round of the loop as GET /v1/adapters/NAME/loop describes it."""
    version = f"reed-voice@{number}"
    steps = {
        "collect": {"minutes": 0.1, "result": {"judgements": 43}},
        "place": {"minutes": 0.2, "result": {"alias": "candidate", "because": f"round {number}: not enough evidence"}},
    }
    return {
        "id": f"reed-voice-{number}", "number": number, "asked": {"recipe": "dpo"}, "start": "reed-voice@1",
        "created": "2026-11-21T09:30:00+00:00", "names": ["collect", "reward", "train", "exam", "gate", "place"],
        "steps": steps, "doing": None, "error": None, "complete": True, "version": version, "where": "complete",
        "minutes": 18.4,
    } | more  # fmt: skip


def loop(name: str = "reed-voice") -> dict[str, Any]:
    """How an adapter got better: three versions that were examined."""
    by_version = {int(one.names["version"].partition("@")[2]): in_short(one) for one in EXAMS}
    known = name == "reed-voice"
    return {
        "object": "loop", "adapter": name, "running": False, "said": "", "problem": None, "unfinished": False,
        "rounds": [round_(2)] if known else [], "judgements": 12, "wanted": 20,
        "versions": [{"version": n, "exam": by_version.get(n) if known else None} for n in range(1, 5)],
    }  # fmt: skip


def brand(name: str, colour: str) -> dict[str, Any]:
    looks = {"title": f"Shop · {name.title()}", "colour": colour, "greeting": f"{name} greets", "examples": [EXAMPLE]}
    return {"id": name, "kind": "assistant", "description": f"{name} answers.", "brand": looks}


@dataclass
class ScriptedGateway:
    """Answers "<model> says: <question>" word by word; words in the question make it misbehave."""

    assistants: list[dict[str, Any]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)  # what was sent to it
    broken: set[str] = field(default_factory=set)  # models whose engine dies in the middle of an answer
    go_on: threading.Event = field(default_factory=threading.Event)  # lets go of the questions with "wait"
    closed: threading.Event = field(default_factory=threading.Event)  # an answer was given up by its reader
    running: int = 0  # answers that are being written
    adapters: dict[str, dict[str, Any]] = field(default_factory=dict)
    admin_requests: list[tuple[str, str, Any]] = field(
        default_factory=list
    )  # method, path, body of what changes things
    ratings: list[dict[str, Any]] = field(default_factory=list)
    judgements: list[dict[str, Any]] = field(default_factory=list)
    taken_back: list[str] = field(default_factory=list)  # ids of judgements
    logging: str = "full"
    users: dict[str, str] = field(default_factory=dict)  # name → role; the password is the name, the token too
    runs: list[dict[str, Any]] = field(default_factory=list)  # of training
    loops: dict[str, dict[str, Any]] = field(default_factory=dict)  # by adapter, as /v1/adapters/NAME/loop gives it
    forgotten: bool = False  # answers are not remembered, so they cannot be rated
    version: str = "reed-voice@2"  # the version that answers
    text: str | None = None  # the answer, whatever is asked
    checked: dict[str, Any] | None = None  # its field `brogue`
    has_documents: bool = True
    seconds_to_list: float = 0  # how long the list of assistants takes
    seconds_to_rate: float = 0  # how long a rating with reasons takes

    def reset(self) -> None:
        self.adapters = {"reed-voice": adapter()}
        self.loops = {"reed-voice": loop()}
        self.runs = [run("reed-voice@3"), run("reed-voice@2"), run()]
        self.admin_requests.clear()
        for said in (self.ratings, self.judgements, self.taken_back):
            said.clear()
        self.logging = "full"
        self.users.clear()
        self.forgotten = False
        self.version = "reed-voice@2"
        self.text = self.checked = None
        self.has_documents = True
        self.seconds_to_list = self.seconds_to_rate = 0
        self.assistants = [brand("reed", "#4a6b57"), brand("fern", "#8a4a2f")]
        self.bodies.clear()
        self.broken.clear()
        self.go_on.clear()
        self.closed.clear()

    def build_app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/v1/models")
        def models() -> dict[str, Any]:
            time.sleep(self.seconds_to_list)
            return {"data": [*self.assistants, {"id": "base", "kind": "base"}]}

        @app.post("/v1/chat/completions")
        async def chat(request: Request) -> Response:
            body = await request.json()
            self.bodies.append(body)
            if body["messages"][-1]["content"].endswith("refuse"):
                return JSONResponse({"error": {"message": "the engine is <starting>; ask again"}}, 503)
            headers = {"x-brogue-version": self.version, "x-brogue-response-id": f"resp-{len(self.bodies)}"}
            return StreamingResponse(self._answer(body["model"], body["messages"][-1]["content"]), headers=headers)

        @app.post("/v1/feedback/ratings")
        async def rate(request: Request) -> Response:
            if self.forgotten:
                return JSONResponse({"error": {"message": "no such answer"}}, 404)
            rating = await request.json()
            await asyncio.sleep(self.seconds_to_rate if rating.get("reasons") else 0)
            self.ratings.append(rating)
            judgement = f"judgement-{len(self.ratings)}"
            return JSONResponse({"version": self.version, "stored": True, "judgement": judgement})

        @app.post("/v1/feedback/judgements")
        async def judge(request: Request) -> Response:
            if self.forgotten:
                return JSONResponse({"error": {"message": "no such answer"}}, 404)
            self.judgements.append(await request.json())
            return JSONResponse(self.judgements[-1] | {"id": f"correction-{len(self.judgements)}"})

        @app.delete("/v1/feedback/judgements/{name}")
        def take_back(name: str) -> dict[str, Any]:
            self.taken_back.append(name)
            return {"id": name}

        @app.get("/v1/me")
        def me(request: Request) -> Response:
            token = request.headers.get("authorization", "").removeprefix("Bearer ")
            if token and self.users and token not in self.users:
                return JSONResponse({"error": {"message": "neither the admin key nor a session's token"}}, 401)
            role = self.users.get(token) if self.users else "rater"
            return JSONResponse({"name": token or None, "role": role, "sign_in": bool(self.users),
                                 "logging": self.logging, "reasons": REASONS})  # fmt: skip

        @app.post("/v1/sign-in")
        async def sign_in(request: Request) -> Response:
            body = await request.json()
            if body["name"] not in self.users or body["password"] != body["name"]:
                return JSONResponse({"error": {"message": "wrong name or password"}}, 401)
            return JSONResponse({"token": body["name"], "name": body["name"], "role": self.users[body["name"]]})

        @app.post("/v1/sign-out")
        def sign_out() -> dict[str, Any]:
            return {}

        app.add_api_route("/v1/adapters{rest:path}", self._admin, methods=["GET", "PUT", "POST", "DELETE"])
        app.add_api_route("/v1/exams{rest:path}", self._reports, methods=["GET"])
        app.add_api_route("/v1/runs{rest:path}", self._training, methods=["GET"])
        app.add_api_route("/v1/knowledge{rest:path}", self._documents, methods=["GET", "POST"])
        return app

    async def _admin(self, request: Request, rest: str) -> Response:
        """Moves of stable; version 4 is refused, and other changes are only written down."""
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if bearer != ADMIN_KEY and self.users.get(bearer) != "admin":
            return JSONResponse({"error": {"message": "wanted the admin key"}}, 401)
        name, _, what = rest.removeprefix("/").partition("/")
        if name and name not in self.adapters:
            return JSONResponse({"error": {"message": f"no adapter '{name}'; have: reed-voice"}}, 404)
        if what == "retrain":
            self.admin_requests.append(("POST", f"{name}/retrain", await request.json()))
            return self._retrain(name)
        if what == "loop":
            return JSONResponse(self.loops.get(name, loop(name)))
        if request.method == "GET":
            return JSONResponse(self.adapters[name] if name else {"data": list(self.adapters.values())})
        body = json.loads(await request.body() or b"null")
        self.admin_requests.append((request.method, str(request.url).partition("/v1/adapters/")[2], body))
        found = self.adapters[name]
        before = found["aliases"]["stable"]
        after = found["previous"] if what == "rollback" else (body or {}).get("version", before)
        if after == 4:
            return JSONResponse({"error": {"message": "reed-voice@4: rank 64", "code": "version_refused"}}, 409)
        if what in ("rollback", "aliases/stable"):
            found["aliases"] = {alias: n for alias, n in found["aliases"].items() if n != after} | {"stable": after}
            found["previous"] = before
        return JSONResponse({"adapter": found, "before": before, "after": after, "seconds": {}})

    def _retrain(self, name: str) -> Response:
        """Every retrain is busy with its third step; a second one is refused."""
        if self.loops[name]["running"]:
            return JSONResponse({"error": {"message": f"{name} is being retrained now"}}, 409)
        self.loops[name] |= {"running": True, "said": "step 12/60, loss 0.912", "rounds": [
            round_(3, complete=False, doing="train"), *self.loops[name]["rounds"]]}  # fmt: skip
        return JSONResponse(self.loops[name])

    def _reports(self, request: Request, rest: str) -> Response:
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if bearer != ADMIN_KEY and self.users.get(bearer) != "admin":
            return JSONResponse({"error": {"message": "wanted the admin key"}}, 401)
        found = next((one for one in EXAMS if rest == f"/{one.id}/report.html"), None)
        return HTMLResponse(page(found)) if found else JSONResponse({"error": {"message": "no such exam"}}, 404)

    def _training(self, rest: str = "") -> Any:
        """The runs; each has the same curves."""
        if not rest:
            return {"data": self.runs}
        found = next((one for one in self.runs if rest == f"/{one['id']}"), None)
        return found | {"curves": CURVES} if found else JSONResponse({"error": {"message": "no such run"}}, 404)

    def grounds(self, answer: str) -> dict[str, Any] | None:
        """What comes with an answer from documents: to a question with "document", and declined with "silent"."""
        if "document" not in answer:
            return None
        if "silent" in answer:
            return {"passages": [], "declined": True, "confidence": 0.1, "sentences": [], "groundedness": None}
        half = len(answer) // 2
        claim: dict[str, Any] = {"passage": None, "missing": [], "wrong": [], "unknown": []}
        return {
            "passages": PASSAGES, "declined": False, "confidence": 0.7, "groundedness": 0.6,
            "sentences": [
                {**claim, "start": 0, "end": half, "support": "cited", "passage": 1},
                {**claim, "start": half, "end": len(answer), "support": "unsupported", "missing": ["9"]},
            ],
        }  # fmt: skip

    def _documents(self, rest: str = "") -> dict[str, Any]:
        """The two documents of reed, and what a search finds in them."""
        if not rest:
            return {"data": [SUMMARY] * self.has_documents}
        hits = [
            {**p, "meta": {}, "cosine": 0.7, "cosine_rank": 1, "bm25": 5.2, "bm25_rank": 1, "rerank": None, "same": []}
            for p in PASSAGES
        ]
        found = {"hits": hits, "ms": {"embed": 6.1, "dense": 2.0, "lexical": 0.4, "fuse": 0.5}, "confidence": 0.7,
                 "decline_by": "cosine", "decline_below": 0.3, "declined": False, "name": "reed",
                 "question": ""}  # fmt: skip
        files = [{"source": p["source"], "path": f"/docs/{p['source']}", "passages": 1, "size": 900} for p in PASSAGES]
        return found if rest.endswith("/search") else SUMMARY | {"files": files}

    async def _answer(self, model: str, question: str) -> AsyncIterator[str]:
        self.running += 1
        try:
            answer = self.text or f"{model} says: {question}"
            for number, word in enumerate(answer.split(" ")):
                while number == 0 and question.endswith("in silence") and not self.go_on.is_set():
                    await asyncio.sleep(0.01)
                while "wait" in question and number == 2 and not self.go_on.is_set():
                    await asyncio.sleep(0.05)
                    yield event({"choices": [{"delta": {"content": "."}}]})
                if number == 2 and model in self.broken:
                    yield event({"error": {"message": "the engine stopped; it is being restarted"}})
                    return
                if number == 2 and "hang up" in question:
                    raise ConnectionResetError("hung up on purpose")
                yield event({"choices": [{"delta": {"content": word + " "}}]})
            if (brogue := self.checked or self.grounds(answer)) is not None:
                yield event({"choices": [{"delta": {}, "finish_reason": "stop"}], "brogue": brogue})
            yield "data: [DONE]\n\n"
        except (asyncio.CancelledError, GeneratorExit):
            self.closed.set()
            raise
        finally:
            self.running -= 1


def event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content)}\n\n"


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for: {what}"
        time.sleep(0.01)


@contextmanager
def served(app: Any) -> Iterator[str]:
    """The app on a free port of this machine, in a thread; gives its URL."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="critical", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started, "the server's start")
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


@contextmanager
def served_page() -> Iterator[tuple[ScriptedGateway, str]]:
    """A scripted gateway and the URL of the page of one who may do everything there."""
    from assistant.ui import build_app
    from assistant.ui_people import People

    gateway = ScriptedGateway()
    with served(gateway.build_app()) as gateway_url, served(build_app(People(gateway_url, ADMIN_KEY))) as url:
        yield gateway, url
