"""Stand-ins for unit tests: an engine that speaks vLLM's HTTP shape in process, and a character tokenizer."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from adapters.registry import CARD, AdapterCard, Registry, Served, file_hashes
from assistant.exams_api import ExamsApi
from assistant.job_models import HomeTunables
from assistant.knowledge import Knowledge
from assistant.knowledge_answer import Answers, BaseFacts
from assistant.knowledge_api import KnowledgeApi
from assistant.loop_api import LoopApi
from assistant.prompt import HomeCatalogue
from assistant.runs_api import RunsApi
from data.errors import BrogueError
from data.home import Home, write_json, write_text
from data.settings import EngineSettings, GatewaySettings, load_settings
from data.settings_jobs import FileSettings, JobSettings
from data.settings_knowledge import KnowledgeSettings
from data.store_home import open_store
from serve.canary import Trials
from serve.engine import Engine, free_port
from serve.engine_api import EngineLink, EngineState
from serve.gateway import build_app
from serve.hardware import EnginePlan
from serve.loader import Limits
from serve.metrics import Metrics
from serve.own_engine import Base, Maker
from serve.pool import AdapterPool
from serve.reconciler import Reconciler
from serve.recorder import Recorder
from serve.shadow import Shadow
from serve.tracing import TracedTransport
from serve.tuning import Tuning
from serve.watching import Telemetry
from tests.knowledge_fakes import WordEmbedder

ADMIN_KEY = "the admin key"

OWN_PLAN = EnginePlan("cpu", 64, None, None, None, None, memory_bytes=1)
PROBE_TOKENS = 4  # a request for so few is the pool's first question to a version


class FakeEngine(httpx.AsyncBaseTransport):
    """vLLM as the gateway meets it, in process: what an adapter says is read from its folder when it is loaded.

    Every word of an answer is what stands in the adapter's weights file, so an answer by another version shows.
    """

    def __init__(self, words: int = 2, pause_s: float = 0) -> None:
        self.words = words  # of an answer
        self.pause_s = pause_s  # before each word
        self.starts = 1
        self.state = "ready"
        self.loaded: dict[str, str] = {}  # name → what it says
        self.loads = 0
        self.unloads: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.break_after: int | None = None  # words, then the connection is lost
        self.end_after: int | None = None  # words, then the stream ends as if it were complete
        self.refuse: set[str] = set()  # versions that cannot be loaded
        self.late: Counter[str] = Counter()  # versions whose files it does not see at so many first tries
        self.deadly: set[str] = set()  # versions that kill the engine when they are loaded
        self.mute: set[str] = set()  # versions that load, but fail with every answer
        self.unknown = 0  # requests for what is not loaded
        self.says: str | None = None  # the answer, word for word, in the place of what the adapter says
        self.running: Counter[str] = Counter()  # adapters' answers that are being written
        self.most_at_once = 0  # distinct adapters
        self.pulled_away: list[str] = []  # unloaded while they answered
        self.error: tuple[int, str] | None = None  # the answer to every question
        self.message: dict[str, Any] | None = None  # of a whole chat answer, in the place of a text
        self.stream: list[bytes] | None = None  # a stream's blocks, byte for byte; {model} stands for the name
        self.is_elsewhere = False  # started by somebody else: its keeper knows nothing
        self.given_up = 0  # answers for which nobody waited to their end

    def client(self, name: str = "engine") -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=TracedTransport(self), base_url=f"http://{name}")

    def now(self) -> EngineState:
        """What the engine's keeper would say."""
        return EngineState(self.state, "it was killed" if self.state != "ready" else "", self.starts)

    def link(self, name: str) -> EngineLink:
        return EngineLink(name, self.client(name), self.now, self.is_elsewhere)

    def kill(self) -> None:
        """Every connection breaks and nothing is loaded any more."""
        self.state = "starting"
        self.starts += 1
        self.loaded.clear()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        if self.state != "ready":
            raise httpx.ConnectError("connection refused")
        body = json.loads(request.content or b"{}")
        answer = {
            "/health": self._health, "/v1/models": self._models, "/v1/load_lora_adapter": self._load,
            "/v1/unload_lora_adapter": self._unload, "/v1/chat/completions": self._chat, "/metrics": self._metrics,
            "/v1/completions": self._complete,
        }[request.url.path]  # fmt: skip
        return await answer(body)

    async def _health(self, _body: dict[str, Any]) -> httpx.Response:
        return httpx.Response(200, json={})

    async def _metrics(self, _body: dict[str, Any]) -> httpx.Response:
        return httpx.Response(200, text="vllm:num_requests_running 3.0\n", headers={"content-type": "text/plain"})

    async def _models(self, _body: dict[str, Any]) -> httpx.Response:
        loras = [{"id": name, "parent": "base"} for name in self.loaded]
        return httpx.Response(200, json={"data": [{"id": "base", "parent": None}, *loras]})

    async def _load(self, body: dict[str, Any]) -> httpx.Response:
        name, folder = body["lora_name"], Path(body["lora_path"])
        self.loads += 1
        await asyncio.sleep(self.pause_s)
        if name in self.loaded:
            return _error(400, f"The lora adapter '{name}' has already been loaded.")
        if self.late[_version(name)] > 0:
            self.late[_version(name)] -= 1
            return _error(404, f"Loading lora {name} failed: No adapter found for {folder}")
        if _version(name) in self.deadly:
            self.kill()
            raise httpx.ReadError("connection lost")
        if _version(name) in self.refuse:
            return _error(500, "Call to add_lora method failed")
        self.loaded[name] = (folder / "adapter_model.safetensors").read_text()
        return httpx.Response(200, text=f"Success: LoRA adapter '{name}' added successfully.")

    async def _unload(self, body: dict[str, Any]) -> httpx.Response:
        name = body["lora_name"]
        self.unloads.append(_version(name))
        if self.running[name]:
            self.pulled_away.append(name)
        found = self.loaded.pop(name, None)
        return httpx.Response(200, text="Success") if found else _error(404, "cannot be found")

    async def _chat(self, body: dict[str, Any]) -> httpx.Response:
        model = body["model"]
        if model != "base" and model not in self.loaded:
            self.unknown += 1
            return _error(404, f"The model `{model}` does not exist.")
        if _version(model) in self.mute:
            return _error(500, "nan")
        if body.get("max_tokens") != PROBE_TOKENS:
            self.bodies.append(body)
            if self.error is not None:
                return _error(*self.error)
        # Taken now, not with the first word: the engine may be killed in between.
        events = self._events(model, body, self.starts, self.loaded.get(model, "base"))
        if self.stream is not None and body.get("stream"):
            events = _replayed([block.replace(b"{model}", model.encode()) for block in self.stream])
        if body.get("stream"):
            return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=_Stream(events))
        pieces = [json.loads(e[6:])["choices"][0]["delta"]["content"] async for e in events if b"delta" in e]
        text = ("" if self.says else " ").join(pieces)
        message = self.message or {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 7, "completion_tokens": self.words, "total_tokens": 7 + self.words}
        head = {"id": "x", "object": "chat.completion", "created": 0, "model": model}
        return httpx.Response(200, content=_json(head | {"choices": [choice], "usage": usage}),
                              headers={"content-type": "application/json"})  # fmt: skip

    async def _complete(self, body: dict[str, Any]) -> httpx.Response:
        """Goes on with each prompt by its adapter's word and a number, the later the likelier."""
        model, prompts = body["model"], body["prompt"]
        prompts = prompts if isinstance(prompts, list) and not isinstance(prompts[0], int) else [prompts]
        if body.get("stream"):
            return await self._chat(body)
        self.bodies.append(body)
        word, count = self.loaded.get(model, "base"), body.get("n") or 1
        choices = [
            {
                "index": i,
                "text": f"{word} {i}",
                "finish_reason": "length",
                "logprobs": {"token_logprobs": [None, i - 9]},
            }
            for i in range(count * len(prompts))
        ]
        usage = {"prompt_tokens": 7, "completion_tokens": self.words * len(choices), "total_tokens": 9}
        head = {"id": "x", "object": "text_completion", "created": 0, "model": model}
        return httpx.Response(200, content=_json(head | {"choices": choices, "usage": usage}),
                              headers={"content-type": "application/json"})  # fmt: skip

    async def _events(self, model: str, body: dict[str, Any], starts: int, word: str) -> AsyncIterator[bytes]:
        said = self.says.split(" ") if self.says else []
        count = len(said) or self.words
        kind = "chat.completion.chunk" if "messages" in body else "text_completion"
        head = {"id": "x", "object": kind, "created": 0, "model": model}
        self._count(model, 1)
        try:
            for number in range(min(count, body.get("max_tokens") or count)):
                if number == self.end_after and body.get("stream"):
                    return
                await asyncio.sleep(self.pause_s)
                if (number == self.break_after and body.get("stream")) or starts != self.starts:
                    raise httpx.ReadError("connection lost")
                piece = f"{' ' if number else ''}{said[number]}" if said else word
                choice = (
                    {"index": 0, "delta": {"content": piece}} if "messages" in body else {"index": 0, "text": piece}
                )
                yield b"data: " + _json(head | {"choices": [choice]}) + b"\n\n"
            if said:  # as vLLM does
                choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}
                yield b"data: " + _json(head | {"choices": [choice]}) + b"\n\n"
        except (asyncio.CancelledError, GeneratorExit):
            self.given_up += 1
            raise
        finally:
            self._count(model, -1)
        if (body.get("stream_options") or {}).get("include_usage"):
            usage = {"prompt_tokens": 7, "completion_tokens": self.words}
            yield b"data: " + _json(head | {"choices": [], "usage": usage}) + b"\n\n"
        yield b"data: [DONE]\n\n"

    def _count(self, model: str, change: int) -> None:
        if model != "base":
            self.running[model] += change
            self.most_at_once = max(self.most_at_once, sum(n > 0 for n in self.running.values()))


