"""Clients of several gateways: they ask one, and another when the first does not answer at all, as behind a balancer.

Adapter and assistant `swapper` have two versions whose answers cannot be confused, as in test_system_swap.py.
"""

import asyncio
import math
import random
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from data.home import write_text
from tests.cluster import ADMIN_KEY, Cluster, run_in
from tests.test_system_swap import Answer, ask, speaks_as
from tests.voices import QUESTIONS

ADMIN = {"Authorization": f"Bearer {ADMIN_KEY}"}
RETRY_S = 0.2
PATIENT_S = 30.0


class Seen(NamedTuple):
    """What a client got of one request, and what was going on at its end."""

    answer: Answer
    phase: str
    turned: bool  # the first gateway gave no word, another one was asked


@dataclass
class Stage:
    """A story's hold on what the clients meet."""

    cluster: Cluster
    clients: Sequence[httpx.AsyncClient]  # one for each gateway
    phase: str = "undisturbed"
    paused: bool = False  # nobody asks anything
    flips: list["Flip"] = field(default_factory=list)

    async def flip(self, version: int, at: int = 0) -> "Flip":
        """Let `swapper`'s stable be this version by way of gateway `at`, or of another if that one refuses.

        While PostgreSQL recovers all of them do: then it is tried again, as a person would.
        """
        watching = [asyncio.create_task(self._until(number, version)) for number in range(len(self.clients))]
        began, refused = time.monotonic(), 0
        while not await self._moved(version, at):
            refused += 1
            at = (at + 1) % len(self.clients)
            if time.monotonic() - began > PATIENT_S:
                break
            await asyncio.sleep(RETRY_S)
        said = time.monotonic()
        live = await asyncio.gather(*watching)
        last = max((when for when in live if when is not None), default=said)
        self.flips.append(Flip(self.phase, said - began, max(0.0, last - said), None not in live, refused))
        return self.flips[-1]

    async def _moved(self, version: int, at: int) -> bool:
        body = {"version": version, "who": "tests", "why": "to try it"}
        try:
            reply = await self.clients[at].put("/v1/adapters/swapper/aliases/stable", json=body, timeout=60)
        except httpx.HTTPError:
            return False
        return reply.status_code == 200

    async def _until(self, number: int, version: int) -> float | None:
        """When a gateway answers with this version; none if it does not within half a minute."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                found = (await self.clients[number].get("/v1/adapters/swapper", timeout=5)).json()
                if found["aliases"]["stable"] == version:
                    return time.monotonic()
            except (httpx.HTTPError, KeyError, ValueError):
                pass
            await asyncio.sleep(0.02)
        return None


class Flip(NamedTuple):
    """A move of an alias."""

    phase: str
    seconds: float  # until the gateway that was asked said that it is done
    last_s: float  # from then until the last gateway had it
    everywhere: bool
    refused: int  # times that a gateway refused it, or gave no answer, before it was done


def under_load(
    cluster: Cluster, story: Callable[[Stage], Awaitable[None]], clients: int = 8
) -> tuple[list[Seen], Stage]:
    """All that the clients got while the story was told."""

    async def run() -> tuple[list[Seen], Stage]:
        seen: list[Seen] = []
        over = asyncio.Event()
        opened = [
            httpx.AsyncClient(base_url=g.url, timeout=300, headers=ADMIN, trust_env=False) for g in cluster.gateways
        ]
        stage = Stage(cluster, opened)

        async def client_of(number: int) -> None:
            while not over.is_set():
                while stage.paused and not over.is_set():
                    await asyncio.sleep(0.05)
                number += 1
                seen.append(await _ask(opened, number, stage))

        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(client_of(number))
            try:
                await story(stage)
            finally:
                over.set()
        for one in opened:
            await one.aclose()
        return seen, stage

    return asyncio.run(run())


async def _ask(clients: Sequence[httpx.AsyncClient], number: int, stage: Stage) -> Seen:
    question = QUESTIONS[number % len(QUESTIONS)]
    answer = await ask(clients[number % len(clients)], question)
    turned = not answer.version and len(clients) > 1  # not a word of an answer was heard
    if turned:
        await asyncio.sleep(RETRY_S)
        answer = await ask(clients[(number + 1) % len(clients)], question)
    return Seen(answer, stage.phase, turned)


async def kill(stage: Stage, what: str, chance: random.Random, pause_s: float = 3) -> None:
    """kill -9 an engine, a gateway, the router or a backend of PostgreSQL; what dies is started again after a while."""
    cluster, stage.phase = stage.cluster, f"{what} killed"
    if what == "PostgreSQL's backend":
        await asyncio.to_thread(cluster.kill_database_backend)
        return
    part = {
        "engine": chance.choice(cluster.engines), "gateway": chance.choice(cluster.gateways), "router": cluster.router
    }[what]  # fmt: skip
    assert part is not None
    await asyncio.to_thread(part.kill)
    await asyncio.sleep(pause_s)
    part.start()


async def settled(stage: Stage, seconds: float = 600) -> float:
    """Until every gateway has every engine in rotation; the seconds that it took. The load pauses meanwhile: all of
    this shares the cores of one machine, and an engine that starts needs them."""
    stage.paused = True
    try:
        return await asyncio.to_thread(until_settled, stage.cluster, seconds)
    finally:
        stage.paused = False


def until_settled(cluster: Cluster, seconds: float = 600) -> float:
    """`settled`, where no load is on its way."""
    began = time.monotonic()
    while True:
        states = [_engines(cluster, number) for number in range(len(cluster.gateways))]
        if all(len(one) == len(cluster.engines) and set(one) == {"ready"} for one in states):
            return time.monotonic() - began
        assert time.monotonic() - began < seconds, states
        time.sleep(0.5)


def _engines(cluster: Cluster, number: int) -> list[str]:
    try:
        found: Any = cluster.ready(number)["engines"]
        return [one["state"] for one in found]
    except (httpx.HTTPError, KeyError, ValueError):
        return []


def give_voices(cluster: Cluster, folders: Sequence[Path]) -> None:
    """`swapper` with a version from each folder, imported by the first gateway's home; version 1 is stable."""
    home = cluster.homes[0]
    for folder in folders:
        run_in(home, "adapters", "import", str(folder), "--as", "swapper")
    write_text(home.assistants / "swapper.yaml", "name: swapper\nadapter: swapper\n")
    run_in(home, "share", "push")
    for gateway in cluster.gateways:
        _until_known(gateway.url)


