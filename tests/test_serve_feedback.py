"""People, judgements and raters' queues over HTTP: who may do what, and what becomes of it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine
from starlette.testclient import TestClient

from assistant.client import GatewayError
from assistant.client_feedback import FeedbackClient
from data.home import Home, write_text
from data.judgements import Response, Wanted
from data.store import Store
from data.store_home import open_store
from data.store_open import sqlite_url
from data.store_users import Users
from data.users import Role
from tests.conftest import ROOT, free_port
from tests.fakes import ADMIN_KEY, FakeEngine, FakeGateway, add_assistant, add_version
from tests.feedback_gateway import feedback_gateway

PEOPLE: dict[str, Role] = {"ann": "user", "rae": "rater", "rob": "rater", "ada": "admin"}
ARMS: list[dict[str, Any]] = [{"model": "reed"}, {"model": "base", "temperature": 1.2}, {"model": "reed-voice@2"}]
PROMPTS = [{"messages": [{"role": "user", "content": f"Question {number}?"}]} for number in range(3)]
QUEUE = {"name": "week", "arms": ARMS, "prompts": PROMPTS, "overlap": 0, "repeat": 0}


class Setup(FakeGateway):
    """A gateway with a client, and the tokens of who signed in."""

    client: TestClient
    tokens: dict[str, str]

    def ask(self, who: str, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """`who`: nobody, a name of PEOPLE, "key" (the admin key), "key as NAME", or "stranger" (a token of no one)."""
        headers = {"stranger": {"Authorization": "Bearer none"}, "nobody": {}}.get(who)
        if headers is None and who.startswith("key"):
            headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
            headers |= {"x-brogue-user": name} if (name := who.removeprefix("key").removeprefix(" as ")) else {}
        elif headers is None:
            headers = {"Authorization": f"Bearer {self.tokens[who]}"}
        return self.client.request(method, path, json=body, headers=headers, params=query or None)

    def chat(self, user: str | None = None) -> str:
        """An answer's id."""
        body = {"model": "reed", "messages": [{"role": "user", "content": "Hi"}], **({"user": user} if user else {})}
        return str(self.ask("key", "POST", "/v1/chat/completions", body).headers["x-brogue-response-id"])

    def add_people(self) -> None:
        users = Users(self.recorder.store(), rounds=4)
        for name, role in PEOPLE.items():
            users.create(name, role, f"password of {name}")
        self.tokens = {name: users.sign_in(name, f"password of {name}")[1] for name in PEOPLE}

    def events(self, who: str, turn: str) -> list[dict[str, Any]]:
        """What comes of a turn's answers."""
        reply = self.ask(who, "POST", f"/v1/feedback/turns/{turn}/answers")
        assert reply.status_code == 200, reply.text
        lines = [line.removeprefix("data: ") for line in reply.text.split("\n\n") if line]
        assert lines[-1] == "[DONE]"
        return [json.loads(line) for line in lines[:-1]]

    def next(self, who: str, queue: str = "week") -> Any:
        return self.ask(who, "POST", f"/v1/feedback/queues/{queue}/next").json()

    def answered(self, who: str, queue: str = "week") -> Any:
        """The next turn, with its answers."""
        turn = self.next(who, queue)["turn"]
        return self.events(who, turn["id"])[-1]["turn"]

    def judge(self, who: str, turn: str, **said: Any) -> Any:
        return self.ask(who, "POST", f"/v1/feedback/turns/{turn}/judgement", said)


@pytest.fixture
def open_setup(home: Home) -> Iterator[Setup]:
    """Nobody has to sign in."""
    for _ in range(2):
        add_version(home, "reed-voice")
    add_assistant(home, "reed", "adapter: reed-voice\nsystem_prompt: Be Reed.")
    setup = Setup(home, max_wait_s=0.3)
    with TestClient(setup.app, raise_server_exceptions=False) as setup.client:
        yield setup


@pytest.fixture
def setup(open_setup: Setup) -> Setup:
    """The people above have to sign in."""
    open_setup.add_people()
    return open_setup


def line(reply: Any) -> str:
    """The one line of an error."""
    message = str(reply.json()["error"]["message"])
    assert "\n" not in message and len(message) < 400, message
    return message


