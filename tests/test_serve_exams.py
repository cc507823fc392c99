"""Exams and the loop over HTTP: what is listed, who may see it, and a retrain that starts as a process of its own."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx

from adapters.loop import Asked, Done, Round
from data.home import Home, write_json, write_text
from tests.fakes import FakeGateway, add_version
from tests.sample_exams import exam

SAYS = "import sys, time; print('1/6 collect', flush=True); time.sleep({seconds}); sys.exit({code})"


def asked(home: Home, what: Callable[[FakeGateway, httpx.AsyncClient], Awaitable[Any]]) -> Any:
    async def go() -> Any:
        gateway = FakeGateway(home)
        async with gateway.running() as client:
            try:
                return await what(gateway, client)
            finally:
                gateway.loops.stop()

    return asyncio.run(go())


def keep(home: Home, *exams: Any) -> None:
    for one in exams:
        write_text(home.root / "exams" / one.id / "exam.json", one.model_dump_json())


def keep_round(home: Home, **more: Any) -> Round:
    now = datetime.now(UTC)
    state = Round(adapter="reed-voice", number=1, asked=Asked(adapter="reed-voice", recipe="ppo", auto=True),
                  start="reed-voice@1", since=None, until=now, created=now).model_copy(update=more)  # fmt: skip
    write_json(home.root / "loops" / state.id / "state.json", state.model_dump(mode="json"))
    return state


def loops_like(gateway: FakeGateway, seconds: float = 0, code: int = 0) -> None:
    """A command in the place of `brogue retrain`."""
    gateway.loops.command = (sys.executable, "-c", SAYS.format(seconds=seconds, code=code))


async def until(client: httpx.AsyncClient, running: bool) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while True:
        found: dict[str, Any] = (await client.get("/v1/adapters/reed-voice/loop")).json()
        if found["running"] == running or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.05)


def test_exams_are_listed_newest_first_with_each_figures_way_and_an_unreadable_one_is_passed_over(home: Home) -> None:
    keep(home, exam(), exam("pass", 3, created="2026-11-22T10:00:00+00:00"), exam(None, 9, adapter="fern-voice"))
    write_text(home.root / "exams" / "torn" / "exam.json", '{"id": "torn"')

    async def look(_: FakeGateway, client: httpx.AsyncClient) -> Any:
        listed = (await client.get("/v1/exams", params={"adapter": "reed-voice"})).json()["data"]
        return listed, len((await client.get("/v1/exams")).json()["data"])

    (new, old), every = asked(home, look)
    assert every == 3 and (new["names"]["version"], old["names"]["version"]) == ("reed-voice@3", "reed-voice@2")
    assert new["verdict"]["result"] == "pass" and old["counted"] == "3 better, 1 worse, 3 cannot be told"
    ways = {figure["name"]: figure["way"] for figure in old["figures"]}
    assert ways["task.perplexity"] == "better" and ways["fairness.bbq_bias"] == "stated"


def test_an_exam_is_given_whole_and_as_a_page_that_may_do_nothing(home: Home) -> None:
    keep(home, exam())

    async def look(_: FakeGateway, client: httpx.AsyncClient) -> Any:
        whole = await client.get("/v1/exams/reed-voice-2-0a1b2c3d")
        report = await client.get("/v1/exams/reed-voice-2-0a1b2c3d/report.html")
        return whole.json(), report, await client.get("/v1/exams/none"), await client.get("/v1/exams/..%2Fx")

    whole, report, unknown, outside = asked(home, look)
    assert whole["object"] == "exam" and len(whole["measures"]) == 8
    assert report.headers["content-type"].startswith("text/html") and "<h1>reed-voice@2 against" in report.text
    assert report.headers["content-security-policy"].endswith("sandbox")
    assert unknown.status_code == outside.status_code == 404
    assert unknown.json()["error"]["message"] == (
        "no exam 'none'; have: reed-voice-2-0a1b2c3d. Examine a version: brogue exam NAME@N"
    )


def test_only_an_admin_sees_exams_and_starts_a_retrain(home: Home) -> None:
    add_version(home, "reed-voice")

    async def look(_: FakeGateway, client: httpx.AsyncClient) -> list[int]:
        client.headers.pop("authorization")
        paths = ("/v1/exams", "/v1/exams/x/report.html", "/v1/adapters/reed-voice/loop")
        codes = [(await client.get(path)).status_code for path in paths]
        return [*codes, (await client.post("/v1/adapters/reed-voice/retrain")).status_code]

    assert asked(home, look) == [401] * 4


def test_a_retrain_is_a_process_one_at_a_time_that_is_followed_and_ends_with_the_gateway(home: Home) -> None:
    add_version(home, "reed-voice")
    add_version(home, "fern-voice")

    async def look(gateway: FakeGateway, client: httpx.AsyncClient) -> Any:
        loops_like(gateway, seconds=60)
        begun = await client.post("/v1/adapters/reed-voice/retrain", json={"recipe": "dpo", "canary": 20})
        others = [await client.post(f"/v1/adapters/{name}/retrain") for name in ("reed-voice", "fern-voice")]
        log = home.logs / "retrain-reed-voice.log"
        while not log.read_text():
            await asyncio.sleep(0.05)
        said = (await client.get("/v1/adapters/reed-voice/loop")).json()["said"]
        gateway.loops.stop()
        return begun.json(), others, said, await until(client, False)

    begun, others, said, after = asked(home, look)
    assert begun["running"] and begun["problem"] is None and said == "1/6 collect"
    assert [reply.status_code for reply in others] == [409, 409]
    assert others[1].json()["error"]["message"] == (
        "reed-voice is being retrained now; one at a time: wait until it has ended"
    )
    assert not after["running"]


def test_why_a_retrain_ended_too_early_is_its_last_line(home: Home) -> None:
    add_version(home, "reed-voice")

    async def look(gateway: FakeGateway, client: httpx.AsyncClient) -> Any:
        gateway.loops.command = (sys.executable, "-c", "import sys; sys.exit('brogue: too few ' + sys.argv[2])")
        await client.post("/v1/adapters/reed-voice/retrain")
        return await until(client, False)

    assert asked(home, look)["problem"] == "too few reed-voice"


def test_an_unfinished_round_goes_on_as_it_was_asked_and_says_where_it_stopped(home: Home) -> None:
    add_version(home, "reed-voice")
    keep_round(home, steps={"collect": Done(minutes=0.1, result={"judgements": 40})}, error="the disk is full")

    async def look(gateway: FakeGateway, client: httpx.AsyncClient) -> Any:
        before = (await client.get("/v1/adapters/reed-voice/loop")).json()
        gateway.loops.command = (sys.executable, "-c", "import sys; print(sys.argv[1:])")
        await client.post("/v1/adapters/reed-voice/retrain", json={})
        return before, await until(client, False)

    before, after = asked(home, look)
    assert before["unfinished"] and before["problem"] == "the disk is full"
    assert before["rounds"][0]["where"].startswith("next: reward")
    assert after["said"] == "['retrain', 'reed-voice', '--recipe', 'ppo', '--auto']"


def test_the_loops_history_has_each_versions_latest_exam_and_the_judgements_that_wait(home: Home) -> None:
    for _ in range(2):
        add_version(home, "reed-voice")
    keep(home, exam("fail", created="2026-11-20T10:00:00+00:00", id="old"), exam("pass"))

    async def look(_: FakeGateway, client: httpx.AsyncClient) -> Any:
        unknown = await client.get("/v1/adapters/none/loop")
        return (await client.get("/v1/adapters/reed-voice/loop")).json(), unknown.status_code

    found, status = asked(home, look)
    assert status == 404
    assert [(one["version"], one["exam"] and one["exam"]["verdict"]["result"]) for one in found["versions"]] == [
        (1, None),
        (2, "pass"),
    ]
    assert (found["judgements"], found["wanted"]) == (0, 20)


def test_a_rounds_file_that_cannot_be_read_is_told_and_the_rest_is_shown(home: Home) -> None:
    add_version(home, "reed-voice")
    write_text(home.root / "loops" / "reed-voice-1" / "state.json", "{")

    async def look(_: FakeGateway, client: httpx.AsyncClient) -> Any:
        return (await client.get("/v1/adapters/reed-voice/loop")).json()

    found = asked(home, look)
    assert "not a round of the loop" in found["problem"] and len(found["versions"]) == 1


def test_what_the_gateway_says_is_what_the_page_shows(home: Home) -> None:
    from assistant.ui_loop_html import loops_html

    for _ in range(2):
        add_version(home, "reed-voice")
    keep(home, exam("pass"))
    keep_round(home, steps={"collect": Done(minutes=0.1, result={"judgements": 40})}, error="the disk is full")

    async def look(_: FakeGateway, client: httpx.AsyncClient) -> Any:
        adapters = (await client.get("/v1/adapters")).json()["data"]
        return loops_html([(await client.get("/v1/adapters/reed-voice/loop")).json()], adapters)

    page = asked(home, look)
    for words in (
        "0 new judgements since the stable version was made; it takes 20", "The retrain stopped: the disk is full",
        "Go on with the retrain", "ppo from 40 judgements, 0 minutes: not complete, next: reward",
        ">passed</span>", 'href="reports/reed-voice-2-0a1b2c3d"',
    ):  # fmt: skip
        assert words in page
    assert page.count("<svg") == 5
