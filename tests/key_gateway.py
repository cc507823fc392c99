"""A gateway over the fake engine with keys, and a client that asks it with one of them."""

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from sqlalchemy import update
from starlette.testclient import TestClient

from data.home import Home
from data.judgements import now
from data.keys import KeyRules, NewKey
from data.store_keys import Keys
from data.store_schema import KeyRow
from data.users import Role
from tests.fakes import ADMIN_KEY, FakeGateway, add_assistant, add_version

CHAT = "/v1/chat/completions"


class KeyGateway(FakeGateway):
    """The assistants reed and fern, the base model, and whatever keys a test makes."""

    client: TestClient

    @property
    def keys(self) -> Keys:
        return Keys(self.recorder.store())

    def key(self, name: str, role: Role = "user", **rules: Any) -> str:
        """A new key's secret."""
        return self.keys.create(NewKey(name=name, role=role, rules=KeyRules(**rules)))[1]

    def expire(self, name: str) -> None:
        """Let a key have ended a second ago."""
        with self.recorder.store().writing() as session:
            session.execute(update(KeyRow).where(KeyRow.name == name).values(expires=now() - timedelta(seconds=1)))

    def ask(self, key: str | None, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """A request with a key, or without; "admin": the admin key."""
        secret = ADMIN_KEY if key == "admin" else key
        bearer = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        return self.client.request(method, path, json=body, headers=bearer | headers)

    def chat(self, key: str | None, model: str = "base", **more: Any) -> Any:
        body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], **more}
        return self.ask(key, "POST", CHAT, body)


@contextmanager
def key_gateway(home: Home, **options: Any) -> Iterator[KeyGateway]:
    """It, running."""
    for adapter in ("reed-voice", "fern-voice"):
        add_version(home, adapter)
        add_assistant(home, adapter.removesuffix("-voice"), f"adapter: {adapter}\nsystem_prompt: Be {adapter}.")
    gateway = KeyGateway(home, max_wait_s=0.5, **options)
    with TestClient(gateway.app, raise_server_exceptions=False) as gateway.client:
        yield gateway


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that runs in an event loop of its own."""

    @functools.wraps(test)
    def run(*args: Any, **options: Any) -> None:
        asyncio.run(test(*args, **options))

    return run


def chat_scope(key: str) -> dict[str, Any]:
    """The ASGI scope of a chat completion, for tests that are their own server."""
    headers = [(b"authorization", f"Bearer {key}".encode()), (b"content-type", b"application/json")]
    return {"type": "http", "method": "POST", "path": CHAT, "raw_path": CHAT.encode(), "query_string": b"",
            "headers": headers, "http_version": "1.1", "scheme": "http", "server": ("gateway", 80),
            "client": ("127.0.0.1", 1), "root_path": "", "asgi": {"version": "3.0", "spec_version": "2.3"}}  # fmt: skip


def error_of(reply: Any) -> tuple[int, str, str]:
    """(status, code, the one line) of a refusal."""
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and "\n" not in error["message"]
    return reply.status_code, error["code"], error["message"]