RATE, JUDGE = "/v1/feedback/ratings", "/v1/feedback/judgements"
WHO = ("nobody", "stranger", "ann", "rae", "ada", "key", "key as rae", "key as zoe")
ANYBODY = dict.fromkeys(WHO, 200) | {"stranger": 401, "key as zoe": 403}
SIGNED_IN = ANYBODY | {"nobody": 401}
RATERS = SIGNED_IN | {"ann": 403}
ADMINS = RATERS | {"rae": 403, "key as rae": 403}
# Each route, what is sent, and the status that each of WHO gets.
TABLE: list[tuple[str, str, Any, dict[str, int]]] = [
    ("GET", "/v1/me", None, ANYBODY),
    ("POST", "/v1/sign-out", None, ANYBODY),
    ("POST", "/v1/sign-in", {"name": "ann", "password": "password of ann"}, dict.fromkeys(WHO, 200)),
    ("GET", "/v1/users", None, ADMINS),
    ("POST", "/v1/users", {"name": "new-{n}", "password": "a new password", "role": "user"}, ADMINS),
    ("PATCH", "/v1/users/rob", {"role": "rater"}, ADMINS),
    ("DELETE", "/v1/users/rob-{n}", None, {who: 404 if code == 200 else code for who, code in ADMINS.items()}),
    ("POST", RATE, {"response_id": "{response}", "rating": 1}, SIGNED_IN),
    ("POST", JUDGE, {"kind": "correction", "response": "{response}", "text": "Better."}, SIGNED_IN),
    ("GET", JUDGE, None, SIGNED_IN),
    ("DELETE", JUDGE + "/none", None, {who: 404 if code == 200 else code for who, code in SIGNED_IN.items()}),
    ("GET", "/v1/feedback/responses/{response}", None, SIGNED_IN),
    ("GET", "/v1/adapters", None, ADMINS),
    ("POST", "/v1/feedback/queues", QUEUE | {"name": "queue-{n}"}, ADMINS),
    ("GET", "/v1/feedback/queues", None, RATERS),
    ("GET", "/v1/feedback/queues/week", None, RATERS),
    ("POST", "/v1/feedback/queues/week/next", None, RATERS),
    ("DELETE", "/v1/feedback/queues/none", None, {who: 404 if code == 200 else code for who, code in ADMINS.items()}),
    *(
        ("POST", f"/v1/feedback/turns/none/{what}", {"verdict": "tie"} if what == "judgement" else None,
         {who: 404 if code == 200 else code for who, code in RATERS.items()})
        for what in ("answers", "judgement", "skip", "undo")
    ),
]  # fmt: skip


def test_each_role_may_do_what_the_table_says_on_each_route(setup: Setup) -> None:
    setup.ask("key", "POST", "/v1/feedback/queues", QUEUE)
    response = setup.chat()
    found = {}
    for method, path, body, wanted in TABLE:
        for number, who in enumerate(WHO):
            if (who, path) == ("ann", "/v1/sign-out"):
                continue  # her token is needed below
            send = json.loads(json.dumps(body).replace("{n}", str(number)).replace("{response}", response))
            reply = setup.ask(who, method, path.replace("{response}", response).replace("{n}", str(number)), send)
            if path == "/v1/sign-out" and who in PEOPLE:
                setup.tokens[who] = Users(setup.recorder.store()).sign_in(who, f"password of {who}")[1]
            if reply.status_code != wanted[who]:
                found[f"{who}: {method} {path}"] = f"{reply.status_code}, wanted {wanted[who]}: {reply.text[:200]}"
    assert found == {}


def test_the_table_has_all_routes_and_openapi_describes_each(setup: Setup) -> None:
    schema = setup.ask("key", "GET", "/openapi.json").json()
    ours = ("/v1/feedback", "/v1/users", "/v1/me", "/v1/sign")
    assert "Bearer TOKEN" in schema["info"]["description"]
    there = {(method.upper(), path) for path, item in schema["paths"].items() for method in item
             if path.startswith(ours)}  # fmt: skip
    assert len(there) == len([path for _, path, _, _ in TABLE if path.startswith(ours)])
    for method, path in there:
        described = schema["paths"][path][method.lower()]
        assert described["summary"], f"{method} {path}"
        if not path.endswith("/answers"):
            shape = described["responses"]["200"]["content"]["application/json"]["schema"]
            model = schema["components"]["schemas"][shape["$ref"].rpartition("/")[2]]
            assert model["description"], f"{method} {path} answers with a model that says what it is"


def test_me_says_who_asks_what_is_kept_and_which_reasons_there_are(setup: Setup) -> None:
    mine = setup.ask("rae", "GET", "/v1/me").json()
    assert (mine["name"], mine["role"], mine["sign_in"], mine["logging"]) == ("rae", "rater", True, "full")
    assert "wrong-source" in mine["reasons"]["down"] and "helpful" in mine["reasons"]["up"]
    nobody = setup.ask("nobody", "GET", "/v1/me").json()
    assert (nobody["name"], nobody["role"], nobody["sign_in"]) == (None, None, True)
    assert setup.ask("key as ada", "GET", "/v1/me").json()["name"] == "ada"


def test_while_there_are_no_users_anybody_is_a_rater_under_the_name_they_give(open_setup: Setup) -> None:
    setup = open_setup
    assert setup.ask("nobody", "GET", "/v1/me").json()["role"] == "rater"
    assert setup.ask("key as Zo%C3%AB", "GET", "/v1/me").json()["name"] == "Zoë"
    response = setup.chat()
    for rater in (None, "bob"):
        said = {"kind": "correction", "response": response, "text": "So.", **({"rater": rater} if rater else {})}
        assert setup.ask("nobody", "POST", JUDGE, said).json()["rater"] == (rater or "anonymous")
    listed = setup.ask("nobody", "GET", JUDGE, rater="bob").json()["data"]
    assert [one["rater"] for one in listed] == ["bob"]
    assert setup.ask("nobody", "DELETE", f"{JUDGE}/{listed[0]['id']}", rater="bob").json()["taken_back"]


