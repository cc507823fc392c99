"""Shadow: questions that stable answered go to the canary too, in the background; people never see its answers.

Pairs are appended to a JSON lines file for whoever compares them, with as much of people's words as `logging` allows.
"""

import asyncio
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from adapters.registry import AdapterCard
from data.errors import BrogueError
from data.settings import Logging
from data.store_home import redacted
from data.store_text import written
from serve.openai_errors import ApiError
from serve.pool import AdapterPool

AT_ONCE = 2  # people come first: more than this are dropped, and counted


class Shadow:
    """Asks the canary what stable was asked."""

    def __init__(self, pool: AdapterPool, file: Path, logging: Logging = "full") -> None:
        self._pool = pool
        self._file = file
        self._logging = logging
        self._running: set[asyncio.Task[None]] = set()

    def offer(self, path: str, body: dict[str, Any], stable: AdapterCard, text: str, response_id: str) -> None:
        """Stable has answered `text`; have the canary answer too, unless enough of that goes on already."""
        if len(self._running) >= AT_ONCE:
            self._pool.metrics.shadow_dropped()
            return
        task = asyncio.create_task(self._ask(path, body, stable, text, response_id))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def stop(self) -> None:
        """Give up what is running."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _ask(self, path: str, body: dict[str, Any], stable: AdapterCard, text: str, response_id: str) -> None:
        version = self._pool.live.alias(stable.adapter, "canary")
        if version is None:
            return  # taken back meanwhile
        canary = self._pool.live.card(stable.adapter, version)
        body = {key: value for key, value in body.items() if key not in ("stream", "stream_options")}
        try:
            async with self._pool.lease(canary, time.monotonic() + self._pool.limits.max_wait_s) as lease:
                reply = await lease.client.post(path, json=lease.body(body))
            answered = reply.json()["choices"][0]["message"].get("content") or "" if reply.status_code == 200 else None
        except (httpx.HTTPError, BrogueError, ApiError):
            self._pool.metrics.shadow_dropped()  # the engine was away, or it is no request for this kind of version
            return
        self._pool.trials.answered(canary.adapter, canary.version, error=answered is None)
        if answered is not None:
            self._write(stable, text, canary, answered, body["messages"], response_id)

    def _write(
        self, stable: AdapterCard, text: str, canary: AdapterCard, answered: str, messages: Any, response_id: str
    ) -> None:
        if self._logging == "off":
            return
        words = {"messages": messages, "stable": text, "canary": answered}
        kept = written(words, redacted if self._logging == "redacted" else None)
        pair = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"), "response_id": response_id,
            "adapter": stable.adapter, "messages": kept["messages"],
            "stable": {"version": stable.version, "text": kept["stable"]},
            "canary": {"version": canary.version, "text": kept["canary"]},
        }  # fmt: skip
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(pair, ensure_ascii=False) + "\n")