def _until_known(url: str) -> None:
    body = {"model": "swapper", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
    deadline = time.monotonic() + 60
    while True:
        reply = httpx.post(f"{url}/v1/chat/completions", json=body, headers=ADMIN, timeout=60, trust_env=False)
        if reply.status_code == 200:
            return
        assert time.monotonic() < deadline, reply.text
        time.sleep(0.2)


def loaded_names(cluster: Cluster, key: str) -> list[set[str]]:
    """The adapters that each engine itself says it holds."""
    found = []
    for engine in cluster.engines:
        headers = {"Authorization": f"Bearer {key}"}
        models = httpx.get(f"{engine.url}/v1/models", headers=headers, timeout=30, trust_env=False).json()["data"]
        found.append({model["id"] for model in models if model.get("parent")})
    return found


def table(seen: Sequence[Seen], flips: Sequence[Flip]) -> list[dict[str, Any]]:
    """A row for each phase: what clients saw, and how long flips took."""
    rows = []
    for phase in dict.fromkeys(one.phase for one in seen):
        mine = [one for one in seen if one.phase == phase]
        whole = [one for one in mine if one.answer.whole]
        moved = [flip for flip in flips if flip.phase == phase]
        rows.append({
            "phase": phase, "answers": len(mine), "whole": len(whole),
            "mixed": sum(not speaks_as(one.answer) for one in whole),
            "asked_again": sum(one.turned for one in mine),
            "cut_off_with_an_error": sum(not one.answer.whole and bool(one.answer.version) for one in mine),
            "no_answer": sum(not one.answer.whole and not one.answer.version for one in mine),
            "versions": dict(Counter(one.answer.version for one in whole)),
            "flips": len(moved), "asked_again_for_a_flip": sum(flip.refused for flip in moved),
            "flip_s": spread([flip.seconds for flip in moved]),
            "last_gateway_s": spread([flip.last_s for flip in moved if flip.everywhere]),
        })  # fmt: skip
    return rows


def spread(values: Sequence[float]) -> dict[str, float]:
    """p50, p95 and maximum."""
    if not values:
        return {}
    ordered = sorted(values)
    return {"p50": round(statistics.median(ordered), 3), "p95": round(ordered[math.ceil(0.95 * len(ordered)) - 1], 3),
            "max": round(ordered[-1], 3)}  # fmt: skip


def submit_judgements(
    cluster: Cluster, count: int, then: Callable[[], None], at: int
) -> tuple[dict[str, Any], set[str]]:
    """Submit so many judgements by several clients, by both gateways; after `at` of them `then` is called, once.

    Each is sent until it is acknowledged, under the same id. Gives what was acknowledged, and the ids that any gateway
    has at the end.
    """
    return asyncio.run(_submit(cluster, count, then, at))


async def _submit(cluster: Cluster, count: int, then: Callable[[], None], at: int) -> tuple[dict[str, Any], set[str]]:
    clients = [httpx.AsyncClient(base_url=g.url, timeout=30, headers=ADMIN, trust_env=False) for g in cluster.gateways]
    answers = [await _answered(clients[number % len(clients)]) for number in range(2)]
    acknowledged: dict[str, Any] = {}
    numbers, disturbed = iter(range(count)), False

    async def client_of(first: int) -> None:
        nonlocal disturbed
        for number in numbers:
            said = {"kind": "comparison", "id": f"j{number}", "rater": f"rater-{number % 10}", "shown": answers,
                    "verdict": "first" if number % 3 else "tie", "comment": f"number {number}"}  # fmt: skip
            turn = first + number
            while said["id"] not in acknowledged:
                try:
                    reply = await clients[turn % len(clients)].post("/v1/feedback/judgements", json=said)
                    if reply.status_code == 200:
                        acknowledged[str(said["id"])] = said
                        break
                    assert reply.status_code >= 500, reply.text
                except httpx.HTTPError:
                    pass
                turn += 1  # the other gateway
                await asyncio.sleep(0.02)
            if len(acknowledged) >= at and not disturbed:
                disturbed = True
                await asyncio.to_thread(then)

    await asyncio.gather(*(client_of(first) for first in range(8)))
    there: set[str] = set()
    for client in clients:
        try:
            reply = await client.get("/v1/feedback/judgements", params={"limit": 10_000})
            there |= {one["id"] for one in reply.json()["data"]}
        except httpx.HTTPError:
            pass  # the one that was killed
        await client.aclose()
    return acknowledged, there


async def _answered(client: httpx.AsyncClient) -> str:
    body = {"model": "swapper", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
    reply = await client.post("/v1/chat/completions", json=body)
    assert reply.status_code == 200, reply.text
    return reply.headers["x-brogue-response-id"]