def test_a_person_signs_in_and_out_and_is_out_when_removed(setup: Setup) -> None:
    signed = setup.ask("nobody", "POST", "/v1/sign-in", {"name": "rae", "password": "password of rae"}).json()
    assert (signed["name"], signed["role"]) == ("rae", "rater")
    setup.tokens["again"] = signed["token"]
    assert setup.ask("again", "GET", "/v1/me").json()["name"] == "rae"
    setup.ask("again", "POST", "/v1/sign-out")
    assert setup.ask("again", "GET", "/v1/me").status_code == 401
    setup.ask("ada", "DELETE", "/v1/users/rae")
    assert "sign in (again)" in line(setup.ask("rae", "GET", "/v1/me"))


def test_after_ten_wrong_passwords_a_name_waits_and_others_do_not(setup: Setup) -> None:
    def sign_in(name: str, password: str) -> Any:
        return setup.ask("nobody", "POST", "/v1/sign-in", {"name": name, "password": password})

    for number in range(10):
        reply = sign_in("Ann " if number % 2 else "ann", f"wrong {number}")
        assert (reply.status_code, line(reply)) == (401, "the name or the password is wrong")
    late = sign_in("ann", "password of ann")
    assert (late.status_code, line(late)) == (429, "10 sign-ins of 'ann' failed; try again in 5 min")
    assert 200 < int(late.headers["retry-after"]) <= 301
    assert sign_in("rae", "password of rae").status_code == 200


def test_an_admin_makes_changes_and_removes_people(setup: Setup) -> None:
    made = setup.ask("ada", "POST", "/v1/users", {"name": "max", "password": "long enough", "role": "user"}).json()
    assert (made["name"], made["role"], "password" in str(made)) == ("max", "user", False)
    assert setup.ask("ada", "PATCH", "/v1/users/max", {"role": "rater"}).json()["role"] == "rater"
    assert "max" in [one["name"] for one in setup.ask("ada", "GET", "/v1/users").json()["data"]]
    for body, status in (
        ({"name": "max", "password": "long enough"}, 409), ({"name": "a b", "password": "long enough"}, 400),
        ({"name": "eve", "password": "short"}, 400), ({"name": "eve", "password": "long enough", "role": "x"}, 400),
    ):  # fmt: skip
        reply = setup.ask("ada", "POST", "/v1/users", body)
        assert reply.status_code == status, line(reply)
    assert setup.ask("ada", "PATCH", "/v1/users/max", {"password": "short"}).status_code == 400
    assert setup.ask("ada", "DELETE", "/v1/users/max").json() == {"done": True}


def test_all_four_kinds_are_kept_listed_filtered_and_taken_back(setup: Setup) -> None:
    first, second, third = setup.chat(), setup.chat(), setup.chat()
    given: list[dict[str, Any]] = [
        {"kind": "rating", "response": first, "thumb": "down", "reasons": ["too long"], "comment": "Ends late."},
        {"kind": "comparison", "shown": [first, second], "verdict": "both-bad"},
        {"kind": "ranking", "shown": [third, first, second], "ranks": [1, 0, 1], "all_bad": True, "seconds": 4.5},
        {"kind": "correction", "response": second, "text": "As it should be."},
    ]
    kept = [setup.ask("ann", "POST", JUDGE, said).json() for said in given]
    for said, found in zip(given, kept, strict=True):
        assert said.items() <= found.items()
        assert found["rater"] == "ann" and "versions" not in found
    listed = setup.ask("ann", "GET", JUDGE).json()["data"]
    assert sorted(one["id"] for one in listed) == sorted(one["id"] for one in kept)
    assert setup.ask("rae", "GET", JUDGE).json()["data"] == []
    assert setup.ask("rae", "GET", JUDGE, rater="ann").status_code == 403
    all_of_them = setup.ask("ada", "GET", JUDGE, rater="ann", kind="ranking").json()["data"]
    assert [(one["kind"], one["versions"]) for one in all_of_them] == [("ranking", ["reed-voice@1"] * 3)]
    assert [one["kind"] for one in setup.ask("ann", "GET", JUDGE, response=third).json()["data"]] == ["ranking"]
    path = f"{JUDGE}/{kept[2]['id']}"
    assert setup.ask("rae", "DELETE", path).status_code == 403
    once, twice = (setup.ask("ann", "DELETE", path).json() for _ in range(2))
    assert once["taken_back"] == twice["taken_back"]
    assert len(setup.ask("ann", "GET", JUDGE).json()["data"]) == 3
    assert len(setup.ask("ann", "GET", JUDGE, taken_back=True).json()["data"]) == 4


