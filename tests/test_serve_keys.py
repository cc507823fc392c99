"""API keys over HTTP: from the open system to the closed one, what a key may name, and its end."""

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from data.errors import BrogueError
from data.home import Home
from data.keys import lifetime
from data.settings import GatewaySettings
from data.store_home import open_store
from data.store_keys import Keys
from serve.identity import Access
from tests.key_gateway import CHAT, KeyGateway, error_of, key_gateway


@pytest.fixture
def setup(home: Home) -> Iterator[KeyGateway]:
    with key_gateway(home) as setup:
        yield setup


def test_without_keys_and_users_anybody_may_ask_and_with_the_first_key_nobody_without_one(setup: KeyGateway) -> None:
    assert setup.chat(None).status_code == setup.chat("any").status_code == 200
    secret = setup.key("shop")
    for wrong in (None, "any", "brg-any", secret[:-1], f"{secret}x"):
        assert error_of(setup.chat(wrong))[:2] == (401, "invalid_api_key")
    assert setup.chat(secret).status_code == 200
    assert setup.ask(None, "GET", "/health").json() == {"status": "ok"}
    assert setup.ask(None, "GET", "/ready").json() == {"status": "ready"}, "no more for who has no key"
    assert "slots" in setup.ask(secret, "GET", "/ready").json()


def test_taking_the_last_key_back_opens_nothing(setup: KeyGateway) -> None:
    secret = setup.key("shop")
    setup.keys.revoke("shop")
    assert {setup.chat(key).status_code for key in (None, "any", secret)} == {401}


def test_a_gateway_that_others_reach_is_never_open(home: Home) -> None:
    for settings in (GatewaySettings(port=8000, host="0.0.0.0"), GatewaySettings(port=8000, behind_proxy=True)):
        with key_gateway(home, settings=settings) as setup:
            assert setup.chat(None).status_code == setup.ask(None, "GET", "/v1/models").status_code == 401
            assert setup.ask(None, "GET", "/v1/me").json()["role"] is None
            assert setup.chat("admin").status_code == 200


def test_an_admin_makes_lists_and_revokes_keys(setup: KeyGateway) -> None:
    wanted = {"name": "shop", "role": "rater", "rules": {"assistants": ["reed"], "rpm": 60}}
    made = setup.ask("admin", "POST", "/v1/keys", wanted).json()
    assert made["key"].startswith("brg-") and len(made["key"]) > 40 and made["state"] == "active"
    assert setup.ask(made["key"], "GET", "/v1/me").json() | {"logging": 0, "reasons": 0} == {
        "name": "key:shop", "role": "rater", "sign_in": False, "logging": 0, "reasons": 0,
    }  # fmt: skip
    listed = setup.ask("admin", "GET", "/v1/keys")
    assert made["key"] not in listed.text and [key["name"] for key in listed.json()["data"]] == ["shop"]
    assert error_of(setup.ask("admin", "POST", "/v1/keys", wanted))[:2] == (409, "conflict")
    assert setup.ask("admin", "POST", "/v1/keys/shop/revoke").json()["state"] == "revoked"
    assert setup.ask("admin", "POST", "/v1/keys/shop/revoke").status_code == 200
    assert error_of(setup.ask(made["key"], "GET", "/v1/models"))[0] == 401
    assert error_of(setup.ask("admin", "POST", "/v1/keys", wanted))[:2] == (409, "conflict"), "its name is not free"
    assert error_of(setup.ask("admin", "POST", "/v1/keys/none/revoke"))[:2] == (404, "not_found")


@pytest.mark.parametrize(
    ("wanted", "line"),
    [
        ({"name": "Shop"}, "name"),
        ({"name": "shop", "role": "king"}, "role"),
        ({"name": "shop", "rules": {"rpm": 0}}, "rpm"),
        ({"name": "shop", "rules": {"limit": 3}}, "limit"),
        ({"name": "shop", "role": "admin", "rules": {"assistants": ["reed"]}}, "a key of an admin may use every"),
        ({"name": "shop", "expires": "2020-01-01T00:00:00Z"}, "would have ended already"),
    ],
)
def test_a_key_that_cannot_be_gets_one_line(setup: KeyGateway, wanted: dict[str, object], line: str) -> None:
    reply = setup.ask("admin", "POST", "/v1/keys", wanted)
    assert reply.status_code == 400 and line in reply.text, reply.text
    assert setup.keys.all() == []


