"""Adapter versions in the engine: loaded on first use, each under a name that is never used twice.

The engine forgets run-time loads when it restarts; `forget` is called then and the versions come back on first use.
"""

import asyncio
from collections import defaultdict

import httpx

from adapters.registry import AdapterCard, Registry
from data.errors import BrogueError, one_line


class AdapterPool:
    """What is loaded in one engine. `client` speaks to it with the engine's key."""

    def __init__(
        self, client: httpx.AsyncClient, registry: Registry, base_name: str, base_sha256: str, max_rank: int
    ) -> None:
        self.client = client
        self.registry = registry
        self.base_name = base_name
        self._base_sha256 = base_sha256
        self._max_rank = max_rank
        self._loaded: set[str] = set()
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def engine_name(self, card: AdapterCard) -> str:
        """The name under which the engine serves this version; loads it if need be."""
        name = card.engine_name
        if name not in self._loaded:
            async with self._locks[name]:
                if name not in self._loaded:
                    self._check(card)
                    await self._load(name, str(self.registry.folder(card.adapter, card.version)))
                    self._loaded.add(name)
        return name

    def forget(self) -> None:
        """The engine has restarted: nothing is loaded."""
        self._loaded.clear()

    def _check(self, card: AdapterCard) -> None:
        """Refuse before the engine sees it what it could not serve rightly."""
        if card.base_sha256 != self._base_sha256:
            raise BrogueError(
                f"{card.name} was trained on base model {card.base_model}, the engine holds {self.base_name} "
                f"with other weights; train it again: brogue train {card.adapter} --data {card.dataset}"
            )
        if card.rank > self._max_rank:
            raise BrogueError(
                f"{card.name} has rank {card.rank}, above engine.max_lora_rank = {self._max_rank}; "
                "raise engine.max_lora_rank in brogue.toml and restart"
            )

    async def _load(self, name: str, folder: str) -> None:
        reply = await self.client.post("/v1/load_lora_adapter", json={"lora_name": name, "lora_path": folder})
        # A gateway that restarted finds its versions there still; the name holds the content's hash, so it is the same.
        if reply.status_code == 200 or "already" in reply.text:
            return
        raise BrogueError(f"the engine refused adapter {name}: {one_line(reply.text, 200)}")