def test_a_thumb_counts_for_its_version_until_it_is_taken_back(setup: Setup) -> None:
    response = setup.chat()
    first = setup.ask("ann", "POST", RATE, {"response_id": response, "rating": -1, "comment": "No."}).json()
    assert (first["version"], first["stored"]) == ("reed-voice@1", True)
    again = setup.ask("ann", "POST", RATE, {"response_id": response, "rating": -1, "comment": "No."}).json()
    assert again == first, "the same once more is no news"
    assert setup.trials.tally("reed-voice", 1).down == 1
    more = setup.ask("ann", "POST", JUDGE, {"kind": "rating", "response": response, "thumb": "down",
                                            "comment": "Not at all."}).json()  # fmt: skip
    assert more["id"] != first["judgement"] and setup.trials.tally("reed-voice", 1).down == 1
    for _ in range(2):
        setup.ask("ann", "DELETE", f"{JUDGE}/{more['id']}")
        assert setup.trials.tally("reed-voice", 1).down == 0


def test_the_same_judgement_sent_again_is_one_and_another_under_its_id_is_refused(setup: Setup) -> None:
    said = {"kind": "correction", "id": "mine-1", "response": setup.chat(), "text": "So."}
    first, again = (setup.ask("ann", "POST", JUDGE, said).json() for _ in range(2))
    assert first == again
    other = setup.ask("ann", "POST", JUDGE, said | {"text": "Not so."})
    assert (other.status_code, "says something else" in line(other)) == (409, True)


def test_another_persons_conversation_is_nobodys_to_judge_or_read(setup: Setup) -> None:
    private, common = setup.chat(user="ann"), setup.chat()
    said = [
        {"kind": "rating", "response": private, "thumb": "up"},
        {"kind": "comparison", "shown": [common, private], "verdict": "tie"},
        {"kind": "correction", "response": private, "text": "Mine."},
    ]
    for who, status in (("rae", 403), ("ann", 200), ("ada", 200), ("key as rae", 403)):
        for one in said:
            reply = setup.ask(who, "POST", JUDGE, one)
            assert reply.status_code == status, reply.text
            assert status == 200 or line(reply) == f"response '{private}' is another person's private conversation"
        assert setup.ask(who, "GET", f"/v1/feedback/responses/{private}").status_code == status
        assert setup.ask(who, "POST", RATE, {"response_id": private, "rating": 1}).status_code == status
    assert setup.trials.tally("reed-voice", 1).down == 0
    mine = setup.ask("ann", "GET", f"/v1/feedback/responses/{private}").json()
    assert (mine["subject"], mine["version"], mine["messages"][-1]["content"]) == ("ann", "reed-voice@1", "Hi")


def test_nobody_judges_under_anothers_name(setup: Setup) -> None:
    response = setup.chat()
    for path, said in (
        (RATE, {"response_id": response, "rating": 1, "rater": "rae"}),
        (RATE, {"response_id": response, "rating": 1, "user": "rae"}),
        (JUDGE, {"kind": "correction", "response": response, "text": "x", "rater": "rae"}),
    ):
        reply = setup.ask("ann", "POST", path, said)
        assert (reply.status_code, line(reply)) == (403, "you are 'ann' and cannot judge as 'rae'")
        assert setup.ask("ann", "POST", path, said | {"rater": "ann", "user": "ann"} if path == RATE else
                         said | {"rater": "ann"}).status_code == 200  # fmt: skip


BIG = "x" * 1_000_000
BAD: list[tuple[dict[str, Any], int, str]] = [
    ({"kind": "ranking", "shown": ["{a}", "{b}", "{a}"], "ranks": [0, 1, 2]}, 400, "is named twice"),
    ({"kind": "comparison", "shown": ["{a}", "{a}"], "verdict": "tie"}, 400, "is named twice"),
    ({"kind": "ranking", "shown": ["{a}", "{b}"], "ranks": [0, 2]}, 400, "wanted 0 for the best and no gaps"),
    ({"kind": "ranking", "shown": ["{a}", "{b}"], "ranks": [0]}, 400, "2 answers, but 1 ranks"),
    ({"kind": "ranking", "shown": ["{a}"], "ranks": [0]}, 400, "shown: "),
    ({"kind": "comparison", "shown": ["{a}", "{b}", "{c}"], "verdict": "tie"}, 400, "shown: "),
    ({"kind": "comparison", "shown": ["{a}", "resp-none"], "verdict": "tie"}, 404, "no response 'resp-none'"),
    ({"kind": "rating", "response": "resp-none", "thumb": "up"}, 404, "no answer 'resp-none'"),
    ({"kind": "correction", "response": "{a}", "text": "x", "comment": BIG}, 400, "comment: "),
    ({"kind": "correction", "response": "{a}", "text": BIG}, 400, "text: "),
    ({"kind": "correction", "response": "{a}", "text": ""}, 400, "text: "),
    ({"kind": "correction", "response": BIG, "text": "x"}, 400, "response: "),
    ({"kind": "correction", "response": "\x00", "text": "x"}, 400, "response: "),
    ({"kind": "rating", "response": "{a}"}, 400, "thumb: "),
    ({"kind": "rating", "response": "{a}", "thumb": "up", "verdict": "tie"}, 400, "verdict: "),
    ({"kind": "rating", "response": "{a}", "thumb": "up", "reasons": ["<script>"]}, 400, "reasons.0: "),
    ({"kind": "applause", "response": "{a}"}, 400, "kind: "),
    ({"kind": "rating", "response": "{a}", "thumb": "up", BIG: 1}, 400, "xxx"),
]


