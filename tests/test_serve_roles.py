"""Who may do what: every route of the gateway against every kind of caller, all cells; and names that try to climb."""

from collections.abc import Iterator
from typing import Any

import pytest

from assistant.knowledge import Knowledge
from data.home import Home
from data.settings_knowledge import KnowledgeSettings
from data.store_users import Users
from data.users import Role
from tests.fakes import ADMIN_KEY
from tests.key_gateway import KeyGateway, error_of, key_gateway
from tests.knowledge_fakes import WordEmbedder

ROLES: tuple[Role, ...] = ("user", "rater", "admin")
# The least that a route wants: nothing, any credential, or a role.
TABLE: dict[tuple[str, str], str] = {
    ("GET", "/health"): "nothing",
    ("GET", "/ready"): "nothing",
    ("GET", "/metrics"): "admin",
    ("GET", "/metrics/engine"): "admin",
    ("GET", "/openapi.json"): "user",
    ("GET", "/v1/models"): "user",
    ("GET", "/v1/models/{name:path}"): "user",
    ("POST", "/v1/chat/completions"): "user",
    ("POST", "/v1/completions"): "user",
    ("POST", "/v1/responses"): "user",
    ("GET", "/v1/responses/{id}"): "user",
    ("GET", "/v1/responses/{id}/input_items"): "user",
    ("DELETE", "/v1/responses/{id}"): "user",
    ("POST", "/v1/embeddings"): "user",
    ("POST", "/v1/files"): "user",
    ("GET", "/v1/files"): "user",
    ("GET", "/v1/files/{id}"): "user",
    ("GET", "/v1/files/{id}/content"): "user",
    ("DELETE", "/v1/files/{id}"): "user",
    ("POST", "/v1/fine_tuning/jobs"): "user",
    ("GET", "/v1/fine_tuning/jobs"): "user",
    ("GET", "/v1/fine_tuning/jobs/{id}"): "user",
    ("POST", "/v1/fine_tuning/jobs/{id}/cancel"): "user",
    ("POST", "/v1/fine_tuning/jobs/{id}/pause"): "user",
    ("POST", "/v1/fine_tuning/jobs/{id}/resume"): "user",
    ("GET", "/v1/fine_tuning/jobs/{id}/events"): "user",
    ("GET", "/v1/fine_tuning/jobs/{id}/checkpoints"): "user",
    ("GET", "/v1/me"): "nothing",
    ("POST", "/v1/sign-in"): "nothing",
    ("POST", "/v1/sign-out"): "nothing",
    ("GET", "/v1/users"): "admin",
    ("POST", "/v1/users"): "admin",
    ("PATCH", "/v1/users/{name}"): "admin",
    ("DELETE", "/v1/users/{name}"): "admin",
    ("GET", "/v1/keys"): "admin",
    ("POST", "/v1/keys"): "admin",
    ("POST", "/v1/keys/{name}/revoke"): "admin",
    ("GET", "/v1/adapters"): "admin",
    ("GET", "/v1/adapters/{name}"): "admin",
    ("PUT", "/v1/adapters/{name}/aliases/{alias}"): "admin",
    ("DELETE", "/v1/adapters/{name}/aliases/{alias}"): "admin",
    ("POST", "/v1/adapters/{name}/rollback"): "admin",
    ("DELETE", "/v1/adapters/{name}/versions/{version}"): "admin",
    ("GET", "/v1/adapters/{name}/loop"): "admin",
    ("POST", "/v1/adapters/{name}/retrain"): "admin",
    ("POST", "/v1/rollouts"): "admin",
    ("GET", "/v1/knowledge"): "admin",
    ("GET", "/v1/knowledge/{name}"): "admin",
    ("POST", "/v1/knowledge/{name}/search"): "admin",
    ("GET", "/v1/runs"): "admin",
    ("GET", "/v1/runs/{id}"): "admin",
    ("GET", "/v1/runs/{id}/curves.png"): "admin",
    ("GET", "/v1/exams"): "admin",
    ("GET", "/v1/exams/{id}"): "admin",
    ("GET", "/v1/exams/{id}/report.html"): "admin",
    ("POST", "/v1/feedback/ratings"): "user",
    ("POST", "/v1/feedback/judgements"): "user",
    ("GET", "/v1/feedback/judgements"): "user",
    ("DELETE", "/v1/feedback/judgements/{judgement_id}"): "user",
    ("GET", "/v1/feedback/responses/{response_id}"): "user",
    ("GET", "/v1/feedback/queues"): "rater",
    ("POST", "/v1/feedback/queues"): "admin",
    ("GET", "/v1/feedback/queues/{name}"): "rater",
    ("DELETE", "/v1/feedback/queues/{name}"): "admin",
    ("POST", "/v1/feedback/queues/{name}/next"): "rater",
    ("POST", "/v1/feedback/turns/{turn_id}/answers"): "rater",
    ("POST", "/v1/feedback/turns/{turn_id}/judgement"): "rater",
    ("POST", "/v1/feedback/turns/{turn_id}/skip"): "rater",
    ("POST", "/v1/feedback/turns/{turn_id}/undo"): "rater",
}
# What no credential is: 401 everywhere but where nothing is wanted. /v1/me and signing out look at what they are given.
NOBODIES = ("nobody", "stranger", "revoked key", "expired key")
LOOKED_AT = {("GET", "/v1/me"), ("POST", "/v1/sign-out")}


