"""The prompts of a new queue: typed, from a dataset's split, or from live traffic; each once."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import ValidationError

from data.dataset import iter_rows
from data.errors import DataError
from data.home import Home
from data.judgements import Wanted, as_key
from data.queues import FromDataset, FromTraffic, NewQueue, Prompt
from data.records import AnyRecord, LabelledRecord, question
from data.store import Store

_ROLES = ("system", "user", "assistant")  # a tool's answers belong to the tools that were there then


def gather(home: Home, store: Store, new: NewQueue) -> list[Prompt]:
    """The prompts that `new` asks for. Raises one line if there are none."""
    if new.dataset is not None:
        found = _each_once(_of_dataset(home, new.dataset), new.dataset.limit)
        split = "" if new.dataset.split is None else f" in its split {new.dataset.split}"
        nothing = f"dataset '{new.dataset.name}' has no questions{split}; look: brogue data show {new.dataset.name}"
    elif new.traffic is not None:
        found = _each_once(_of_traffic(store, new.traffic), new.traffic.limit)
        since = "" if new.traffic.since is None else f" since {new.traffic.since:%Y-%m-%d}"
        nothing = f"nobody has asked '{new.traffic.assistant}' anything that was kept{since}; type some prompts"
    else:
        found, nothing = _each_once(new.prompts or (), len(new.prompts or ())), "a queue wants at least one prompt"
    if not found:
        raise DataError(nothing)
    return found


def _of_dataset(home: Home, source: FromDataset) -> Iterator[Prompt]:
    for row in iter_rows(home, source.name):
        if source.split in (None, row.split):
            subject = None if row.subject is None else as_key(row.subject)
            yield Prompt(messages=tuple(_asked(row.record)), subject=subject)


def _asked(record: AnyRecord) -> list[dict[str, Any]]:
    """A record's conversation up to the answer that is learnt from it."""
    if isinstance(record, LabelledRecord):
        return [{"role": "user", "content": question(record)}]
    messages = [message.model_dump() for message in record.messages]
    return messages[:-1] if messages[-1]["role"] == "assistant" else messages


def _of_traffic(store: Store, source: FromTraffic) -> Iterator[Prompt]:
    """Newest first; what was asked for another queue has the same words, and so comes once."""
    for response in store.responses(Wanted(assistant=source.assistant, since=source.since)):
        if all(message.get("role") in _ROLES for message in response.messages):
            try:
                yield Prompt(messages=response.messages, topic=response.topic, subject=response.subject)
            except ValidationError:  # not kept, or nothing that a person asked
                continue


def _each_once(prompts: Iterable[Prompt], limit: int) -> list[Prompt]:
    """The first `limit` prompts that differ in more than case, spacing and the system message."""
    found: dict[str, Prompt] = {}
    for prompt in prompts:
        asked = (message for message in prompt.messages if message.get("role") != "system")
        found.setdefault("\x1e".join(f"{message.get('role')} {_plain(message)}" for message in asked), prompt)
        if len(found) >= limit:
            break
    return list(found.values())


def _plain(message: dict[str, Any]) -> str:
    content = message.get("content")
    text = content if isinstance(content, str) else json.dumps(content, sort_keys=True)
    return " ".join(text.casefold().split())