def test_what_cannot_be_a_judgement_is_one_line_and_nothing_is_kept(setup: Setup) -> None:
    ids = {"{a}": setup.chat(), "{b}": setup.chat(), "{c}": setup.chat()}
    for said, status, words in BAD:
        text = json.dumps(said)
        for key, value in ids.items():
            text = text.replace(key, value)
        reply = setup.ask("ann", "POST", JUDGE, json.loads(text))
        assert (reply.status_code, words in line(reply)) == (status, True), reply.text[:300]
    assert setup.ask("ann", "POST", RATE, {"response_id": ids["{a}"], "rating": 1, "comment": BIG}).status_code == 400
    assert setup.ask("ada", "GET", JUDGE).json()["data"] == []
    assert setup.ask("ann", "GET", JUDGE, limit=0).status_code == 400
    assert setup.ask("ann", "GET", JUDGE, colour="red").status_code == 400


def test_script_tags_and_odd_letters_are_kept_as_they_were_written(setup: Setup) -> None:
    tag = "<script>alert(1)</script> \u202e \x00 ‮ 🌱"
    said = {"kind": "correction", "response": setup.chat(), "text": tag, "comment": tag}
    kept = setup.ask("ann", "POST", JUDGE, said)
    assert kept.headers["content-type"] == "application/json"
    assert kept.json()["text"] == kept.json()["comment"] == tag.replace("\x00", "\ufffd")


@pytest.mark.parametrize("logging", ["redacted", "off"])
def test_comments_keep_no_more_than_logging_says(home: Home, logging: str) -> None:
    write_text(home.settings_file, f'[store]\nlogging = "{logging}"\n')
    setup = Setup(home)
    with TestClient(setup.app) as setup.client:
        body = {"model": "base", "messages": [{"role": "user", "content": "Hi"}]}
        response = setup.client.post("/v1/chat/completions", json=body).headers["x-brogue-response-id"]
        thumb = {"response_id": response, "rating": 1, "comment": "Write to ann@example.org"}
        assert setup.ask("nobody", "POST", RATE, thumb).json()["stored"]
        (kept,) = setup.ask("nobody", "GET", JUDGE).json()["data"]
        assert kept["comment"] == ("Write to [EMAIL_1]" if logging == "redacted" else "")
        assert setup.ask("nobody", "GET", "/v1/me").json()["logging"] == logging


def test_a_rater_takes_a_turn_blind_ranks_undoes_skips_and_corrects(setup: Setup) -> None:
    setup.engine.says = "Thirty days."
    made = setup.ask("ada", "POST", "/v1/feedback/queues", QUEUE).json()
    assert (made["tasks"], made["open"], made["arms"][1]["temperature"]) == (3, 3, 1.2)
    first = setup.next("rae")
    assert first["progress"] == {"done": 0, "of": 3, "seconds_left": None}
    turn = first["turn"]
    assert (turn["kind"], [one["text"] for one in turn["answers"]]) == ("ranking", [None] * 3)
    early = setup.judge("rae", turn["id"], ranks=[0, 1, 2])
    assert (early.status_code, "is not there yet" in line(early)) == (409, True)
    events = setup.events("rae", turn["id"])
    for position in range(3):
        mine = [event for event in events if event.get("position") == position]
        assert "".join(event.get("delta", "") for event in mine) == "Thirty days."
        assert "response_id" in mine[-1]
    shown = events[-1]["turn"]["answers"]
    assert setup.next("rae")["turn"]["answers"] == shown, "closing the tab loses nothing"
    assert not any(name in json.dumps([turn, events]) for name in ("reed", "base", "1.2", "model", "version"))
    judged = setup.judge("rae", turn["id"], ranks=[0, 1, 1], comment="Both late.", reasons=["too long"], seconds=9)
    assert judged.json()["progress"]["done"] == 1
    assert setup.judge("rae", turn["id"], ranks=[0, 1, 1], comment="Both late.", reasons=["too long"],
                       seconds=9).json()["judgement"] == judged.json()["judgement"]  # fmt: skip
    (kept,) = setup.ask("rae", "GET", JUDGE).json()["data"]
    assert (kept["ranks"], kept["shown"], kept["seconds"]) == ([0, 1, 1], [one["response_id"] for one in shown], 9)
    undone = setup.ask("rae", "POST", f"/v1/feedback/turns/{turn['id']}/undo").json()
    assert (undone["turn"]["id"], undone["progress"]["done"]) == (turn["id"], 0)
    assert setup.ask("rae", "GET", JUDGE).json()["data"] == []
    skipped = setup.ask("rae", "POST", f"/v1/feedback/turns/{turn['id']}/skip", {"reason": "Not English"}).json()
    assert skipped["progress"]["done"] == 1
    assert setup.next("rae")["turn"]["id"] != turn["id"]
    fixed = {"kind": "correction", "response": shown[0]["response_id"], "text": "Within thirty days."}
    assert setup.ask("rae", "POST", JUDGE, fixed).status_code == 200
    seen = setup.ask("rae", "GET", f"/v1/feedback/responses/{shown[0]['response_id']}").json()
    assert (seen["text"], "version" in seen) == ("Thirty days.", False), "raters stay blind"
    thumb = setup.ask("rae", "POST", RATE, {"response_id": shown[0]["response_id"], "rating": 1}).json()
    assert (thumb["version"], thumb["stored"]) == (None, True)


