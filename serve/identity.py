"""Who sends a request and what they may do: the admin key, an API key, a person who signed in, or anybody at first.

The page and the command line hold the admin key and name the person they act for in `x-brogue-user` (URL-encoded).
While there are neither users nor keys, and only this machine reaches the gateway, the system is open: whoever comes is
a rater under the name that they give.
"""

import secrets
from collections.abc import Callable, Coroutine, MutableMapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

from starlette.requests import Request

from data.errors import BrogueError
from data.judgements import Response, as_key
from data.keys import PREFIX, Key
from data.store_queues import Queues
from data.store_users import Users
from data.users import ROLES, Role
from serve.credentials import Credentials, Known
from serve.openai_errors import ApiError
from serve.recorder import Recorder

USER_HEADER = "x-brogue-user"
ADMIN = "admin"  # the name of who holds the key and acts for nobody
ANONYMOUS = "anonymous"  # a rater who gave no name
_FOUND = "brogue.caller"  # in the ASGI scope: who was found to send the request


@dataclass
class Ticket:
    """What one answer has taken so far, for the limits of who asked."""

    tokens: int = 0


@dataclass(frozen=True)
class Caller:
    """Who sends a request."""

    name: str | None  # none: they did not say
    role: Role | None  # none: nobody, for they have to sign in
    is_open: bool  # nobody has to say who they are
    token: str | None = None  # of a session
    key: Key | None = None
    may_name: bool = False  # there are no users: whom they judge for is as they say
    ticket: Ticket | None = None  # of the answer that they ask for, where answers are counted

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

    def may_use(self, model: str) -> bool:
        """Whether they may ask this model."""
        return self.key is None or not self.key.rules.assistants or model in self.key.rules.assistants

    def require_model(self, model: str) -> None:
        """Raises 403 for a model that the caller's key is not for."""
        if self.key is not None and not self.may_use(model):
            may = ", ".join(self.key.rules.assistants)
            message = f"the key '{self.key.name}' may not use '{model[:80]}'; it is for: {may}"
            raise ApiError(403, message, code="model_not_allowed", param="model")

    def spent(self, tokens: int) -> None:
        """The answer took so many tokens more."""
        if self.ticket is not None:
            self.ticket.tokens += tokens

    def rater(self, given: str | None = None) -> str:
        """The name under which they judge. A body may give it only where nobody signs in. Raises 403 for another's."""
        if given is None or given == self.name:
            return self.name or ANONYMOUS
        if (self.is_open or self.may_name) and self.name in (None, ADMIN):
            return given
        raise ApiError(403, f"you are '{self.name}' and cannot judge as '{given}'", code="not_yours", param="rater")

    def acting(self, given: str | None = None) -> "Caller":
        """The same caller under the name that they judge by."""
        return self if given is None else replace(self, name=self.rater(given))


class Access:
    """Tells who a request is from. `recorder` has the store with users and keys, `key` is the admin key.

    `may_open`: whether the system is open while there are neither; never where other machines reach it.
    """

    def __init__(self, key: str, recorder: Recorder, may_open: bool = True) -> None:
        self._key = key
        self._may_open = may_open
        self.credentials = Credentials(recorder)

    @property
    def users(self) -> Users:
        """The users of the store. May open it, so call off the event loop, and tell `changed` of any change."""
        return self.credentials.users

    @staticmethod
    def remember(scope: MutableMapping[str, Any], caller: Caller) -> None:
        """Who sends this request, for whoever asks next."""
        scope[_FOUND] = caller

    async def is_known(self, request: Request) -> bool:
        """Whether they may see more than that the gateway lives; refuses nobody."""
        try:
            return (await self.client(request)).role is not None
        except (ApiError, BrogueError):
            return False

    def changed(self) -> None:
        """Users, keys or sessions have changed: it counts with the next request."""
        self.credentials.changed()

    async def signs_in(self) -> bool:
        """Whether people have to sign in, for there are users."""
        return bool((await self.credentials.known()).users)

    async def whoever(self, request: Request) -> Caller:
        """The caller, also one who has not signed in yet; 401 for a wrong key or token. For FastAPI's `Depends`."""
        return await self._who(request, is_client=False)

    async def client(self, request: Request) -> Caller:
        """Who asks for answers, files or jobs. While the system is open anybody may, whatever key a client sends."""
        caller = await self._who(request, is_client=True)
        if caller.role is None:
            message = "wanted a key: 'Authorization: Bearer KEY'; an admin makes one: brogue keys create NAME"
            raise ApiError(401, message, code="invalid_api_key")
        return caller

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
        """What lets a request pass only from the admin key, or from an admin by key or session. The admin key needs no
        store."""
        if self._is_admin_key(request.headers.get("authorization", "")) and USER_HEADER not in request.headers:
            return
        wanted = ApiError(401, "wanted the admin key: 'Authorization: Bearer KEY'", code="invalid_api_key")
        try:
            caller = await self.whoever(request)
        except ApiError as error:
            raise wanted if error.status == 401 else error from error
        if not caller.may("admin"):
            raise wanted if "authorization" not in request.headers else _too_little("admin", caller)

    def _is_admin_key(self, bearer: str) -> bool:
        # compare_digest takes as long for a nearly right key as for a wrong one, and only ASCII as text
        return secrets.compare_digest(bearer.encode(), f"Bearer {self._key}".encode())

    async def _who(self, request: Request, is_client: bool) -> Caller:
        found: Caller | None = request.scope.get(_FOUND)
        if found is not None:
            return found
        named = request.headers.get(USER_HEADER)
        bearer = request.headers.get("authorization")
        caller = await self._ask(bearer, as_key(unquote(named)) if named else None, is_client)
        if caller.role is not None and not (caller.is_open and is_client):  # an open system looks closer elsewhere
            self.remember(request.scope, caller)
        return caller

    async def _ask(self, bearer: str | None, named: str | None, is_client: bool) -> Caller:
        is_admin_key = bearer is not None and self._is_admin_key(bearer)
        try:
            known = await self.credentials.known()
        except BrogueError:
            if not is_admin_key or named is not None:
                raise
            return Caller(ADMIN, "admin", False)
        is_open = self._may_open and not known.closed
        if is_admin_key:
            return _acting_for(known, Caller(ADMIN, "admin", is_open, may_name=not known.users), named)
        if bearer is None or (is_open and is_client):
            return Caller(named, "rater", True) if is_open else Caller(None, None, False)
        secret = bearer.removeprefix("Bearer ")
        if secret.startswith(PREFIX):
            return _by_key(known, known.key(secret), named)
        user = await self.credentials.session(secret)
        if user is None:
            message = "neither a key nor a session's token: 'Authorization: Bearer …'; sign in (again)"
            raise ApiError(401, message, code="invalid_api_key")
        return Caller(user.name, user.role, False, secret)


def _by_key(known: Known, key: Key | None, named: str | None) -> Caller:
    """Whom a key stands for. That it was revoked, or when it ended, is not told to who holds it."""
    if key is None:
        raise ApiError(401, "no such key, or it does not count any more; ask an admin", code="invalid_api_key")
    caller = Caller(key.owner, key.role, False, key=key)
    if named is not None and not caller.may("admin"):
        raise _too_little("admin", caller)
    return _acting_for(known, caller, named)


def _acting_for(known: Known, caller: Caller, named: str | None) -> Caller:
    """The person whom an admin's key names, with that person's rights; the name counts as given while all is open."""
    if named is None:
        return caller
    if caller.may_name:
        return replace(caller, name=named)
    user = known.users.get(named)
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
