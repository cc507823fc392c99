"""`brogue keys`, and what `brogue up` wants before other machines may reach it."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from assistant.exposure import require_guarded
from assistant.local_gateway import local_client
from assistant.services import Child, Services
from data.errors import BrogueError
from data.home import Home, write_text
from data.secrets import ENVIRONMENT, admin_key, digest
from data.settings import Settings, load_settings
from data.store import Store
from data.store_keys import Keys
from data.store_users import Users
from tests.conftest import Run, free_port
from tests.fakes import ADMIN_KEY, FakeGateway, add_assistant, add_version
from tests.scripted_gateway import served


def test_keys_are_made_listed_and_revoked(brogue: Run, home: Home) -> None:
    none = brogue("keys", "list")
    assert (none.stdout, none.returncode) == ("", 0) and "brogue keys create NAME" in none.stderr
    add_assistant(home, "reed", "description: x")
    words = ("--role", "rater", "--assistant", "reed", "--rpm", "60", "--tpd", "100000", "--concurrency", "2")
    made = brogue("keys", "create", "shop", *words, "--expires", "90d")
    secret = made.stdout.strip()
    assert made.returncode == 0 and secret.startswith("brg-") and "\n" not in secret
    assert "shown this once" in made.stderr and "it is the first key" in made.stderr
    other = json.loads(brogue("keys", "create", "boss", "--role", "admin", "--json").stdout)
    assert other["key"].startswith("brg-") and other["role"] == "admin" and other["expires"] is None
    listed = brogue("keys", "list")
    assert secret not in listed.stdout + listed.stderr and other["key"] not in listed.stdout
    row = next(line for line in listed.stdout.splitlines() if line.startswith("shop"))
    assert f"brg-…{secret[-4:]}" in row and "reed" in row and "60 rpm, 100,000 tpd, 2 at once" in row
    found = {key["name"]: key for key in json.loads(brogue("keys", "list", "--json").stdout)}
    assert (found["shop"]["state"], found["shop"]["today"]) == ("active", {"requests": 0, "tokens": 0})
    assert brogue("keys", "revoke", "shop").stdout == "the key 'shop' is revoked; its name is not used again\n"
    assert json.loads(brogue("keys", "revoke", "shop", "--json").stdout)["revoked"]
    again = brogue("keys", "create", "shop")
    assert again.returncode == 1 and "there is or was a key 'shop'" in again.stderr
    store = Store.open(home)
    assert Keys(store).by_digest()[digest(secret)].state_at(Keys(store).all()[0].created) == "revoked"
    store.close()
    log = (home.logs / "audit.jsonl").read_text()
    assert [json.loads(line)["what"] for line in log.splitlines()] == [
        "keys create", "keys create", "keys revoke", "keys revoke",
    ]  # fmt: skip
    assert secret not in log


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("create", "Shop Site"), "'Shop Site'"),
        (("create", "shop", "--role", "king"), "king"),
        (("create", "shop", "--assistant", "none"), "no assistant 'none'; have: none yet"),
        (("create", "shop", "--expires", "soon"), "--expires wants hours, days or weeks, such as 12h, 90d or 8w"),
        (("revoke", "none"), "no key 'none'; have: none yet. Make one: brogue keys create NAME"),
        (("revoke", "../admin.key"), "no key '../admin.key'"),
    ],
)
def test_a_mistake_gets_one_line(brogue: Run, words: tuple[str, ...], line: str) -> None:
    done = brogue("keys", *words)
    assert done.returncode in (1, 2) and line in done.stderr, done.stderr
    if done.returncode == 1:
        assert done.stderr.count("\n") == 1


def test_an_admin_may_use_every_assistant(brogue: Run, home: Home) -> None:
    add_assistant(home, "reed", "description: x")
    done = brogue("keys", "create", "boss", "--role", "admin", "--assistant", "reed")
    assert done.returncode == 1 and "may use every assistant" in done.stderr and done.stderr.count("\n") == 1


def test_up_on_another_address_refuses_with_one_line_without_keys(brogue: Run) -> None:
    done = brogue("up", "--host", "0.0.0.0")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "brogue: the gateway at 0.0.0.0:8000 would let in whoever comes; make a key first: brogue keys create NAME "
        "--role admin\n"
    )
    brogue("keys", "create", "shop")
    done = brogue("up", "--host", "0.0.0.0")
    assert done.returncode == 1 and "would be read by whoever is on the way; set tls_certificate and" in done.stderr
    done = brogue("up", "--page-host", "0.0.0.0")
    assert done.returncode == 1 and "the page at 0.0.0.0:7860 would let in whoever comes" in done.stderr
    assert done.stderr.count("\n") == 1


EVERYWHERE, PROXY, TLS = {"host": "0.0.0.0"}, {"behind_proxy": True}, {"tls_certificate": "none.pem", "tls_key": "k"}


@pytest.mark.parametrize(
    ("gateway", "page", "there", "line"),
    [
        ({}, {}, "", None),
        (PROXY, {}, "", "the gateway at 127.0.0.1:8000, behind a proxy, would let in whoever comes"),
        (PROXY, {}, "key", None),
        (EVERYWHERE | PROXY, {}, "key", None),
        (EVERYWHERE | PROXY, {}, "user", None),
        (EVERYWHERE, {}, "user", "behind_proxy = true where a proxy"),
        (EVERYWHERE | TLS, {}, "key", "cannot be used (No such file or directory): wanted two PEM files"),
        (TLS, {}, "", "cannot be used (No such file or directory)"),
        ({}, EVERYWHERE | PROXY, "key", "make a user first: brogue users create NAME --role admin"),
        ({}, EVERYWHERE, "user", "the page at 0.0.0.0:7860 would be read"),
        ({}, EVERYWHERE | PROXY, "user", None),
    ],
)
def test_other_machines_reach_only_what_knows_somebody_and_is_encrypted(
    home: Home, gateway: dict[str, Any], page: dict[str, Any], there: str, line: str | None
) -> None:
    home.create()
    store = Store.open(home)
    if there == "key":
        from data.keys import NewKey

        Keys(store).create(NewKey(name="shop"))
    elif there == "user":
        Users(store, rounds=4).create("ann", "admin", "correct horse")
    store.close()
    values = {"gateway": {"port": 8000, **gateway}, "page": {"port": 7860, **page}}
    settings = Settings.model_validate(values)
    if line is None:
        require_guarded(home, settings)
        return
    with pytest.raises(BrogueError) as refused:
        require_guarded(home, settings)
    assert line in str(refused.value) and "\n" not in str(refused.value)


@pytest.fixture
def closed(home: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home whose gateway wants a key of everybody, and seems to run."""
    home.create()
    monkeypatch.setenv(ENVIRONMENT, ADMIN_KEY)
    add_version(home, "reed-voice")
    add_assistant(home, "reed", "adapter: reed-voice\nsystem_prompt: Be Reed.")
    return home


