"""`/v1/me`, signing in and out, and, for admins, `/v1/users`: who may sign in, and with which role."""

import asyncio
import threading
import time
from collections import defaultdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import AwareDatetime, Field

from data.errors import BrogueError, UnknownName, unknown
from data.judgements import REASONS, as_key
from data.settings import Frozen, Logging
from data.store import StoreDown
from data.store_users import Users
from data.users import Role, SignInRefused, User
from serve.identity import Access, Caller
from serve.openai_errors import ApiError
from serve.recorder import Recorder

FAILURES, WITHIN_S = 10, 300.0  # so many wrong passwords of one name in this time, then its sign-ins wait
MOST_NAMES = 10_000  # that failed sign-ins are remembered of


class Me(Frozen):
    """Who asks, and what the page has to know for them."""

    name: str | None = Field(description="none: nobody said")
    role: Role | None = Field(description="none: sign in first")
    sign_in: bool = Field(description="whether people have to sign in, for there are users")
    logging: Logging = Field(description="what is kept of what people write")
    reasons: dict[str, tuple[str, ...]] = Field(description="what a thumb 'up' or 'down' can be given for")


class Credentials(Frozen):
    """A name and its password."""

    name: str = Field(min_length=1, max_length=200)
    password: str = Field(min_length=1, max_length=1000)


class SignedIn(Frozen):
    """A session: its token goes with every request, as 'Authorization: Bearer TOKEN'."""

    token: str
    name: str
    role: Role
    expires: AwareDatetime


class NewUser(Credentials):
    """A person who may sign in from now on."""

    role: Role = "user"


class UserChange(Frozen):
    """What is to change of a user; a new password ends their sessions."""

    password: str | None = Field(None, min_length=1, max_length=1000)
    role: Role | None = None


class UserList(Frozen):
    """All users, by name."""

    data: tuple[User, ...]


class Done(Frozen):
    """It was done, or there was nothing to do."""

    done: bool = True


class Attempts:
    """Counts sign-ins that failed, by name, so that nobody can try passwords without end."""

    def __init__(self) -> None:
        self._tried: defaultdict[str, list[float]] = defaultdict(list)
        self._lock = threading.Lock()

    def begin(self, name: str) -> None:
        """Count a try, as failed until `succeeded`: of many at once none comes for free. Raises 429."""
        now = time.monotonic()
        with self._lock:
            recent = self._tried[name] = [at for at in self._tried[name] if now - at < WITHIN_S]
            if len(recent) >= FAILURES:
                wait = int(recent[0] + WITHIN_S - now) + 1
                message = f"{FAILURES} sign-ins of '{name}' failed; try again in {-(-wait // 60)} min"
                raise ApiError(429, message, code="too_many_attempts", retry_after_s=wait)
            recent.append(now)
            while len(self._tried) > MOST_NAMES:
                del self._tried[next(iter(self._tried))]

    def succeeded(self, name: str) -> None:
        """The name starts anew."""
        with self._lock:
            self._tried.pop(name, None)


def user_routes(access: Access, recorder: Recorder) -> APIRouter:
    """The routes for people: who am I, sign in and out; and for admins all users."""
    routes = APIRouter(tags=["people"])
    _add_sessions(routes, access, recorder)
    _add_users(routes, access)
    return routes


def _add_sessions(routes: APIRouter, access: Access, recorder: Recorder) -> None:
    attempts = Attempts()

    @routes.get("/v1/me")
    async def me(caller: Annotated[Caller, Depends(access.whoever)]) -> Me:
        """Who asks, with which role, and what is kept of what they write."""
        logging = (await asyncio.to_thread(recorder.store)).logging
        reasons: dict[str, Any] = {thumb: REASONS[thumb] for thumb in REASONS}
        return Me(name=caller.name, role=caller.role, sign_in=await access.signs_in(), logging=logging, reasons=reasons)

    @routes.post("/v1/sign-in")
    async def sign_in(credentials: Credentials) -> SignedIn:
        """A session's token for a name and a password. 401 if one is wrong; 429 after 10 failures in 5 minutes."""
        name = as_key(credentials.name.strip().lower())  # as the store looks for it
        attempts.begin(name)
        try:
            user, token, expires = await asyncio.to_thread(access.users.sign_in, credentials.name, credentials.password)
        except SignInRefused as error:
            raise ApiError(401, str(error), code="sign_in") from error
        attempts.succeeded(name)
        return SignedIn(token=token, name=user.name, role=user.role, expires=expires)

    @routes.post("/v1/sign-out")
    async def sign_out(caller: Annotated[Caller, Depends(access.whoever)]) -> Done:
        """End the session whose token the request carries."""
        if caller.token is not None:
            await asyncio.to_thread(access.users.sign_out, caller.token)
            access.changed()
        return Done()


def _add_users(routes: APIRouter, access: Access) -> None:
    admin = [Depends(access.at_least("admin"))]

    @routes.get("/v1/users", dependencies=admin)
    async def users() -> UserList:
        """All people who may sign in, for admins."""
        return UserList(data=tuple(await asyncio.to_thread(access.users.all)))

    @routes.post("/v1/users", dependencies=admin)
    async def create(new: NewUser) -> User:
        """Let a person sign in. With the first one, everybody has to."""
        user = await asyncio.to_thread(_create, access.users, new)
        access.changed()
        return user

    @routes.patch("/v1/users/{name}", dependencies=admin)
    async def change(name: str, wanted: UserChange) -> User:
        """Give a person another role or a new password."""
        try:
            return await asyncio.to_thread(_change, access.users, name, wanted)
        finally:
            access.changed()  # of two changes the first may have been made

    @routes.delete("/v1/users/{name}", dependencies=admin)
    async def remove(name: str) -> Done:
        """Let a person sign in no more; what they said stays. Without the last one, nobody has to sign in."""
        await asyncio.to_thread(access.users.remove, name)
        access.changed()
        return Done()


def _create(users: Users, new: NewUser) -> User:
    try:
        return users.create(new.name, new.role, new.password)
    except StoreDown:
        raise
    except BrogueError as error:
        taken = users.get(new.name) is not None
        raise ApiError(409 if taken else 400, str(error), code="conflict" if taken else "invalid_user") from error


def _change(users: Users, name: str, wanted: UserChange) -> User:
    user = users.get(name)
    if user is None:
        raise unknown("user", name, [known.name for known in users.all()], "List them: brogue users list")
    if wanted.password is not None:
        try:
            users.set_password(name, wanted.password)
        except (StoreDown, UnknownName):
            raise
        except BrogueError as error:
            raise ApiError(400, str(error), code="invalid_user", param="password") from error
    return user if wanted.role is None else users.set_role(name, wanted.role)
