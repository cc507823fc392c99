"""What a client's `model` and messages mean to the engine: the gateway's catalogue, read from the home folder."""

import logging
from collections.abc import Iterator
from typing import Any

from adapters.registry import AdapterCard, Registry
from assistant.compose import Composer
from assistant.definitions import Assistant, definition_file, is_advice, load_assistant
from assistant.knowledge_answer import Answers
from data.errors import BrogueError, UnknownName
from data.home import Home
from serve.exchange import Prepared
from serve.live import LiveMap
from serve.openai_errors import ApiError

_LOG = logging.getLogger("brogue.catalogue")


class HomeCatalogue:
    """Assistants, adapters and the base model of one home folder. An edited file is live with the next request.

    What the advisor tries is answered for by its name, and not listed.
    """

    def __init__(
        self, home: Home, base_name: str, supports_system: bool, live: LiveMap, answers: Answers | None = None
    ) -> None:
        """`answers` draws on the assistants' documents; without it, nothing is looked up for them."""
        self._home = home
        self._registry = Registry(home)
        self._live = live
        self._read: dict[str, tuple[tuple[int, int, int], Assistant]] = {}  # name → the file's stamp, its content
        self._base_name = base_name
        self._composer = Composer(home, supports_system, answers)
        self._longest = None if answers is None else answers.base.context_length

    def models(self) -> list[dict[str, Any]]:
        """OpenAI model objects: assistants, adapters by alias and version, the base."""
        entries = [self._entry(a.name, "assistant", a.description, a) for a in self._assistants()]
        for adapter in filter(lambda name: not is_advice(name), self._registry.adapters()):
            state = self._live.states.get(adapter) or self._registry.state(adapter)
            versions = [n for n in self._registry.versions(adapter) if self._registry.chats(adapter, n)]
            names = [*state.aliases, *versions]
            entries += [self._entry(f"{adapter}@{name}", "adapter") for name in names]
        return [*entries, self._entry(self._base_name, "base model")]

    def _assistants(self) -> Iterator[Assistant]:
        """All but those with a broken file: one half-saved file must not hide the others (asked by name, it tells)."""
        for path in sorted(self._home.assistants.glob("*.yaml")):
            try:
                yield load_assistant(path)
            except BrogueError as error:
                _LOG.warning("%s", error)

    def _entry(self, name: str, kind: str, description: str = "", assistant: Assistant | None = None) -> dict[str, Any]:
        entry: dict[str, Any] = {"id": name, "object": "model", "created": 0, "owned_by": "brogue", "kind": kind}
        if self._longest is not None:
            entry["max_model_len"] = self._longest  # tokens, as vLLM says it
        if description:
            entry["description"] = description
        if assistant is not None:
            entry["brand"] = assistant.brand.model_dump() | {"title": assistant.title}
        return entry

    async def prepare(self, body: dict[str, Any]) -> Prepared:
        """The request as the engine is to see it; an assistant adds what its definition says (assistant/compose.py)."""
        name = body["model"]
        if name == self._base_name:
            return Prepared(None, self._composer.with_prompt(body, None))
        if (assistant := self._assistant(name)) is not None:
            return await self._composer.prepared(assistant, _with_sampling(body, assistant))
        card = self._version(name)
        return Prepared(card.name, self._composer.with_prompt(body, card.system_prompt))

    def raw(self, body: dict[str, Any]) -> Prepared:
        """A text to be continued, with nothing before it. An assistant that is more than a voice is refused: its
        prompt, documents and examples have no place in such a text, and leaving them out would be another assistant."""
        name = body["model"]
        if name == self._base_name:
            return Prepared(None, body)
        if (assistant := self._assistant(name)) is None:
            return Prepared(self._version(name).name, body)
        if added := self._composer.beside_adapter(assistant):
            voice = assistant.adapter_name or self._base_name
            raise ApiError(
                400, f"'{name}' has {' and '.join(added)}, for which a raw prompt has no place; ask it by "
                f"/v1/chat/completions, or have '{voice}' continue the prompt", code="chat_only", param="model",
            )  # fmt: skip
        return Prepared(assistant.adapter, _with_sampling(body, assistant), assistant.name)

    def _version(self, name: str) -> AdapterCard:
        try:
            return self._live.resolve(name)
        except UnknownName as error:
            if "@" in name:
                raise  # it names the versions there are, or says that this one was retired
            known = [entry["id"] for entry in self.models()]
            raise UnknownName(f"no model '{name}'; have: {', '.join(known)}") from error

    def warm(self) -> None:
        """Load what the first questions need."""
        self._composer.warm(self._assistants())

    def _assistant(self, name: str) -> Assistant | None:
        """The assistant of that name, if there is one; parsed again only when its file has changed."""
        path = definition_file(self._home, name)
        try:
            stat = path.stat() if path is not None else None
        except OSError:
            stat = None
        if path is None or stat is None:
            return None
        stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if name not in self._read or self._read[name][0] != stamp:
            self._read[name] = (stamp, load_assistant(path))
        return self._read[name][1]


def _with_sampling(body: dict[str, Any], assistant: Assistant) -> dict[str, Any]:
    defaults = assistant.sampling.model_dump(exclude_none=True)
    if "max_completion_tokens" in body:  # OpenAI's newer name of max_tokens
        defaults.pop("max_tokens", None)
    return defaults | body