class Setup(KeyGateway):
    secrets: dict[str, str | None]


@pytest.fixture
def setup(home: Home) -> Iterator[Setup]:
    """A gateway with all routes, and somebody of every kind."""
    with key_gateway(home, knowledge=Knowledge(home, KnowledgeSettings(), WordEmbedder())) as setup:
        assert isinstance(setup, KeyGateway)
        users = Users(setup.recorder.store(), rounds=4)
        secrets: dict[str, str | None] = {"nobody": None, "stranger": "brg-none", "the admin key": ADMIN_KEY}
        for role in ROLES:
            users.create(f"{role}-person", role, "correct horse")
            secrets[f"{role} session"] = users.sign_in(f"{role}-person", "correct horse")[1]
            secrets[f"{role} key"] = setup.key(f"{role}-key", role)
        secrets["revoked key"] = setup.key("revoked", "admin")
        setup.keys.revoke("revoked")
        secrets["expired key"] = setup.key("expired", "admin")
        setup.expire("expired")
        setup.secrets = secrets  # type: ignore[attr-defined]
        yield setup  # type: ignore[misc]


def wanted_of(who: str, least: str, at: tuple[str, str]) -> set[int] | None:
    """The statuses that a cell may have; none: whatever says that they were let in."""
    if least == "nothing":
        return {401} if at in LOOKED_AT and who in NOBODIES[1:] else None
    if who in NOBODIES:
        return {401}
    role = "admin" if who == "the admin key" else who.partition(" ")[0]
    return None if ROLES.index(role) >= ROLES.index(least) else {403}  # type: ignore[arg-type]


def test_every_route_lets_in_whom_the_table_says_and_nobody_else(setup: Setup) -> None:
    wrong = {}
    for (method, path), least in TABLE.items():
        url = path.replace("{version}", "9").replace("{name:path}", "none")
        for name in ("name", "alias", "id", "judgement_id", "response_id", "turn_id"):
            url = url.replace(f"{{{name}}}", "none")
        for who, secret in setup.secrets.items():
            if path == "/v1/sign-out" and who.endswith("session"):
                continue  # it would be no session any more
            reply = setup.ask(secret, method, url, None if method == "GET" else {})
            wanted = wanted_of(who, least, (method, path))
            fits = reply.status_code not in (401, 403, 500) if wanted is None else reply.status_code in wanted
            if not fits:
                wrong[f"{who}: {method} {url}"] = f"{reply.status_code}, wanted {wanted}: {reply.text[:200]}"
    assert wrong == {}


def test_the_table_has_every_route_that_there_is(setup: Setup) -> None:
    there = {(method, route.path) for route in setup.app.routes for method in route.methods or ()}  # type: ignore[attr-defined]
    assert there - TABLE.keys() == set(), "add these to TABLE, each with the least that it wants of who asks"
    assert TABLE.keys() - there == set(), "these are gone: take them out of TABLE"


def test_what_is_no_route_wants_a_credential_as_well(setup: Setup) -> None:
    for path in ("/", "/docs", "/v1", "/v1/none", "/v1/models/", "//v1/models", "/v1/../metrics", "/HEALTH"):
        assert setup.ask(None, "GET", path).status_code == 401, path
        assert setup.ask(None, "OPTIONS", path).status_code == 401, path


CLIMBING = ("..%2f..%2fetc%2fpasswd", "%2e%2e%2f%2e%2e%2fadmin.key", "..%5c..%5cadmin.key", "..", "%2fetc%2fpasswd",
            "reed%00", "a%2f..%2f..%2fadmin.key", "~root", "%c0%ae%c0%ae")  # fmt: skip
NAMED = ("/v1/adapters/{}", "/v1/adapters/{}/loop", "/v1/runs/{}", "/v1/runs/{}/curves.png", "/v1/exams/{}",
         "/v1/exams/{}/report.html", "/v1/knowledge/{}", "/v1/models/{}", "/v1/feedback/queues/{}",
         "/v1/feedback/responses/{}", "/v1/responses/{}", "/v1/files/{}", "/v1/files/{}/content",
         "/v1/fine_tuning/jobs/{}", "/v1/fine_tuning/jobs/{}/events",
         "/v1/fine_tuning/jobs/{}/checkpoints")  # fmt: skip


