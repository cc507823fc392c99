"""The real vllm-router before fake engines: what is told of it in docs/scaling.md."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from data.home import Home
from serve.engine import engine_client, free_port
from serve.engine_api import EngineLink
from tests.cluster import find_router
from tests.fakes import FakeGateway
from tests.served_engine import KEY, ServedEngine
from tests.swapping import CLIENTS, Answer, ask, load, put, until
from tests.swapping import voices as voices

ROUTER = find_router()
FLAGS = (
    "--health-check-interval-secs=1", "--health-failure-threshold=1", "--health-success-threshold=1",
    "--retry-max-retries=2", "--cb-failure-threshold=1", "--cb-timeout-duration-secs=5",
)  # fmt: skip
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(ROUTER is None, reason="there is no vllm-router; fetch it from PyPI: make router"),
]


class RealRouter:
    """The process. It is told of no engine: that is the gateway's task."""

    def __init__(self, log: Path) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        assert ROUTER is not None
        ports = (f"--port={self.url.rpartition(':')[2]}", f"--prometheus-port={free_port()}")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([ROUTER, *ports, *FLAGS], stdout=log, stderr=log)
        async with httpx.AsyncClient(trust_env=False) as client:
            for _ in range(600):
                try:
                    await client.get(f"{self.url}/liveness")
                    return
                except httpx.HTTPError:
                    await asyncio.sleep(0.1)
        raise AssertionError(self._log.read_text())

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class Stage:
    """A gateway before the router before three engines, and a client of the gateway."""

    def __init__(self, home: Home, router: RealRouter, words: int) -> None:
        self.engines = [ServedEngine(words, 0.005) for _ in range(3)]
        self.router = router
        link = EngineLink("router", engine_client(router.url, KEY), is_elsewhere=True)
        self.gateway = FakeGateway(home, engines=self.engines, router=link, period_s=0.1, idle_s=0)
        self.client: httpx.AsyncClient

    @property
    def is_used(self) -> bool:
        """Whether requests go through the router."""
        assert self.gateway.pool.replicas.router is not None
        return self.gateway.pool.replicas.router.is_well

    async def opened(self, count: int = 3) -> None:
        """Until so many engines are open, and the router has these."""
        await until(lambda: len(self.gateway.pool.replicas.open) == count and self.is_used)
        async with httpx.AsyncClient(trust_env=False) as client:
            for _ in range(600):
                if len((await client.get(f"{self.router.url}/list_workers")).json()["urls"]) == count:
                    return
                await asyncio.sleep(0.05)
        raise AssertionError("the router has other engines")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        for engine in self.engines:
            await engine.start()
        try:
            await self.router.start()
            async with self.gateway.running() as self.client:
                await self.opened()
                yield
        finally:
            self.router.kill()
            for engine in self.engines:
                await engine.stop()


def told(home: Home, tmp_path: Path, story: Callable[[Stage], Awaitable[None]], words: int = 6) -> Stage:
    """A story, and what was there when it had ended."""
    stage = Stage(home, RealRouter(tmp_path / "router.log"), words)

    async def tell() -> None:
        async with stage.running():
            await story(stage)

    asyncio.run(tell())
    assert all(engine.refused == 0 for engine in stage.engines), "the router passes our key on"
    return stage


def wrong(answers: list[Answer]) -> list[Answer]:
    return [answer for answer in answers if not answer.is_right]


def test_flips_under_load_through_the_real_router_lose_no_answer_and_mix_no_versions(
    voices: Home, tmp_path: Path
) -> None:
    async def story(stage: Stage) -> None:
        router = stage.gateway.pool.replicas.router
        assert router is not None
        async with load(stage.client, "reed") as answers:
            await until(lambda: router.busy > 1)
            for number in range(12):
                version = number % 3 + 1
                assert (await put(stage.client, "reed-voice", "stable", version)).status_code == 200
                assert (await ask(stage.client)).version == f"reed-voice@{version}"
        assert wrong(answers) == [] and stage.is_used

    stage = told(voices, tmp_path, story)
    assert all(engine.pulled_away == [] for engine in stage.engines)


def test_an_engine_that_dies_behind_the_real_router_costs_its_streams_and_is_used_again_when_it_is_up_to_date(
    voices: Home, tmp_path: Path
) -> None:
    async def story(stage: Stage) -> None:
        victim = stage.engines[1]
        async with load(stage.client, "reed") as answers:
            await until(lambda: len(answers) >= CLIENTS)
            await victim.stop()
            await stage.opened(2)
            assert (await put(stage.client, "reed-voice", "stable", 2)).status_code == 200
            got = len(answers)
            await until(lambda: len(answers) >= got + CLIENTS)
            await victim.start()
            await stage.opened()
            asked = len(victim.bodies)
            await until(lambda: len(victim.bodies) > asked)
        assert len(wrong(answers)) <= CLIENTS
        assert all(answer.status == 200 and answer.error for answer in wrong(answers))

    stage = told(voices, tmp_path, story, words=20)
    assert stage.engines[1].unknown == 0


def test_the_real_router_is_killed_and_comes_back_knowing_nothing_and_all_requests_are_answered(
    voices: Home, tmp_path: Path
) -> None:
    async def story(stage: Stage) -> None:
        async with load(stage.client, "reed") as answers:
            await until(lambda: len(answers) >= CLIENTS)
            stage.router.kill()
            got = len(answers)
            await until(lambda: len(answers) >= got + 3 * CLIENTS and not stage.is_used)
            await stage.router.start()
            await stage.opened()
        assert len(wrong(answers)) <= CLIENTS, "only streams that came through it"
        assert all(answer.status == 200 and answer.error for answer in wrong(answers))
        assert wrong([await ask(stage.client) for _ in range(3)]) == []

    told(voices, tmp_path, story)
