"""A load of concurrent streams on one OpenAI-compatible endpoint, and what came of it."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx


@dataclass(frozen=True)
class Load:
    """What a load measured: output tokens per second over all streams, and seconds to each stream's first token."""

    tokens_per_s: float
    first_token_s: tuple[float, ...]


async def run_streams(
    url: str, key: str, models: Sequence[str], prompt: str, max_tokens: int, chat: bool = False
) -> Load:
    """One stream for each entry of `models`, all at once, each of exactly `max_tokens` output tokens.

    `chat` asks /v1/chat/completions (a gateway), else /v1/completions (an engine).
    """
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=600, trust_env=False) as client:
        began = time.perf_counter()
        jobs = (_stream(client, model, f"{prompt} ({number})", max_tokens, chat) for number, model in enumerate(models))
        first = await asyncio.gather(*jobs)
        elapsed = time.perf_counter() - began
    return Load(len(models) * max_tokens / elapsed, tuple(first))


async def _stream(client: httpx.AsyncClient, model: str, prompt: str, max_tokens: int, chat: bool) -> float:
    """Seconds until the first token of one stream."""
    path = "/v1/chat/completions" if chat else "/v1/completions"
    asked = {"messages": [{"role": "user", "content": prompt}]} if chat else {"prompt": prompt}
    body = {"model": model, "max_tokens": max_tokens, "ignore_eos": True, "stream": True, "temperature": 0} | asked
    began, first = time.perf_counter(), 0.0
    async with client.stream("POST", path, json=body) as reply:
        reply.raise_for_status()
        async for line in reply.aiter_lines():
            if not first and line.startswith("data: {"):
                first = time.perf_counter() - began
    return first