def test_two_answers_are_a_comparison_by_verdict_or_ranks(setup: Setup) -> None:
    setup.ask("ada", "POST", "/v1/feedback/queues", QUEUE | {"arms": ARMS[:2]})
    for said, verdict in (({"verdict": "second"}, "second"), ({"ranks": [0, 0]}, "tie"), ({"ranks": [0, 0],
                          "all_bad": True}, "both-bad")):  # fmt: skip
        turn = setup.answered("rae")
        assert turn["kind"] == "comparison"
        setup.judge("rae", turn["id"], **said)
        assert setup.ask("rae", "GET", JUDGE, limit=1).json()["data"][0]["verdict"] == verdict
    assert setup.next("rae")["turn"] is None


def test_a_turn_is_its_raters_and_what_they_say_has_to_fit(setup: Setup) -> None:
    setup.ask("ada", "POST", "/v1/feedback/queues", QUEUE)
    turn = setup.answered("rae")["id"]
    for what in ("answers", "judgement", "skip", "undo"):
        body = {"ranks": [0, 1, 2]} if what == "judgement" else None
        reply = setup.ask("rob", "POST", f"/v1/feedback/turns/{turn}/{what}", body)
        assert (reply.status_code, "another rater's" in line(reply)) == (403, True)
    for said, words in (
        ({"ranks": [0, 1]}, "3 answers, but 2 ranks"), ({"ranks": [0, 2, 3]}, "no gaps"), ({}, "either ranks or"),
        ({"verdict": "tie"}, "wanted ranks"), ({"ranks": [0, 1, 2], "comment": BIG}, "comment: "),
    ):  # fmt: skip
        reply = setup.judge("rae", turn, **said)
        assert (reply.status_code, words in line(reply)) == (400, True), reply.text[:300]
    assert setup.ask("rae", "GET", JUDGE).json()["data"] == []


def test_a_queue_that_cannot_be_is_one_line(setup: Setup) -> None:
    for body, status, words in (
        (QUEUE | {"arms": ARMS[:1]}, 400, "arms: "), (QUEUE | {"arms": ARMS * 3}, 400, "arms: "),
        (QUEUE | {"prompts": None}, 400, "one of prompts, dataset and traffic"),
        (QUEUE | {"prompts": []}, 400, "prompts: "), (QUEUE | {"name": "../x"}, 400, "name: "),
        (QUEUE | {"prompts": None, "dataset": {"name": "none"}}, 404, "no dataset 'none'"),
        (QUEUE | {"arms": [*ARMS[:2], {"model": "no-such"}]}, 404, "no model 'no-such'"),
    ):  # fmt: skip
        reply = setup.ask("ada", "POST", "/v1/feedback/queues", body)
        assert (reply.status_code, words in line(reply)) == (status, True), reply.text
    assert setup.ask("ada", "GET", "/v1/feedback/queues").json()["data"] == []
    assert setup.ask("ada", "POST", "/v1/feedback/queues", QUEUE).status_code == 200
    assert setup.ask("ada", "POST", "/v1/feedback/queues", QUEUE).status_code == 409
    assert setup.ask("rae", "POST", "/v1/feedback/queues/none/next").status_code == 404
    assert setup.ask("rae", "GET", "/v1/feedback/queues").json()["data"][0]["arms"] is None


def test_the_answers_are_written_once_for_all_raters(setup: Setup) -> None:
    setup.ask("ada", "POST", "/v1/feedback/queues", QUEUE | {"prompts": PROMPTS[:1], "overlap": 1})
    first, second = setup.answered("rae"), setup.answered("rob")
    assert len(setup.engine.bodies) == len(ARMS)
    ids = [{one["response_id"] for one in turn["answers"]} for turn in (first, second)]
    assert ids[0] == ids[1] and None not in ids[0]


