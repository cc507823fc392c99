"""What an exam would ask, counted without asking: its measures sit in a room that gives stand-ins for answers.

What is kept from earlier exams is not counted, as it is not asked again. Nothing is written.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adapters.base_model import BaseModel
from adapters.exam import sit
from adapters.exam_asking import Gateway
from adapters.exam_kept import Kept
from adapters.exam_room import ExamRoom
from adapters.exam_types import Answer, Arm, Messages, Suite
from adapters.registry import AdapterCard
from data.home import Home

if TYPE_CHECKING:
    from adapters.likelihood import Likelihoods
    from adapters.reward_model import RewardModel


class CountingRoom(ExamRoom):
    """`questions`: bodies of what would be asked of the engine; `read`: texts, with what they answer, that would be
    read here for their likelihood or their reward."""

    def __init__(self, home: Home, base: BaseModel, cards: Mapping[Arm, AdapterCard | None],
                 judge: AdapterCard | None) -> None:  # fmt: skip
        super().__init__(home, base, cards, Gateway("", ""), judge, 0, lambda _: None)
        self._kept = _Unwritten(home)
        self.questions: list[Mapping[str, Any]] = []
        self.read: list[str] = []

    def _complete(self, arm: Arm, questions: Mapping[str, Mapping[str, Any]]) -> None:
        for key, question in questions.items():
            if self._kept.get(self._name(arm), key) is None:
                self.questions.append(question)
                answer = Answer(text=f"Answer {key}.", prompt_tokens=1, completion_tokens=1, seconds=1)
                self._kept.put(self._name(arm), key, answer.model_dump())

    def _likelihoods(self) -> "Likelihoods":
        return _Reader(self.read)  # type: ignore[return-value]  # as much of it as the room uses

    def _scores(self) -> "RewardModel":
        return _Reader(self.read)  # type: ignore[return-value]


class _Unwritten(Kept):
    def put(self, model: str, key: str, value: Any) -> None:
        self._of(model)[key] = value


class _Reader:
    """Finds everything somehow likely, and somehow good."""

    def __init__(self, read: list[str]) -> None:
        self._read = read

    def of(self, _card: AdapterCard | None, _system: str | None, prompts: Sequence[Messages | None],
           texts: Sequence[str], take: Callable[[int, list[float]], None]) -> None:  # fmt: skip
        for number, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
            self._note(prompt, text)
            take(number, [-_somehow(text)] * max(1, len(text.split())))

    def score(self, prompts: Sequence[Messages], texts: Sequence[str]) -> list[float]:
        for prompt, text in zip(prompts, texts, strict=True):
            self._note(prompt, text)
        return [_somehow(text) for text in texts]

    def _note(self, prompt: Messages | None, text: str) -> None:
        self._read.append("\n".join([*(str(message["content"]) for message in prompt or ()), text]))


def _somehow(text: str) -> float:
    """A number between 0.5 and 1.5, always the same for a text."""
    return 0.5 + int(hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8], 16) / 2**32


def counted(home: Home, base: BaseModel, start: AdapterCard, suite: Suite, judge: AdapterCard | None) -> CountingRoom:
    """What an exam of a version that is not there yet would ask: beside `start`, which it is made of, and the base."""
    new = start.model_copy(update={"version": start.version + 1_000_000})  # of which nothing is kept
    room = CountingRoom(home, base, {"version": new, "against": start, "base": None}, judge)
    for part in suite.parts:
        try:
            sit(room, Suite(name=suite.name, parts=(part,)), lambda _: None, lenient=True)
        except (ValueError, ArithmeticError, LookupError):  # stand-ins do not have every measure's figures
            continue
    return room
