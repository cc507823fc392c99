"""Who sends a request and what they may do: the admin key, a person who signed in, or anybody while nobody can sign in.

The page and the command line hold the admin key and name the person they act for in `x-brogue-user` (URL-encoded).
Without users the system is open, as on one's own machine: whoever comes is a rater under the name that they give.
"""

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

from starlette.requests import Request

from data.judgements import Response, as_key
from data.store_queues import Queues
from data.store_users import Users
from data.users import ROLES, Role
from serve.openai_errors import ApiError
from serve.recorder import Recorder

USER_HEADER = "x-brogue-user"
ADMIN = "admin"  # the name of who holds the key and acts for nobody
ANONYMOUS = "anonymous"  # a rater who gave no name


@dataclass(frozen=True)
class Caller:
    """Who sends a request."""

    name: str | None  # none: they did not say
    role: Role | None  # none: nobody, for they have to sign in
    is_open: bool  # there are no users
    token: str | None = None  # of a session

    @property
    def owner(self) -> str | None:
        """Whose the things are that they make; none while the system is open: then they are everybody's."""
        return None if self.is_open else self.name

    def may_see(self, owner: str | None) -> bool:
        """Whether what this owner made is there for the caller; to others it does not exist (404)."""
        return self.is_open or self.may("admin") or (owner is not None and owner == self.owner)

    def may(self, role: Role) -> bool:
        """Whether the caller's role is `role` or above it."""
        return self.role is not None and ROLES.index(self.role) >= ROLES.index(role)

    def rater(self, given: str | None = None) -> str:
        """The name under which they judge. A body may give it only where nobody signs in. Raises 403 for another's."""
        if given is None or given == self.name:
            return self.name or ANONYMOUS
        if self.is_open and self.name in (None, ADMIN):
            return given
        raise ApiError(403, f"you are '{self.name}' and cannot judge as '{given}'", code="not_yours", param="rater")

    def acting(self, given: str | None = None) -> "Caller":
        """The same caller under the name that they judge by."""
        return self if given is None else replace(self, name=self.rater(given))


class Access:
    """Tells who a request is from. `recorder` has the store with the users, `key` is the admin key."""

    def __init__(self, key: str, recorder: Recorder) -> None:
        self._key = key
        self._recorder = recorder

    @property
    def users(self) -> Users:
        """The users of the store. May open it, so call off the event loop."""
        return Users(self._recorder.store())

    async def whoever(self, request: Request) -> Caller:
        """The caller, also one who has not signed in yet; 401 for a wrong key or token. For FastAPI's `Depends`."""
        bearer = request.headers.get("authorization")
        named = request.headers.get(USER_HEADER)
        return await asyncio.to_thread(self._who, bearer, as_key(unquote(named)) if named else None)

    async def client(self, request: Request) -> Caller:
        """Who asks for answers, files or jobs. While the system is open anybody may, whatever key a client sends."""
        named = request.headers.get(USER_HEADER)
        bearer = request.headers.get("authorization")
        return await asyncio.to_thread(self._client, bearer, as_key(unquote(named)) if named else None)

    def at_least(self, role: Role) -> Callable[[Request], Coroutine[Any, Any, Caller]]:
        """What lets a request pass only from who has this role or a higher one, and gives the caller."""

        async def require(request: Request) -> Caller:
            caller = await self.whoever(request)
            if caller.role is None:
                message = "sign in first: POST /v1/sign-in, then 'Authorization: Bearer TOKEN'"
                raise ApiError(401, message, code="sign_in")
            if not caller.may(role):
                raise _too_little(role, caller)
            return caller

        return require

    async def admin(self, request: Request) -> None:
        """What lets a request pass only from the admin key, or an admin who signed in. The key needs no store."""
        if self._is_key(request.headers.get("authorization", "")) and USER_HEADER not in request.headers:
            return
        wanted = ApiError(401, "wanted the admin key: 'Authorization: Bearer KEY'", code="invalid_api_key")
        try:
            caller = await self.whoever(request)
        except ApiError as error:
            raise wanted if error.status == 401 else error from error
        if not caller.may("admin"):
            raise wanted if "authorization" not in request.headers else _too_little("admin", caller)

    def _is_key(self, bearer: str) -> bool:
        # compare_digest takes as long for a nearly right key as for a wrong one, and only ASCII as text
        return secrets.compare_digest(bearer.encode(), f"Bearer {self._key}".encode())

    def _client(self, bearer: str | None, named: str | None) -> Caller:
        if not self.users.any() and (bearer is None or not self._is_key(bearer)):
            return Caller(named, "rater", True)
        caller = self._who(bearer, named)
        if caller.role is None:
            raise ApiError(401, "wanted an API key: 'Authorization: Bearer KEY'", code="invalid_api_key")
        return caller

    def _who(self, bearer: str | None, named: str | None) -> Caller:
        is_open = not self.users.any()
        if bearer is None:
            return Caller(named, "rater", True) if is_open else Caller(None, None, False)
        if self._is_key(bearer):
            return self._acting_for(named, is_open)
        token = bearer.removeprefix("Bearer ")
        user = self.users.by_token(token)
        if user is None:
            message = "neither the admin key nor a session's token: 'Authorization: Bearer …'; sign in (again)"
            raise ApiError(401, message, code="invalid_api_key")
        return Caller(user.name, user.role, False, token)

    def _acting_for(self, named: str | None, is_open: bool) -> Caller:
        if named is None or is_open:
            return Caller(named or ADMIN, "admin", is_open)
        user = self.users.get(named)
        if user is None:
            message = f"{USER_HEADER}: no user '{named}'; create one: brogue users create NAME --role ROLE"
            raise ApiError(403, message, code="unknown_user")
        return Caller(user.name, user.role, False)


def _too_little(role: Role, caller: Caller) -> ApiError:
    who = f"'{caller.rater()}' has '{caller.role}'"
    return ApiError(403, f"this needs the role '{role}'; {who}: ask an admin", code="role")


def check_may_judge(caller: Caller, response: Response, queues: Queues) -> None:
    """Raise 403 if the response is part of somebody else's conversation and no turn of the caller's shows it."""
    if not may_read(caller, response) and not queues.may_see(caller.rater(), response.id):
        message = f"response '{response.id}' is another person's private conversation"
        raise ApiError(403, message, code="not_yours")


def may_read(caller: Caller, response: Response) -> bool:
    """Whether the response is the caller's own, nobody's, or they are an admin. An open system asks for no name."""
    nameless = caller.is_open and caller.name is None  # who knows the id, which cannot be guessed, has had the answer
    return caller.may("admin") or nameless or response.subject in (None, caller.name)
