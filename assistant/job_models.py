"""What a client may name as the `model` of a fine-tuning job, and what training then begins with.

The base model: its own voice, without a system prompt but those that the examples bring along. An adapter or a version:
training goes on from it, with the prompt that it has. An assistant: the same with its adapter and its system prompt.
"""

import re

from adapters.registry import AdapterCard, Registry
from adapters.served import refuse_start
from assistant.definitions import Assistant, definition_file, load_assistant
from data.errors import BrogueError, UnknownName
from data.home import Home
from serve.tuning import Start

_STEM = 48  # letters of a name that are taken


class HomeTunables:
    """The models of one home; `base_name` and `base_sha256` are those of the base model that is served."""

    def __init__(self, home: Home, base_name: str, base_sha256: str) -> None:
        self._home, self._base_name, self._base_sha256 = home, base_name, base_sha256
        self._registry = Registry(home)

    def start(self, model: str) -> Start:
        """What training begins with. Raises `UnknownName`, and `BrogueError` for what cannot be trained further."""
        if model == self._base_name:
            return Start(None, None, stem(model))
        path = definition_file(self._home, model)
        if path is not None and path.is_file():
            return self._of_assistant(load_assistant(path))
        try:
            card = self._registry.resolve(model)
        except UnknownName as error:
            if "@" in model:
                raise
            raise UnknownName(f"no model '{model}'; name the base model, '{self._base_name}', an assistant or an "
                              "adapter: GET /v1/models") from error  # fmt: skip
        self._check(card)
        return Start(card.name, card.system_prompt, stem(card.adapter))

    def _of_assistant(self, assistant: Assistant) -> Start:
        if assistant.specialist is not None:
            raise BrogueError(f"'{assistant.name}' is answered by a specialist, which cannot be fine-tuned here")
        prompt = (assistant.system_prompt or "").strip() or None
        if assistant.adapter is None:
            return Start(None, prompt, stem(assistant.name))
        card = self._registry.resolve(assistant.adapter)
        self._check(card)
        if prompt != ((card.system_prompt or "").strip() or None):
            raise BrogueError(
                f"'{assistant.name}' has another system prompt than {card.name} was trained with; name '{card.name}' "
                "itself, or the base model"
            )
        return Start(card.name, card.system_prompt, stem(assistant.name))

    def _check(self, card: AdapterCard) -> None:
        if not card.chats:
            raise BrogueError(f"{card.name} is a reward model or a classifier, which no job can go on from")
        if card.base_sha256 != self._base_sha256:
            raise BrogueError(
                f"{card.name} was trained on base model {card.base_model}, not on the present one, {self._base_name}"
            )
        refuse_start(card)


def stem(model: str) -> str:
    """A model's name as a part of a new one's: without its owner, in letters that an adapter's name can have."""
    last = model.partition("@")[0].rpartition("/")[2].lower().removeprefix("ft-")  # of a model that a job made
    return re.sub(r"[^a-z0-9._-]+", "-", last).strip("-._")[:_STEM] or "model"
