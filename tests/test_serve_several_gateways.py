"""Two gateways, each with a home of its own, that share a database and artefacts: what one does holds in the other."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from data.home import Home, write_text
from data.settings import load_settings
from data.sharing import opened_shared
from data.store_follow import POLL_S
from tests.fakes import FakeGateway, add_assistant, add_version

pytest_plugins = ["tests.databases"]
pytestmark = pytest.mark.slow

SETTINGS = '[store]\nurl = "{url}"\n[shared]\nartefacts = "{artefacts}"\n'


class Two(NamedTuple):
    """The gateways and their clients."""

    homes: list[Home]
    clients: list[httpx.AsyncClient]


@asynccontextmanager
async def two_gateways(url: str, root: Path, listens: bool = True) -> AsyncIterator[Two]:
    """Both running, with adapter and assistant `shop`."""
    from data.store_follow import Follower

    homes = [Home(root / name) for name in ("one", "other")]
    for home in homes:
        write_text(home.settings_file, SETTINGS.format(url=url, artefacts=root / "artefacts"))
    for _ in range(2):
        add_version(homes[0], "shop")
    async with AsyncExitStack() as stack:
        clients = []
        for home in homes:
            shared = stack.enter_context(opened_shared(home, load_settings(home.settings_file)))
            shared.pull()
            add_assistant(home, "shop", "adapter: shop\n")
            gateway = FakeGateway(home, period_s=1)  # the reconciler's own look is as seldom as a real gateway's
            follower = Follower(shared, gateway.reconciler.wake, listens=listens)
            clients.append(await stack.enter_async_context(gateway.running()))
            follower.start()
            stack.callback(follower.stop)
        yield Two(homes, clients)


async def answer_of(client: httpx.AsyncClient) -> httpx.Response:
    body = {"model": "shop", "messages": [{"role": "user", "content": "Hello"}]}
    reply = await client.post("/v1/chat/completions", json=body)
    assert reply.status_code == 200, reply.text
    return reply


@pytest.mark.parametrize("listens", [True, False])
def test_a_move_at_one_gateway_holds_in_the_other_within_the_bound(
    new_postgresql: str, tmp_path: Path, listens: bool
) -> None:
    async def story() -> list[float]:
        took = []
        async with two_gateways(new_postgresql, tmp_path, listens) as two:
            for client in two.clients:
                assert (await answer_of(client)).headers["x-brogue-version"] == "shop@1"
            await asyncio.sleep(POLL_S)
            for number in range(4):
                version, by, at = 2 - number % 2, two.clients[number % 2], two.clients[1 - number % 2]
                body = {"version": version, "who": "tests", "why": "to try it"}
                assert (await by.put("/v1/adapters/shop/aliases/stable", json=body)).status_code == 200
                began = time.monotonic()
                while (await answer_of(at)).headers["x-brogue-version"] != f"shop@{version}":
                    await asyncio.sleep(0.01)
                took.append(time.monotonic() - began)
        return took

    took = asyncio.run(story())
    # docs/scaling.md: a second, and what it takes to try the version; the fake engine needs no time for that.
    assert max(took) < POLL_S + 2, took


def test_an_answer_of_one_gateway_is_judged_at_the_other_right_away(new_postgresql: str, tmp_path: Path) -> None:
    async def story() -> None:
        async with two_gateways(new_postgresql, tmp_path) as two:
            one, other = two.clients
            for _ in range(3):
                answered = [(await answer_of(one)).headers["x-brogue-response-id"] for _ in range(2)]
                said = {"kind": "comparison", "rater": "ada", "shown": answered, "verdict": "first"}
                reply = await other.post("/v1/feedback/judgements", json=said)
                assert reply.status_code == 200, reply.text
                rated = await other.post("/v1/feedback/ratings", json={"response_id": answered[0], "rating": 1})
                assert rated.status_code == 200, rated.text
                assert rated.json()["stored"]
            # Many at once, each by somebody else.
            fresh = [(await answer_of(one)).headers["x-brogue-response-id"] for _ in range(2)]
            said = {"kind": "comparison", "shown": fresh, "verdict": "first"}
            sent = (other.post("/v1/feedback/judgements", json=said | {"rater": f"r{n}"}) for n in range(20))
            assert {reply.status_code for reply in await asyncio.gather(*sent)} == {200}
            unknown = await other.post("/v1/feedback/ratings", json={"response_id": "resp-none", "rating": 1})
            assert unknown.status_code == 404

    asyncio.run(story())