def test_a_key_for_some_assistants_sees_and_asks_only_these(setup: KeyGateway) -> None:
    secret = setup.key("reeds", assistants=("reed",))
    assert [m["id"] for m in setup.ask(secret, "GET", "/v1/models").json()["data"]] == ["reed"]
    assert setup.ask(secret, "GET", "/v1/models/reed").status_code == 200
    assert error_of(setup.ask(secret, "GET", "/v1/models/fern"))[:2] == (404, "model_not_found")
    assert setup.chat(secret, "reed").status_code == 200
    for other in ("fern", "base", "reed-voice@1", "no-such-model"):
        assert error_of(setup.chat(secret, other)) == (
            403, "model_not_allowed", f"the key 'reeds' may not use '{other}'; it is for: reed"
        )  # fmt: skip
    assert (
        setup.ask(secret, "POST", CHAT, {"model": "fern", "messages": [{}]}, **{"x-brogue-exam": "base"}).status_code
        == 403
    )


def test_a_key_ends_when_it_was_to_end(setup: KeyGateway) -> None:
    secret = setup.key("short")
    assert setup.chat(secret).status_code == 200
    setup.expire("short")
    assert error_of(setup.chat(secret))[:2] == (401, "invalid_api_key")
    assert setup.keys.all()[0].state_at(setup.keys.all()[0].expires) == "expired"  # type: ignore[arg-type]


def test_what_another_process_changes_counts_within_a_second(home: Home) -> None:
    with key_gateway(home, fresh_s=0.5) as setup:
        secret = setup.key("shop")
        time.sleep(0.6)
        assert setup.chat(secret).status_code == 200
        elsewhere = open_store(home)
        Keys(elsewhere).revoke("shop")
        elsewhere.close()
        deadline = time.monotonic() + 10
        revoked = time.monotonic()
        while setup.chat(secret).status_code == 200:
            assert time.monotonic() < deadline
        print(f"refused {time.monotonic() - revoked:.2f} s after it was revoked elsewhere")
        made = setup.ask("admin", "POST", "/v1/keys", {"name": "next"}).json()["key"]
        assert setup.chat(made).status_code == 200, "what this process changes counts with the next request"
        setup.ask("admin", "POST", "/v1/keys/next/revoke")
        assert setup.chat(made).status_code == 401


def test_nothing_is_kept_that_a_key_could_be_made_of(setup: KeyGateway, home: Home) -> None:
    secret = setup.key("shop")
    with setup.recorder.store().reading() as session:
        (row,) = session.execute(text("SELECT * FROM keys")).mappings().all()
    assert row["digest"] == hashlib.sha256(secret.encode()).hexdigest()
    setup.ask("admin", "POST", "/v1/keys", {"name": "other"})
    for path in home.root.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path


def test_the_admin_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch, setup: KeyGateway) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr("serve.identity.secrets.compare_digest", compare)
    assert setup.ask("admin", "GET", "/v1/keys").status_code == 200
    assert setup.ask("the admin kez", "GET", "/v1/keys").status_code == 401
    assert len(compared) >= 2
    source = Path(Access._is_admin_key.__code__.co_filename).read_text()
    assert source.count("self._key") == 2, "it is kept and compared, nowhere else looked at"


def test_what_admins_do_is_in_the_audit_log_without_secrets(setup: KeyGateway, home: Home) -> None:
    made = setup.ask("admin", "POST", "/v1/keys", {"name": "boss", "role": "admin"}, **{"x-request-id": "mine-1"})
    secret = made.json()["key"]
    setup.ask(secret, "POST", "/v1/users", {"name": "ann", "password": "correct horse", "role": "user"})
    setup.ask(secret, "DELETE", "/v1/users/eve")
    setup.ask(secret, "GET", "/v1/users")
    setup.chat(secret)
    path = home.logs / "audit.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(one["who"], one["what"], one["result"]) for one in lines] == [
        ("admin", "POST /v1/keys", 200),
        ("key:boss", "POST /v1/users", 200),
        ("key:boss", "DELETE /v1/users/eve", 404),
    ]
    assert (lines[0]["request"], lines[0]["key"], lines[0]["role"]) == ("mine-1", "boss", "admin")
    assert all(one["when"] and one["address"] for one in lines)
    assert "correct horse" not in path.read_text() and secret not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("given", ["90d", "12h", "8w"])
def test_a_lifetime_is_hours_days_or_weeks(given: str) -> None:
    assert lifetime(given).total_seconds() in (90 * 86400, 12 * 3600, 56 * 86400)
    for wrong in ("soon", "0d", "-1d", "90", "1y", "99999999d"):
        with pytest.raises(BrogueError, match="--expires wants hours, days or weeks"):
            lifetime(wrong)