def test_the_commands_of_this_machine_work_where_everybody_else_needs_a_key(brogue: Run, closed: Home) -> None:
    assert brogue("keys", "create", "shop").returncode == 0
    with served(FakeGateway(closed, max_wait_s=5).app) as url:
        me = Child.of(os.getpid())
        assert me is not None
        Services(supervisor=me, gateway_url=url, page_url=url, base_model="base", engine_state="ready").save(closed)
        assert brogue("chat", "reed", "Hi?").stdout == "reed-voice@1reed-voice@1\n"
        assert local_client(closed).assistants()[0]["id"] == "reed"
        assert brogue("status").returncode == 0
        assert brogue("adapters", "list").returncode == 0


def test_the_page_of_this_machine_holds_the_key_where_only_keys_are_wanted(brogue: Run, closed: Home) -> None:
    from assistant.ui_people import People

    with served(FakeGateway(closed, max_wait_s=5).app) as url:
        people = People(url, ADMIN_KEY)
        assert people.client().headers == {} and people.role() == "admin"
        assert brogue("keys", "create", "shop").returncode == 0
        people.refresh()
        assert [entry["id"] for entry in people.client().assistants()] == ["reed"]
        assert "".join(people.client().stream_chat("reed", [{"role": "user", "content": "Hi"}]))
        assert people.role() == "admin"
        brogue("users", "create", "ann", "--password-stdin", input="correct horse\n")
        people.refresh()
        assert people.client().headers == {}, "now people sign in"
        assert people.role() == "user"


def test_without_a_home_no_key_is_made_for_asking_elsewhere(home: Home) -> None:
    assert local_client(home).headers == {} and not home.root.exists()
    home.create()
    write_text(home.settings_file, f"[gateway]\nport = {free_port()}\n")
    client = local_client(home)
    assert client.headers == {"Authorization": f"Bearer {admin_key(home)}"}
    assert client.url == load_settings(home.settings_file).gateway.url
    assert Path(home.root / "admin.key").exists()
