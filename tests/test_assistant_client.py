"""The gateway's clients: what they send, and that an error is the gateway's own words."""

from collections.abc import Iterator
from typing import Any

import pytest

from assistant.client import Admin, Client, GatewayError, Source
from tests.conftest import free_port
from tests.scripted_gateway import ADMIN_KEY, ScriptedGateway, served

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[ScriptedGateway, str]]:
    gateway = ScriptedGateway()
    with served(gateway.build_app()) as url:
        yield gateway, url


@pytest.fixture
def gateway(running: tuple[ScriptedGateway, str]) -> ScriptedGateway:
    running[0].reset()
    return running[0]


@pytest.fixture
def admin(gateway: ScriptedGateway, running: tuple[ScriptedGateway, str]) -> Admin:
    assert gateway.adapters, "it was reset"
    return Admin(running[1], ADMIN_KEY)


def test_who_writes_is_told_before_the_first_piece(admin: Admin) -> None:
    told: list[Source] = []
    pieces = admin.stream_chat("reed", HELLO, told.append)
    assert (next(pieces), told) == ("reed ", [Source("reed-voice@2", "resp-1")])
    assert "".join(pieces) == "says: hello "


def test_options_reach_the_gateway_and_the_listener_does_not(admin: Admin, gateway: ScriptedGateway) -> None:
    list(admin.stream_chat("reed", HELLO, max_tokens=9))
    assert gateway.bodies == [{"model": "reed", "messages": HELLO, "stream": True, "max_tokens": 9}]


def test_a_rating_names_the_version_that_was_rated(admin: Admin, gateway: ScriptedGateway) -> None:
    assert admin.rate("resp-1", -1) == "reed-voice@2"
    assert gateway.ratings == [{"response_id": "resp-1", "rating": -1}]


def test_adapters_are_listed_and_looked_up(admin: Admin) -> None:
    assert [one["id"] for one in admin.adapters()] == ["reed-voice"]
    assert admin.adapter("reed-voice")["aliases"] == {"stable": 2, "canary": 3}


@pytest.mark.parametrize(
    ("method", "values", "request_"),
    [
        (
            "set_alias",
            ("reed-voice", "stable", 3, "ann", "better"),
            ("PUT", "reed-voice/aliases/stable", {"version": 3, "who": "ann", "why": "better"}),
        ),
        (
            "set_alias",
            ("reed-voice", "canary", 3, "ann", "", 10, True),
            ("PUT", "reed-voice/aliases/canary", {"version": 3, "who": "ann", "why": "", "shadow": True, "share": 10}),
        ),
        (
            "remove_alias",
            ("reed-voice", "canary", "ann", "too slow"),
            ("DELETE", "reed-voice/aliases/canary?who=ann&why=too+slow", None),
        ),
        ("rollback", ("reed-voice", "ann", ""), ("POST", "reed-voice/rollback", {"who": "ann", "why": ""})),
        ("retire", ("reed-voice", 1), ("DELETE", "reed-voice/versions/1", None)),
    ],
)
def test_what_an_admin_does_is_sent_as_documented(
    admin: Admin, gateway: ScriptedGateway, method: str, values: tuple[Any, ...], request_: tuple[str, str, Any]
) -> None:
    getattr(admin, method)(*values)
    assert gateway.admin_requests == [request_]


def test_a_refusal_is_the_gateways_own_message(admin: Admin) -> None:
    with pytest.raises(GatewayError, match=r"^reed-voice@4: rank 64$"):
        admin.set_alias("reed-voice", "stable", 4, "ann", "")
    with pytest.raises(GatewayError, match="no adapter 'nobody'; have: reed-voice"):
        admin.adapter("nobody")
    with pytest.raises(GatewayError, match="wanted the admin key"):
        Admin(admin.url, "wrong").adapters()


def test_a_gateway_that_is_not_there_is_said_with_what_to_type() -> None:
    with pytest.raises(GatewayError, match="cannot reach the gateway at .*; start it: brogue up"):
        Client(f"http://127.0.0.1:{free_port()}").models()
