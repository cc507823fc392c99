"""A round's answers written by the engine that `brogue up` runs: the policy goes there as a LoRA of its own each time.

The engine samples; the log-probabilities that PPO learns from are still those of our own forward pass, so that the
engine's other arithmetic makes no step wrong, only very slightly off-policy.
"""

import secrets
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx

from adapters.ppo import PPOConfig, Prompt
from adapters.ppo_policy import Policy
from data.errors import one_line

TIMEOUT_S = 600  # a round of long answers, behind other people's questions


class EngineRollouts:
    """Calls give the answers' token ids, or none where the engine cannot help: then the training writes them itself."""

    def __init__(
        self, gateway: tuple[str, str], base_model: str, run: Path, config: PPOConfig, say: Callable[[str], None]
    ) -> None:
        """`gateway` is its address and admin key; `run` lies in the home folder that it serves."""
        self._base_model, self._run, self._config, self._say = base_model, run, config, say
        self._client = httpx.Client(
            base_url=gateway[0], headers={"Authorization": f"Bearer {gateway[1]}"}, timeout=TIMEOUT_S, trust_env=False
        )
        self._told = ""  # what was said last
        self._refused = False  # what the engine refuses now it would refuse in the next round too

    def __call__(self, policy: Policy, prompts: Sequence[Prompt], number: int) -> list[list[int]] | None:
        """One answer to each prompt of round `number` (from 0), each with the token that ended it."""
        if self._refused:
            return None
        # A name, and a folder, that no engine has seen: what an engine knows by name it never reads again.
        folder = self._run / f"policy-{number + 1}-{secrets.token_hex(4)}"
        policy.save(folder)
        try:
            reply = self._client.post("/v1/rollouts", json=self._wanted(policy, prompts, number, folder.name))
        except httpx.HTTPError as error:  # the engine may still read the folder
            self._without(f"the gateway at {self._client.base_url} does not answer ({type(error).__name__})")
            return None
        shutil.rmtree(folder, ignore_errors=True)
        if reply.status_code == 200:
            self._tell(f"the engine at {self._client.base_url} writes the answers")
            return [list(answer) for answer in reply.json()["answers"]]
        self._refused = reply.status_code < 500
        self._without(_message(reply))
        return None

    def close(self) -> None:
        """Remove what a broken connection has left; the engine has had its time with it."""
        self._client.close()
        for folder in self._run.glob("policy-*"):
            shutil.rmtree(folder, ignore_errors=True)

    def _wanted(self, policy: Policy, prompts: Sequence[Prompt], number: int, name: str) -> dict[str, object]:
        config = self._config
        return {
            "base_model": self._base_model, "run": self._run.name, "policy": name,
            "prompts": [prompt.ids for prompt in prompts], "max_tokens": config.max_new_tokens,
            "temperature": config.temperature, "stop": policy.end_ids,
            "seed": (config.seed * 100_003 + number) * config.batch_size,
        }  # fmt: skip

    def _without(self, why: str) -> None:
        self._tell(f"the answers are written here, without the engine: {why}")

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self._say(text)


def _message(reply: httpx.Response) -> str:
    try:
        return one_line(reply.json()["error"]["message"], 200)
    except (ValueError, KeyError, TypeError):
        return f"{reply.status_code} {one_line(reply.text, 200)}"
