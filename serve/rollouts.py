"""`POST /v1/rollouts`: answers of a policy in training, written by the engine that serves everybody else.

The training (adapters/ppo_engine.py) has written its policy of the moment into a folder of its own under the run's.
Here it is loaded under a name that is never used again, asked, and unloaded; the folder may go when the answer is back.
For admins only: a policy in training is no version, and nobody has looked at it.
"""

import asyncio
import time
from typing import Annotated, Any

import httpx
from fastapi import APIRouter, Depends
from pydantic import Field

from data.errors import BrogueError, one_line
from data.home import Home
from data.settings import Frozen
from serve.admin import Guard
from serve.engine_api import Lease, Refused, Unavailable
from serve.pool import AdapterPool

FolderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$", max_length=200)]


class Wanted(Frozen):
    """What a policy is to answer, and how it is sampled."""

    base_model: str  # that the policy is trained on
    run: FolderName  # of <home>/runs
    policy: FolderName  # a LoRA's folder in the run's
    prompts: tuple[tuple[int, ...], ...] = Field(min_length=1, max_length=4096)  # token ids
    max_tokens: int = Field(ge=1)  # of an answer
    temperature: float = Field(gt=0)
    stop: tuple[int, ...]  # ids that end an answer
    seed: int  # of the first answer; the next one's is one more


class Rollouts(Frozen):
    """The answers' token ids in the prompts' order, with the token that ended each."""

    answers: tuple[tuple[int, ...], ...]


def rollout_routes(pool: AdapterPool, home: Home, guard: Guard) -> APIRouter:
    """The route /v1/rollouts."""
    routes = APIRouter(prefix="/v1/rollouts", tags=["runs"], dependencies=[Depends(guard)])

    @routes.post("")
    async def answers(wanted: Wanted) -> Rollouts:
        """One sampled answer to each prompt by a policy in training (`brogue train --recipe ppo`)."""
        if wanted.base_model != pool.base_name:
            raise BrogueError(f"the engine holds base model {pool.base_name}, not {wanted.base_model}")
        folder = home.runs / wanted.run / wanted.policy
        if not (folder / "adapter_config.json").is_file():
            raise BrogueError(f"no policy '{wanted.policy}' in run '{wanted.run}' of this gateway's home {home.root}")
        deadline = time.monotonic() + pool.limits.max_wait_s
        await pool.wait_open(deadline)
        async with pool.replicas.lent(f"{wanted.run}-{wanted.policy}", folder, deadline) as lease:
            asked = (_answer(lease, wanted, number) for number in range(len(wanted.prompts)))
            return Rollouts(answers=tuple(await asyncio.gather(*asked)))

    return routes


async def _answer(lease: Lease, wanted: Wanted, number: int) -> tuple[int, ...]:
    body: dict[str, Any] = {
        "model": lease.name, "prompt": list(wanted.prompts[number]), "max_tokens": wanted.max_tokens,
        "temperature": wanted.temperature, "seed": wanted.seed + number, "stop_token_ids": list(wanted.stop),
        "return_token_ids": True,
        # The model's own distribution, whatever its defaults say.
        "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0,
    }  # fmt: skip
    try:
        reply = await lease.client.post("/v1/completions", json=body)
    except httpx.HTTPError as error:
        raise Unavailable(f"the connection to the engine broke ({type(error).__name__})") from error
    if reply.status_code != 200:
        raise Refused(f"the engine did not answer for {lease.name}: {one_line(reply.text, 200)}")
    return tuple(reply.json()["choices"][0]["token_ids"])
