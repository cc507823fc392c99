"""A room for measures, without engine and model: what each arm says and how likely it finds texts is handed in."""

from collections.abc import Callable, Sequence
from typing import Any

from adapters.exam_types import Answer, Arm, Messages, Part
from adapters.registry import AdapterCard
from data.dataset import Row
from data.records import AnyRecord, record_id
from data.settings import Settings

ARMS: tuple[Arm, ...] = ("version", "against", "base")
Says = Callable[[Arm, Messages], "str | Answer"]
Likely = Callable[[Arm, "Messages | None", str], list[float]]


def row(record: AnyRecord, **more: Any) -> Row:
    """A held-out row of a dataset."""
    return Row(id=record_id(record), split=more.pop("split", "test"), record=record, **more)


def card(name: str = "acme@2", **more: Any) -> AdapterCard:
    """A version's card."""
    adapter, _, version = name.partition("@")
    fields: dict[str, Any] = {
        "adapter": adapter, "version": int(version), "base_model": "base", "base_sha256": "sha", "dataset": "d",
        "dataset_digest": "0", "recipe": "sft", "method": "lora", "rank": 8, "config": {},
        "system_prompt": "Trained so.", "parent": None, "scores": {}, "minutes": 1, "created": "2026-11-21",
        "files": {name: "0"},
    }  # fmt: skip
    return AdapterCard(**fields | more)


class ScriptedRoom:
    """A `Room`. What is not handed in says that it was not expected to be asked for.

    `says(arm, messages)` gives the answer (a text, or a whole `Answer`); `asked` keeps (arm, messages, sampling).
    """

    def __init__(
        self, *, says: Says | None = None, likely: Likely | None = None, rows: Sequence[Row] = (),
        lines: Sequence[dict[str, Any]] = (), reward: Callable[[Messages, str], float] | None = None,
        cards: dict[Arm, AdapterCard] | None = None, judge: AdapterCard | None = None, arms: tuple[Arm, ...] = ARMS,
        seed: int = 0, settings: Settings | None = None,
    ) -> None:  # fmt: skip
        self.arms, self.seed, self.settings = arms, seed, settings or Settings()
        self._says, self._likely, self._reward = says, likely, reward
        self._rows, self._lines = list(rows), list(lines)
        self._cards = cards if cards is not None else {"version": card("acme@2"), "against": card("acme@1")}
        self._judge = judge or (card("judge@1", recipe="reward") if reward is not None else None)
        self.asked: list[tuple[Arm, Messages, dict[str, Any]]] = []
        self.said: list[str] = []

    def card(self, arm: Arm) -> AdapterCard | None:
        return self._cards.get(arm)

    def rows(self, part: Part) -> list[Row]:
        """The rows of the split that the part asks for."""
        split = part.options.get("split", "test")
        return [one for one in self._rows if one.split == split][: part.limit]

    def lines(self, part: Part) -> list[dict[str, Any]]:
        return self._lines[: part.limit]

    def answers(self, arm: Arm, prompts: Sequence[Messages], **sampling: Any) -> list[Answer]:
        assert self._says is not None, "no answers were expected to be asked for"
        self.asked += [(arm, prompt, sampling) for prompt in prompts]
        return [_answer(self._says(arm, prompt)) for prompt in prompts]

    def likelihoods(self, arm: Arm, prompts: Sequence[Messages | None], texts: Sequence[str]) -> list[list[float]]:
        assert self._likely is not None, "no likelihoods were expected to be asked for"
        return [self._likely(arm, prompt, text) for prompt, text in zip(prompts, texts, strict=True)]

    def rewards(self, prompts: Sequence[Messages], texts: Sequence[str]) -> list[float] | None:
        if self._reward is None:
            return None
        return [self._reward(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]

    def judge(self) -> AdapterCard | None:
        return self._judge

    def say(self, text: str) -> None:
        self.said.append(text)


def _answer(said: str | Answer) -> Answer:
    if isinstance(said, Answer):
        return said
    return Answer(text=said, prompt_tokens=7, completion_tokens=len(said.split()), seconds=0.5)