class _Stream(httpx.AsyncByteStream):
    def __init__(self, events: AsyncIterator[bytes]) -> None:
        self._events = events

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for event in self._events:
            yield event

    async def aclose(self) -> None:
        await self._events.aclose()  # type: ignore[attr-defined]  # it is an async generator


async def _replayed(blocks: list[bytes]) -> AsyncIterator[bytes]:
    for block in blocks:
        yield block


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _error(status: int, message: str) -> httpx.Response:
    return httpx.Response(status, json={"error": {"message": message, "code": status}})


def _version(engine_name: str) -> str:
    return engine_name.rpartition("-")[0]


class FakeMaker(Maker):
    """Engines of versions' own as real processes that take a tenth of a second (tests/fake_engine.py).

    `options` go to their command line; the merged weights are the adapter's file, so that they say its word.
    """

    def __init__(self, home: Home, plan: EnginePlan = OWN_PLAN) -> None:
        self.pids: list[int] = []
        self.options: list[str] = []
        self.merges = 0
        self.registry = Registry(home)
        super().__init__(home, self.registry, EngineSettings(), Base("base", 0), plan, self._note)

    def _note(self, pids: list[int]) -> None:
        self.pids = pids

    def merge_command(self, card: AdapterCard) -> list[str]:
        self.merges += 1
        target = self.weights(card)
        target.parent.mkdir(parents=True, exist_ok=True)
        return ["cp", "-r", str(self.registry.folder(card.adapter, card.version)), str(target)]

    def engine(self, card: AdapterCard) -> Engine:
        port = free_port()
        command = [sys.executable, "-S", str(Path(__file__).with_name("fake_engine.py")), str(port), card.engine_name]
        command += [str(self.weights(card)), *self.options]
        log = self._home.logs / f"engine-{card.engine_name}.log"
        return Engine(command, {"VLLM_API_KEY": "its key"}, log, port)


