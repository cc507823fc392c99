"""`brogue users`, and `brogue feedback queue` against a real gateway."""

import json
import os
from pathlib import Path

import pytest

from assistant.services import Child, Services
from data.home import Home
from data.secrets import ENVIRONMENT
from data.store import Store
from data.store_users import Users
from tests.conftest import Run
from tests.feedback_gateway import feedback_gateway


def test_users_are_made_listed_changed_and_removed(brogue: Run, home: Home) -> None:
    none = brogue("users", "list")
    assert (none.stdout, none.returncode) == ("", 0) and "brogue users create NAME --role admin" in none.stderr
    made = brogue("users", "create", "ann", "--role", "rater", "--password-stdin", input="correct horse\n")
    assert made.stdout == "ann may sign in as rater\n" and "this is the first user" in made.stderr
    second = brogue("users", "create", "bob@shop.org", "--password-stdin", "--json", input="battery staple")
    assert json.loads(second.stdout)["role"] == "user" and second.stderr == ""
    assert json.loads(brogue("users", "role", "ann", "admin", "--json").stdout)["role"] == "admin"
    changed = brogue("users", "password", "ann", "--password-stdin", input="another horse\r\n")
    assert changed.stdout == "ann has a new password and is signed out everywhere\n"
    assert [(u["name"], u["role"]) for u in json.loads(brogue("users", "list", "--json").stdout)] == [
        ("ann", "admin"), ("bob@shop.org", "user"),
    ]  # fmt: skip
    assert "ann   " in brogue("users", "list").stdout
    store = Store.open(home)
    assert Users(store).check("ann", "another horse")
    store.close()
    assert brogue("users", "remove", "ann").stderr == ""
    assert "no users are left" in brogue("users", "remove", "bob@shop.org").stderr


@pytest.mark.parametrize(
    ("words", "typed", "line"),
    [
        (("create", "ann"), "", "a password wants a terminal to be typed at; without one, add --password-stdin"),
        (("create", "ann", "--password-stdin"), "short\n", "the password has 5 characters; wanted at least 8"),
        (("create", "Ann B", "--password-stdin"), "correct horse", "'Ann B' cannot be a user's name: lower-case"),
        (("password", "eve"), "", "no user 'eve'; have: none yet. Make one: brogue users create NAME"),
        (("role", "eve", "admin"), "", "no user 'eve'; list them: brogue users list"),
        (("remove", "eve"), "", "no user 'eve'; list them: brogue users list"),
    ],
)
def test_a_mistake_gets_one_line(brogue: Run, words: tuple[str, ...], typed: str, line: str) -> None:
    done = brogue("users", *words, input=typed)
    assert done.returncode == 1 and line in done.stderr and done.stderr.count("\n") == 1


def test_a_queue_is_made_by_the_gateway_and_listed(
    brogue: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arms = ("--arm", "reed:0.7", "--arm", "fern")
    assert "start it: brogue up" in brogue("feedback", "queue", "q", *arms, "--prompt", "Hello?").stderr
    with feedback_gateway(tmp_path) as (url, home, key):
        monkeypatch.setenv(ENVIRONMENT, key)
        ourselves = Child.of(os.getpid())
        assert ourselves is not None
        Services(supervisor=ourselves, gateway_url=url, page_url=url, base_model="tiny").save(home)
        assert "no queues yet; make one" in brogue("feedback", "queues").stderr
        made = brogue("feedback", "queue", "first", *arms, "--prompt", "Hello?", "--prompt", "Who?", "--topic", "hi")
        assert made.stdout == "queue first: 2 questions, 2 answers each; raters find it on the page: Rank\n"
        shared = brogue("feedback", "queue", "second", *arms, "--prompt", "Hello?", "--overlap", "1", "--json")
        assert json.loads(shared.stdout)["overlap"] == 1
        listed = {queue["name"]: queue for queue in json.loads(brogue("feedback", "queues", "--json").stdout)}
        assert listed["first"]["arms"][0] == {"model": "reed", "temperature": 0.7, "max_tokens": None}
        assert [line.split() for line in brogue("feedback", "queues").stdout.splitlines()][1:] == [
            ["second", "2", "0", "of", "1", "-"], ["first", "2", "0", "of", "2", "-"],
        ]  # fmt: skip
        for words, line in (
            ((*arms, "--dataset", "none"), "no dataset 'none'; have: none yet"),
            ((*arms, "--traffic", "reed"), "nobody has asked 'reed' anything that was kept"),
            ((*arms,), "wanted one of --dataset, --traffic, --prompt; found none"),
            ((*arms, "--prompt", "a", "--traffic", "reed"), "found --traffic and --prompt"),
            ((*arms, "--prompt", "a", "--split", "test"), "--split goes with --dataset; found --prompt"),
            ((*arms, "--prompt", "a", "--limit", "3"), "--limit goes with --dataset or --traffic"),
            ((*arms, "--traffic", "reed", "--since", "soon"), "--since wants a day, such as 2026-03-01; found 'soon'"),
            ((*arms[:2], "--prompt", "a"), "at least 2"),
        ):
            done = brogue("feedback", "queue", "third", *words)
            assert done.returncode == 1 and line in done.stderr and done.stderr.count("\n") == 1, done.stderr
