"""`/v1/keys`, for admins: the API keys of the gateway. A new key's secret is in the answer to its making, and nowhere
else."""

import asyncio

from fastapi import APIRouter, Depends, Request
from pydantic import Field

from data.errors import BrogueError, UnknownName
from data.judgements import now
from data.keys import Key, NewKey, Usage
from data.settings import Frozen
from data.store import StoreDown
from data.store_keys import Keys, day
from serve.gate import audited
from serve.identity import Access
from serve.openai_errors import ApiError


class KeyState(Key):
    """A key, and how it is."""

    state: str = Field(description="active, revoked or expired")
    today: Usage = Field(Usage(), description="what it has used today (UTC), a few seconds ago")


class MadeKey(KeyState):
    """A key that was just made."""

    key: str = Field(description="the secret: keep it, nobody can read it again")


class KeyList(Frozen):
    """All keys, by name."""

    object: str = "list"
    data: tuple[KeyState, ...]


def key_routes(access: Access) -> APIRouter:
    """The routes under /v1/keys."""
    routes = APIRouter(prefix="/v1/keys", tags=["keys"], dependencies=[Depends(access.at_least("admin"))])

    @routes.get("")
    async def keys() -> KeyList:
        """All keys that there are or were, with what they have used today."""
        return KeyList(data=tuple(await asyncio.to_thread(listed, access.credentials.keys)))

    @routes.post("")
    async def create(new: NewKey, request: Request) -> MadeKey:
        """Make a key. With the first key or user, every request wants a credential."""
        audited(request, key=new.name, role=new.role)
        key, secret = await asyncio.to_thread(_create, access.credentials.keys, new)
        access.changed()
        return MadeKey(**dict(key), state=key.state_at(now()), key=secret)

    @routes.post("/{name}/revoke")
    async def revoke(name: str) -> KeyState:
        """Take a key back: at once here, within a second in other gateways of the same store."""
        key = await asyncio.to_thread(access.credentials.keys.revoke, name)
        access.changed()
        return KeyState(**dict(key), state=key.state_at(now()))

    return routes


def listed(keys: Keys) -> list[KeyState]:
    """All keys with their state and today's use."""
    used, at = keys.used(day(now())), now()
    return [KeyState(**dict(key), state=key.state_at(at), today=used.get(key.name, Usage())) for key in keys.all()]


def _create(keys: Keys, new: NewKey) -> tuple[Key, str]:
    try:
        return keys.create(new)
    except (StoreDown, UnknownName):
        raise
    except BrogueError as error:
        taken = any(key.name == new.name for key in keys.all())
        raise ApiError(409 if taken else 400, str(error), code="conflict" if taken else "invalid_key") from error