class FakeGateway:
    """The whole gateway over a fake engine, or `engines`, and a home folder. `unfit`: versions that the check refuses,
    and why."""

    def __init__(
        self,
        home: Home,
        engine: FakeEngine | None = None,
        knowledge: Knowledge | None = None,
        templates: dict[str, str] | None = None,
        maker: Maker | None = None,
        telemetry: Telemetry | None = None,
        has_eyes: bool = False,
        tuning: Tuning | None = None,
        settings: GatewaySettings | None = None,
        fresh_s: float = 0,
        period_s: float = 0.02,  # of the reconciler
        engines: Sequence[FakeEngine] = (),
        router: EngineLink | None = None,
        **limits: Any,
    ) -> None:
        self.home = home
        self.engines = list(engines) or [engine or FakeEngine()]
        self.engine = self.engines[0]
        self.knowledge = knowledge
        self.registry = Registry(home)
        self.unfit: dict[str, str] = {}
        self.trials = Trials(home)
        self.pool = AdapterPool(
            [one.link(f"engine-{number}") for number, one in enumerate(self.engines, 1)], "base", self.registry,
            self._check, self.trials, Metrics(), Limits(**limits), templates or {}, maker or FakeMaker(home),
            router,
        )  # fmt: skip
        self.reconciler = Reconciler(self.pool, period_s)
        self.recorder = Recorder(lambda: open_store(home), self.pool.metrics, back_off_s=(0.05,))
        facts = BaseFacts(lambda text: len(text.split()), context_length=1000, template_tokens=("<|end|>",))
        answers = Answers(knowledge or Knowledge(home, KnowledgeSettings(), WordEmbedder()), facts)
        self.catalogue = HomeCatalogue(home, "base", supports_system=True, live=self.pool.live, answers=answers)
        self.loops = LoopApi(home, ExamsApi(home))
        tuning = tuning or Tuning(FileSettings(), JobSettings(waiting=5), HomeTunables(home, "base", "sha"))
        self.app = build_app(
            self.pool, self.catalogue, self.reconciler,
            Shadow(self.pool, home.logs / "shadow.jsonl", load_settings(home.settings_file).store.logging),
            self.recorder, ADMIN_KEY, home, knowledge, KnowledgeApi(knowledge) if knowledge else None,
            RunsApi(home), ExamsApi(home), self.loops, tuning, settings, telemetry, has_eyes,
        )  # fmt: skip
        self.app.state.access.credentials.fresh_s = fresh_s  # tests make users and keys behind the gateway's back

    def _check(self, card: AdapterCard) -> None:
        if card.name in self.unfit:
            raise BrogueError(self.unfit[card.name])

    @asynccontextmanager
    async def running(self) -> AsyncIterator[httpx.AsyncClient]:
        """The gateway in this event loop; gives a client that holds the admin key."""
        transport = httpx.ASGITransport(self.app)
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        async with (
            self.app.router.lifespan_context(self.app),
            httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers) as client,
        ):
            yield client


