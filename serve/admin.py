"""Adapters over HTTP, for admins: list, promote, try as canary, roll back, retire."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Depends, Request
from pydantic import Field

from adapters.registry import ALIASES, CanaryPlan
from data.errors import BrogueError, UnknownName, unknown
from data.settings import Frozen
from serve.pool import AdapterPool, Moved

Guard = Callable[[Request], Coroutine[Any, Any, None]]  # lets a request pass, or raises; for FastAPI's `Depends`
HISTORY = 20  # moves that an adapter's object carries


class Reason(Frozen):
    """Who moves an alias, and why; both go into its history."""

    who: str = ""
    why: str = ""


class Target(Reason):
    """What an alias is to mean. `share` (percent) and `shadow` are for the canary; left out, they stay as they are.

    A version that failed its exam becomes stable or canary only with `force`.
    """

    version: int = Field(ge=1)
    force: bool = False
    share: int | None = Field(None, ge=0, le=100)
    shadow: bool | None = None


def admin_routes(pool: AdapterPool, guard: Guard) -> APIRouter:
    """The routes under /v1/adapters."""
    routes = APIRouter(prefix="/v1/adapters", tags=["adapters"], dependencies=[Depends(guard)])

    @routes.get("")
    async def adapters() -> dict[str, Any]:
        """All adapters with their aliases and versions."""
        return {"object": "list", "data": [describe(pool, name) for name in pool.registry.adapters()]}

    @routes.get("/{name}")
    async def adapter(name: str) -> dict[str, Any]:
        """One adapter: its aliases, its versions and what is measured of them, its last moves."""
        return describe(pool, name)

    @routes.put("/{name}/aliases/{alias}")
    async def put_alias(name: str, alias: str, target: Target) -> dict[str, Any]:
        """Let an alias mean a version, once the engine has loaded it and it has answered."""
        _require_known(pool, name, alias)
        plan = _plan(pool, name, target) if alias == "canary" else None
        moved = await pool.promote(name, alias, target.version, target.who, target.why, plan, target.force)
        return _result(pool, name, moved)

    @routes.delete("/{name}/aliases/{alias}")
    async def delete_alias(name: str, alias: str, who: str = "", why: str = "") -> dict[str, Any]:
        """End a canary, or forget a candidate."""
        _require_known(pool, name, alias)
        return _result(pool, name, await pool.remove_alias(name, alias, who, why))

    @routes.post("/{name}/rollback")
    async def rollback(name: str, reason: Reason) -> dict[str, Any]:
        """Let stable mean the version again that it meant before."""
        _require_known(pool, name)
        version = pool.registry.previous(name)
        if version is None:
            raise BrogueError(f"'{name}' has no version to roll back to; see: brogue adapters show {name}")
        # It has been stable: what an exam has said of it since must not keep anybody from going back.
        moved = await pool.promote(name, "stable", version, reason.who, reason.why, force=True)
        return _result(pool, name, moved)

    @routes.delete("/{name}/versions/{version}")
    async def retire(name: str, version: int) -> dict[str, Any]:
        """Hide a version for ever; its folder goes at the next start."""
        _require_known(pool, name)
        await pool.retire(name, version)
        return describe(pool, name) if name in pool.registry.adapters() else {"id": name, "object": "adapter"}

    return routes


def describe(pool: AdapterPool, name: str) -> dict[str, Any]:
    """The object that stands for an adapter. What is live and what the files say differ while a version is refused."""
    _require_known(pool, name)
    state = pool.live.states.get(name) or pool.registry.state(name)
    return {
        "id": name,
        "object": "adapter",
        "aliases": state.aliases,
        "canary": state.canary.model_dump() if state.canary else None,
        "previous": pool.registry.previous(name),
        "versions": [_describe_version(pool, name, version) for version in pool.registry.versions(name)],
        "history": [move.model_dump() for move in reversed(state.history[-HISTORY:])],
    }


def _describe_version(pool: AdapterPool, name: str, version: int) -> dict[str, Any]:
    tally, reference = pool.trials.tally(name, version), f"{name}@{version}"
    marks = [mark.model_dump() | {"words": mark.words} for mark in pool.registry.state(name).marks_of(version)]
    found = {"version": version, "id": reference, "created": "", "status": "refused", "detail": "", "in_flight": 0,
             "waiting": 0, "answers": tally.answers, "errors": tally.errors, "up": tally.up,
             "down": tally.down, "marks": marks, "verdict": None}  # fmt: skip
    try:
        card = pool.live.card(name, version)
        found["verdict"] = _verdict(pool, name, version)
    except BrogueError as error:  # a broken card hides neither itself nor the other versions
        return found | {"detail": str(error)}
    status, (reason, _) = pool.way(card).status(card), pool.refusals.reasons.get(reference, ("", 0))
    if card.served == "merged":
        found["own_engine"] = {"memory_bytes": pool.own.memory_bytes}
        reason = reason or pool.own.phase(card)
    refused = reference in pool.refusals.reasons
    found |= {"created": card.created, "status": "refused" if refused else status, "detail": reason}
    return found | {
        "in_flight": pool.in_flight(card), "waiting": pool.replicas.waiting(card.engine_name)
    }  # fmt: skip


def _verdict(pool: AdapterPool, name: str, version: int) -> dict[str, Any] | None:
    verdict = pool.registry.verdict(name, version)
    return verdict.model_dump() | {"words": verdict.words, "more": verdict.more} if verdict else None


def _result(pool: AdapterPool, name: str, moved: Moved) -> dict[str, Any]:
    return {"adapter": describe(pool, name), "before": moved.before, "after": moved.after, "seconds": moved.seconds}


def _require_known(pool: AdapterPool, name: str, alias: str = "stable") -> None:
    known = pool.registry.adapters()
    if name not in known:
        raise unknown("adapter", name, known, f"Train one: brogue train {name} --data NAME")
    if alias not in ALIASES:
        raise UnknownName(f"no alias '{alias}'; have: {', '.join(ALIASES)}")


def _plan(pool: AdapterPool, name: str, target: Target) -> CanaryPlan:
    given = target.model_dump(include={"share", "shadow"}, exclude_none=True)
    return CanaryPlan.model_validate((pool.registry.state(name).canary or CanaryPlan()).model_dump() | given)