def test_two_raters_who_wait_at_the_same_time_see_the_same_answers_grow(home: Home) -> None:
    add_version(home, "reed-voice")
    gateway = FakeGateway(home, FakeEngine(words=6, pause_s=0.02))
    body = {"name": "week", "arms": [{"model": "reed-voice"}, {"model": "base"}], "prompts": PROMPTS[:1], "overlap": 1}

    async def story() -> list[set[tuple[str, str]]]:
        async with gateway.running() as client:
            assert (await client.post("/v1/feedback/queues", json=body)).status_code == 200

            async def look(rater: str) -> set[tuple[str, str]]:
                said = {"rater": rater}
                turn = (await client.post("/v1/feedback/queues/week/next", json=said)).json()["turn"]["id"]
                reply = await client.post(f"/v1/feedback/turns/{turn}/answers", json=said)
                events = [json.loads(line.removeprefix("data: ")) for line in reply.text.split("\n\n")[:-2]]
                assert len([event for event in events if "delta" in event]) == 12, "piece by piece"
                return {(one["response_id"], one["text"]) for one in events[-1]["turn"]["answers"]}

            return list(await asyncio.gather(look("ann"), look("bob")))

    first, second = asyncio.run(story())
    assert first == second and len(first) == 2
    assert len(gateway.engine.bodies) == 2


def test_a_store_that_is_away_is_a_503_that_says_so_and_chat_goes_on(setup: Setup) -> None:
    response = setup.chat()
    setup.ask("ada", "POST", "/v1/feedback/queues", QUEUE)
    engine = create_engine(sqlite_url(setup.home.root / "store.db"))
    with engine.begin() as connection:
        for table in ("judgements", "turns", "users"):
            connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO {table}_away")
    said = {"kind": "correction", "response": response, "text": "So."}
    for who, method, path, body in (
        ("ann", "POST", JUDGE, said), ("ann", "GET", JUDGE, None), ("ann", "GET", "/v1/me", None),
        ("rae", "POST", "/v1/feedback/queues/week/next", None),
    ):  # fmt: skip
        reply = setup.ask(who, method, path, body)
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "store_down"), reply.text
        line(reply)
    assert setup.chat() and setup.ask("key", "GET", "/v1/adapters").status_code == 200
    with engine.begin() as connection:
        for table in ("judgements", "turns", "users"):
            connection.exec_driver_sql(f"ALTER TABLE {table}_away RENAME TO {table}")
    engine.dispose()
    assert setup.ask("ann", "POST", JUDGE, said).status_code == 200


def test_an_arm_that_failed_says_so_and_can_be_asked_again(setup: Setup) -> None:
    setup.ask("ada", "POST", "/v1/feedback/queues", QUEUE)
    setup.engine.mute = {"reed-voice@2"}
    turn = setup.next("rae")["turn"]["id"]
    events = setup.events("rae", turn)
    (failed,) = [event for event in events if "error" in event]
    assert "\n" not in failed["error"]
    there = {one["position"]: one["response_id"] for one in events[-1]["turn"]["answers"]}
    assert [position for position, response in there.items() if response is None] == [failed["position"]]
    setup.engine.mute = set()
    again = setup.events("rae", turn)[-1]["turn"]["answers"]
    assert all(one["response_id"] for one in again)
    assert {one["position"]: one["response_id"] for one in again}.items() >= {
        (position, response) for position, response in there.items() if response
    }


def test_answers_to_a_persons_own_question_are_theirs_and_raters_of_the_turn_may_judge_them(setup: Setup) -> None:
    setup.chat(user="ann")
    queue = {key: value for key, value in QUEUE.items() if key != "prompts"} | {"traffic": {"assistant": "reed"}}
    assert setup.ask("ada", "POST", "/v1/feedback/queues", queue).json()["tasks"] == 1
    turn = setup.answered("rae")
    first = turn["answers"][0]["response_id"]
    said = {"kind": "correction", "response": first, "text": "So."}
    assert setup.ask("rob", "POST", JUDGE, said).status_code == 403
    assert setup.ask("rae", "POST", JUDGE, said).status_code == 200
    store = open_store(setup.home)
    assert {one.subject for one in store.responses()} == {"ann"}
    store.close()


def test_a_topic_goes_from_the_prompt_to_the_answers(setup: Setup) -> None:
    prompts = [PROMPTS[0] | {"topic": "returns"}]
    setup.ask("ada", "POST", "/v1/feedback/queues", QUEUE | {"prompts": prompts})
    setup.answered("rae")
    store: Store = open_store(setup.home)
    assert {one.topic for one in store.responses(Wanted())} == {"returns"}
    store.close()