class CharTokenizer:
    """One id a character; a template with or without a system turn."""

    eos_token = "$"
    chat_template = "fake"

    def apply_chat_template(
        self, messages: Sequence[dict[str, Any]], tokenize: bool = True, add_generation_prompt: bool = False, **_: Any
    ) -> Any:
        text = "".join(f"<{m['role'][0]}>{m['content'].strip()}$\n" for m in messages)
        text += "<a>" if add_generation_prompt else ""
        return [ord(c) for c in text] if tokenize else text

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [ord(c) for c in text]}


def add_version(home: Home, adapter: str, base: str = "sha", rank: int = 8, served: Served = "native") -> AdapterCard:
    """A version without weights that could be used, in the registry; the fake engine lets it say its own name."""
    with Registry(home).new_version(adapter) as (version, folder):
        (folder / "adapter_model.safetensors").write_text(f"{adapter}@{version}")
        return add_card(folder, adapter, version, served, base, rank)


def add_card(
    folder: Path, adapter: str, version: int, served: Served = "native", base: str = "sha", rank: int = 8
) -> AdapterCard:
    """The card of what lies in a version's folder."""
    card = AdapterCard(
        adapter=adapter, version=version, base_model="base", base_sha256=base, dataset="d", dataset_digest="0",
        recipe="sft", method="lora", rank=rank, served=served, config={}, system_prompt="Trained so.",
        parent=None, scores={}, minutes=1, created="2026-11-21", files=file_hashes(folder),
    )  # fmt: skip
    write_json(folder / CARD, card.model_dump(mode="json"))
    return card


def add_assistant(home: Home, name: str, text: str) -> Path:
    """An assistant's file."""
    path = home.assistants / f"{name}.yaml"
    write_text(path, f"name: {name}\n{text}")
    return path