def test_names_do_not_climb_out_of_their_folders(setup: Setup) -> None:
    secret = setup.home.root / "admin.key"
    secret.write_text("what nobody may read\n")
    for name in CLIMBING:
        for path in NAMED:
            reply = setup.ask("admin", "GET", path.format(name))
            assert reply.status_code in (400, 404, 405, 409), f"{path.format(name)}: {reply.status_code}"
            told(reply, setup.home)
        plain: Any = {"%2f": "/", "%2e": ".", "%5c": "\\", "%00": "\0"}
        climbing = name
        for code, letter in plain.items():
            climbing = climbing.replace(code, letter)
        told(setup.chat("admin", climbing), setup.home)
        told(setup.ask("admin", "POST", "/v1/feedback/queues",
                       {"name": climbing, "dataset": climbing, "arms": [{"model": "reed"}, {"model": "fern"}]}),
             setup.home)  # fmt: skip
        told(setup.ask("admin", "POST", "/v1/keys", {"name": climbing}), setup.home)


def told(reply: Any, home: Home) -> None:
    """A refusal that tells nothing of this machine."""
    assert 400 <= reply.status_code < 500, reply.text
    for word in ("what nobody may read", "root:", "Traceback", str(home.root), "site-packages"):
        assert word not in reply.text, reply.text


def test_another_keys_answers_are_not_read(setup: Setup) -> None:
    mine, other = setup.key("mine"), setup.key("other")
    response = setup.chat(mine).headers["x-brogue-response-id"]
    path = f"/v1/feedback/responses/{response}"
    assert setup.ask(mine, "GET", path).status_code == 200
    assert setup.ask("admin", "GET", path).status_code == 200
    for secret in (other, setup.secrets["user session"], setup.secrets["rater key"]):
        assert setup.ask(secret, "GET", path).status_code in (403, 404)
        rated = setup.ask(secret, "POST", "/v1/feedback/ratings", {"response_id": response, "rating": 1})
        assert rated.status_code in (403, 404)


def test_another_keys_responses_files_and_jobs_are_not_there(setup: Setup) -> None:
    mine, other = setup.key("mine"), setup.key("other")
    response = setup.ask(mine, "POST", "/v1/responses", {"model": "base", "input": "Hi"}).json()["id"]
    lines = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n' * 20
    upload = {"file": ("rows.jsonl", lines)}
    bearer = {"Authorization": f"Bearer {mine}"}
    made = setup.client.post("/v1/files", files=upload, data={"purpose": "fine-tune"}, headers=bearer)
    assert made.status_code == 200, made.text
    file = made.json()["id"]
    job = setup.ask(mine, "POST", "/v1/fine_tuning/jobs", {"model": "base", "training_file": file}).json()["id"]
    paths = (f"/v1/responses/{response}", f"/v1/files/{file}", f"/v1/files/{file}/content",
             f"/v1/fine_tuning/jobs/{job}", f"/v1/fine_tuning/jobs/{job}/events")  # fmt: skip
    for path in paths:
        assert setup.ask(mine, "GET", path).status_code == 200, path
        for secret in (other, setup.secrets["rater session"]):
            assert setup.ask(secret, "GET", path).status_code == 404, path
    for what in ("cancel", "pause", "resume"):
        assert setup.ask(other, "POST", f"/v1/fine_tuning/jobs/{job}/{what}").status_code == 404
    for path in (f"/v1/files/{file}", f"/v1/responses/{response}"):
        assert setup.ask(other, "DELETE", path).status_code == 404
    stolen = {"model": "base", "training_file": file}
    assert 400 <= setup.ask(other, "POST", "/v1/fine_tuning/jobs", stolen).status_code < 500
    goes_on = {"model": "base", "input": "And?", "previous_response_id": response}
    assert setup.ask(mine, "POST", "/v1/responses", goes_on).status_code == 200
    assert 400 <= setup.ask(other, "POST", "/v1/responses", goes_on).status_code < 500
    for path in ("/v1/files", "/v1/fine_tuning/jobs"):
        assert setup.ask(other, "GET", path).json()["data"] == []


def test_a_key_acts_for_others_only_if_it_is_an_admins(setup: Setup) -> None:
    for who, role in (("admin key", "rater"), ("the admin key", "rater")):
        me = setup.ask(setup.secrets[who], "GET", "/v1/me", **{"x-brogue-user": "rater-person"}).json()
        assert (me["name"], me["role"]) == ("rater-person", role)
    reply = setup.ask(setup.secrets["user key"], "GET", "/v1/me", **{"x-brogue-user": "admin-person"})
    assert error_of(reply)[:2] == (403, "role")
