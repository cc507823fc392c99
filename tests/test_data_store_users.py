"""Users, their passwords and who is signed in, on SQLite and on PostgreSQL alike."""

import time
from collections.abc import Iterator

import pytest

from data import store_users
from data.errors import BrogueError, UnknownName
from data.home import Home
from data.judgements import Rating, Response
from data.store import Store
from data.store_users import Users
from data.users import SignInRefused

pytest_plugins = ["tests.databases"]


@pytest.fixture
def users(store: Store) -> Users:
    return Users(store, rounds=4)  # as fast as bcrypt can be


@pytest.fixture
def files(url: str) -> Iterator[None]:
    if not url.startswith("sqlite"):
        pytest.skip("looks into the file")
    yield


def test_without_users_the_system_is_open_and_with_the_last_one_gone_again(users: Users) -> None:
    assert (users.any(), users.all(), users.get("ann")) == (False, [], None)
    ann = users.create("ann", "rater", "correct horse")
    assert users.any() and users.get("ann") == ann and users.all() == [ann]
    assert (ann.name, ann.role, ann.may("user"), ann.may("rater"), ann.may("admin")) == (
        "ann", "rater", True, True, False,
    )  # fmt: skip
    users.remove("ann")
    assert not users.any()


def test_a_password_is_checked_and_its_letters_may_be_typed_in_two_ways(users: Users) -> None:
    users.create("ann", "user", "cafe\u0301 au lait")
    assert users.check("ann", "caf\u00e9 au lait") and users.check(" Ann ", "caf\u00e9 au lait")
    for name, password in (
        ("ann", "cafe au lait"),
        ("ann", ""),
        ("bob", "caf\u00e9 au lait"),
        ("\x00\u20ac", "x" * 500),
    ):
        assert users.check(name, password) is None
    assert users.check("ann", "caf\u00e9 au lait" + "x" * 100) is None


@pytest.mark.parametrize("name", ["", "Ann", "a b", "-a", "ann\n", "anonymous", "x" * 101, "<script>", "\x00"])
def test_a_name_that_cannot_be_one_is_refused_in_one_line(users: Users, name: str) -> None:
    with pytest.raises(BrogueError, match="cannot be a user's name: lower-case letters") as caught:
        users.create(name, "user", "correct horse")
    assert "\n" not in str(caught.value)
    assert not users.any()


def test_what_cannot_be_is_refused_and_changes_nothing(users: Users) -> None:
    with pytest.raises(BrogueError, match="the password has 7 characters; wanted at least 8 characters"):
        users.create("ann", "user", "1234567")
    with pytest.raises(BrogueError, match="the password has 76 bytes; .* at most 72 bytes"):
        users.create("ann", "user", "\u00e9" * 38)
    with pytest.raises(UnknownName, match="no role 'boss'; have: admin, rater, user"):
        users.create("ann", "boss", "correct horse")  # type: ignore[arg-type]
    ann = users.create("ann", "user", "correct horse")
    with pytest.raises(BrogueError, match="there is a user 'ann' already"):
        users.create("ann", "admin", "another horse")
    for change in (lambda: users.set_role("bob", "user"), lambda: users.set_password("bob", "correct horse"),
                   lambda: users.remove("b\x00b")):  # fmt: skip
        with pytest.raises(UnknownName, match="no user 'b.b'; list them: brogue users list"):
            change()
    assert users.all() == [ann] and users.check("ann", "correct horse") == ann


def test_a_token_stands_for_its_user_with_the_role_of_the_moment(users: Users) -> None:
    users.create("ann", "user", "correct horse")
    user, token, expires = users.sign_in("ann", "correct horse")
    assert users.by_token(token) == user and expires > user.created
    assert users.set_role("ann", "admin").role == "admin"
    seen = users.by_token(token)
    assert seen and seen.role == "admin"
    assert users.by_token("\x00") is users.by_token(token[:-1]) is None
    users.sign_out(token)
    assert users.by_token(token) is None
    with pytest.raises(SignInRefused, match="^the name or the password is wrong$"):
        users.sign_in("ann", "wrong horse")
    with pytest.raises(SignInRefused, match="^the name or the password is wrong$"):
        users.sign_in("bob", "correct horse")


def test_a_token_ends_with_its_time_its_user_or_a_new_password(users: Users, monkeypatch: pytest.MonkeyPatch) -> None:
    users.create("ann", "user", "correct horse")
    _, token, _ = users.sign_in("ann", "correct horse")
    users.set_password("ann", "another horse")
    assert users.by_token(token) is None and users.check("ann", "correct horse") is None
    _, token, expires = users.sign_in("ann", "another horse")
    monkeypatch.setattr(store_users, "now", lambda: expires)
    assert users.by_token(token) is None
    _, token, _ = users.sign_in("ann", "another horse")
    users.remove("ann")
    assert users.by_token(token) is None
    users.create("ann", "user", "another horse")
    assert users.by_token(token) is None


def test_the_database_holds_neither_passwords_nor_tokens(users: Users, home: Home, files: None) -> None:  # noqa: ARG001
    users.create("ann", "user", "correct horse")
    _, token, _ = users.sign_in("ann", "correct horse")
    held = b"".join(path.read_bytes() for path in home.root.glob("store.db*"))
    assert b"$2b$04$" in held
    assert b"correct horse" not in held and token.encode() not in held


def test_an_unknown_name_takes_as_long_as_a_wrong_password(store: Store) -> None:
    users = Users(store, rounds=9)
    users.create("ann", "user", "correct horse")

    def took(name: str) -> float:
        times = []
        for _ in range(3):
            began = time.thread_time()  # of this thread alone: other tests' work does not count
            assert users.check(name, "wrong horse") is None
            times.append(time.thread_time() - began)
        return min(times)

    assert took("nobody") > 0.7 * took("ann")


def test_who_is_forgotten_cannot_sign_in_any_more(users: Users, store: Store) -> None:
    users.create("ann", "user", "correct horse")
    users.create("bob", "user", "correct horse")
    store.add_response(Response(id="r1", version="base"))
    store.judge(Rating(rater="ann", response="r1", thumb="up"))
    _, token, _ = users.sign_in("ann", "correct horse")
    there = store.of_person("ann")
    assert there.user and store.forget("ann") == there
    assert users.by_token(token) is None
    assert [user.name for user in users.all()] == ["bob"]
