"""Two real engines behind one gateway: flips under load, and the death of one of them."""

import asyncio
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from data.home import Home, write_text
from data.secrets import admin_key
from tests.conftest import free_port, run_brogue
from tests.test_system_swap import CLIENTS, SPEAKERS, Answer, admin, put_stable, speaks_as, under_load

pytestmark = [pytest.mark.slow, pytest.mark.engine]

FLIPS = 10
SETTINGS = """[engine]
count = 2
max_model_len = 512
max_num_seqs = 8
kv_cache_gib = 0.2
"""


@pytest.fixture(scope="module")
def pair(up_home: Home, voice: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home of its own with two engines; assistant and adapter `swapper` as in test_system_swap.py."""
    home = Home(tmp_path_factory.mktemp("pair") / "home")
    home.create()
    shutil.copytree(up_home.models, home.models, dirs_exist_ok=True)
    write_text(home.settings_file, SETTINGS)
    write_text(home.assistants / "swapper.yaml", "name: swapper\nadapter: swapper\n")
    for name in SPEAKERS.values():
        done = run_brogue("adapters", "import", str(voice(name)), "--as", "swapper", home=home)
        assert done.returncode == 0, done.stderr
    done = run_brogue("up", "--port", str(free_port()), "--page-port", str(free_port()), home=home, timeout=900)
    try:
        assert done.returncode == 0, done.stderr
        yield home
    finally:
        run_brogue("down", home=home, timeout=120)


def status(home: Home) -> dict[str, Any]:
    return dict(json.loads(run_brogue("status", "--json", home=home).stdout))


def test_two_engines_flip_as_one_and_the_death_of_one_costs_only_what_it_was_writing(pair: Home) -> None:
    url = status(pair)["gateway_url"]

    def engines() -> list[dict[str, Any]]:
        return list(httpx.get(f"{url}/ready", headers=admin(pair), timeout=30).json().get("engines", []))

    def until_both(seconds: float = 600) -> float:
        began = time.monotonic()
        while [one["state"] for one in engines()] != ["ready", "ready"]:
            assert time.monotonic() - began < seconds, engines()
            time.sleep(0.5)
        return time.monotonic() - began

    until_both()
    put_stable(url, pair, 1)
    flips: list[float] = []
    seen: dict[str, int] = {}

    async def story(client: httpx.AsyncClient) -> None:
        headers = {"Authorization": f"Bearer {admin_key(pair)}"}
        for number in range(FLIPS):
            if number == FLIPS // 2:
                victim = status(pair)["engines"][0]["pid"]
                os.killpg(victim, signal.SIGKILL)
            body = {"version": 2 - number % 2, "who": "tests", "why": "to try it"}
            began = time.monotonic()
            reply = await client.put("/v1/adapters/swapper/aliases/stable", json=body, headers=headers)
            flips.append(time.monotonic() - began)
            assert reply.status_code == 200, reply.text
            await asyncio.sleep(1)  # for answers of this version
            states = (await client.get("/ready", headers=headers)).json()["engines"]
            for one in states:
                seen[one["name"]] = max(seen.get(one["name"], 0), one["answers_now"])

    answers = under_load(url, story)
    whole = [answer for answer in answers if answer.whole]
    assert all(speaks_as(answer) for answer in whole), "no answer is mixed"
    broken: list[Answer] = [answer for answer in answers if not answer.whole]
    assert len(broken) <= CLIENTS, "only what the killed engine was writing"
    assert all(answer.error for answer in broken), "and each of these clients was told"
    assert min(seen.values()) > 0, f"both wrote answers: {seen}"
    back = until_both()
    assert [one["adapters"] for one in engines()] == [2, 2], "it has the live version, and the one to roll back to"
    middle = sorted(flips)[FLIPS // 2]
    print(f"{len(whole)} whole answers, {len(broken)} cut off with an error, {FLIPS} flips of "
          f"{middle:.2f} s (median), {max(flips):.2f} s at most; back {back:.0f} s later")  # fmt: skip