def test_the_client_does_all_of_it_and_answers_go_on_when_the_rater_has_left(tmp_path: Path) -> None:
    with feedback_gateway(tmp_path, engine=FakeEngine(words=20, pause_s=0.02)) as (url, _home, key):
        admin = FeedbackClient.with_key(url, key)
        admin.add_user("rae", "password of rae", "rater")
        rae = FeedbackClient.with_key(url, admin.sign_in("rae", "password of rae")["token"])
        assert rae.me()["name"] == admin.as_user("rae").me()["name"] == "rae"
        admin.add_queue("week", ARMS, prompts=PROMPTS, repeat=0)
        turn = rae.next_turn("week")["turn"]["id"]
        events = rae.turn_answers(turn)
        assert "delta" in next(events)
        events.close()  # the tab is closed
        deadline = time.monotonic() + 60
        while not all(one["response_id"] for one in rae.next_turn("week")["turn"]["answers"]):
            assert time.monotonic() < deadline, "the answers went on"
            time.sleep(0.05)
        given = rae.judge_turn(turn, ranks=[2, 0, 1], reasons=["helpful"])
        assert given["progress"]["done"] == 1
        assert rae.undo_turn(turn)["turn"]["id"] == turn
        assert rae.skip_turn(turn, "unclear")["progress"]["done"] == 1
        second = rae.next_turn("week")["turn"]["id"]
        shown = list(rae.turn_answers(second))[-1]["turn"]["answers"]
        fixed = rae.judge("correction", response=shown[0]["response_id"], text="So.")
        thumb = rae.thumb(shown[1]["response_id"], 1, ["helpful"], "Good.")
        assert {one["id"] for one in rae.judgements(since="2026-01-01T00:00:00Z")} == {fixed["id"], thumb["judgement"]}
        assert rae.take_back(fixed["id"])["taken_back"]
        assert rae.response(shown[0]["response_id"])["text"]
        assert admin.queue("week")["by_rater"] == {} and [one["name"] for one in rae.queues()] == ["week"]
        admin.change_user("rae", role="user")
        with pytest.raises(GatewayError, match="this needs the role 'rater'; 'rae' has 'user'") as refused:
            rae.next_turn("week")
        assert refused.value.status == 403
        admin.remove_queue("week")
        assert [one["name"] for one in admin.users()] == ["rae"]
        rae.sign_out()
        admin.remove_user("rae")


SERVER = """
import sys
import uvicorn
from data.home import Home
from tests.fakes import FakeGateway
home = Home.from_environment()
uvicorn.run(FakeGateway(home).app, port=int(sys.argv[1]), log_level="critical")
"""
CLIENTS, EACH, KILLS = 5, 30, 3


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_when_the_gateway_is_killed_again_and_again(home: Home) -> None:
    store = open_store(home)
    for number in range(3):
        store.add_response(Response(id=f"r{number}", version="voice@1", text="So."))
    port, all_sent = free_port(), threading.Event()
    acknowledged: dict[str, dict[str, Any]] = {}

    def start() -> "subprocess.Popen[bytes]":
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.Popen([sys.executable, "-c", SERVER, str(port)], env=env, cwd=ROOT)

    def submit(client: int) -> None:
        """Each judgement is sent until it is acknowledged, under the same id."""
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as http:
            for number in range(EACH):
                said = {"kind": "ranking", "id": f"j-{client}-{number}", "rater": f"rater-{client}",
                        "shown": ["r0", "r1", "r2"], "ranks": [number % 2, 1 - number % 2, 1],
                        "comment": f"{client}: {number}"}  # fmt: skip
                while str(said["id"]) not in acknowledged:
                    with suppress(httpx.HTTPError):
                        reply = http.post(JUDGE, json=said)
                        assert reply.status_code == 200, reply.text
                        acknowledged[str(said["id"])] = said
                    time.sleep(0.02)

    running = [start()]

    def kill_again_and_again() -> None:
        for kill in range(KILLS):
            while len(acknowledged) < (kill + 1) * CLIENTS * EACH // (KILLS + 1) and not all_sent.is_set():
                time.sleep(0.005)
            os.kill(running[0].pid, signal.SIGKILL)
            running[0].wait()
            running[0] = start()

    killer = threading.Thread(target=kill_again_and_again)
    killer.start()
    try:
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(submit, range(CLIENTS)))
    finally:
        all_sent.set()
        killer.join(60)
        running[0].terminate()
        running[0].wait(20)
    there = {one.judgement.id: one.judgement for one in store.judgements()}
    store.close()
    assert len(there) == len(acknowledged) == CLIENTS * EACH
    for name, said in acknowledged.items():
        assert there[name].model_dump(mode="json").items() >= said.items()


def test_a_number_is_no_time_to_filter_by(setup: Setup) -> None:
    refused = setup.ask("key", "GET", "/v1/feedback/judgements?since=0")
    assert refused.status_code == 400
    assert "wanted a time such as 2026-11-29T12:00:00Z" in refused.json()["error"]["message"]
    assert setup.ask("key", "GET", "/v1/feedback/judgements?since=2026-01-01T00:00:00Z").status_code == 200
