"""The room in which an exam sits: answers through the gateway, likelihoods and rewards by a pass here, all of it kept.

Everything that an arm says is keyed by its engine's name, which a version never shares, and by what it was asked.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters import exam_asking
from adapters.base_model import BaseModel
from adapters.exam_asking import Gateway
from adapters.exam_kept import Kept, key_of, keys_of
from adapters.exam_types import Answer, Arm, Messages, Part
from adapters.registry import AdapterCard, Registry
from data.dataset import Row, iter_rows
from data.errors import BrogueError, DataError
from data.formats_files import file_type, read_rows
from data.home import Home
from data.importing import stream_file
from data.records import hash_of, question_key, record_id
from data.settings import load_settings

if TYPE_CHECKING:
    from adapters.likelihood import Likelihoods
    from adapters.reward_model import RewardModel

GREEDY: Mapping[str, Any] = {"temperature": 0, "max_tokens": 256}  # where a measure says nothing else
BASE = "base"
Tell = Callable[[str], None]


class ExamRoom:
    """A `Room` for the versions in `cards` (none: the base model), the version first; see exam_types.py."""

    def __init__(self, home: Home, base: BaseModel, cards: Mapping[Arm, AdapterCard | None], gateway: Gateway,
                 judge: AdapterCard | None, seed: int, tell: Tell) -> None:  # fmt: skip
        self.arms: tuple[Arm, ...] = tuple(cards)
        self.seed, self.settings = seed, load_settings(home.settings_file)
        self.home = home  # for measures that look documents up
        self._home, self._base, self._cards, self._gateway, self._judge = home, base, cards, gateway, judge
        self._tell, self._kept = tell, Kept(home)
        self._likely: Likelihoods | None = None
        self._scorer: RewardModel | None = None

    def card(self, arm: Arm) -> AdapterCard | None:
        """The card of an arm's version; none for the base model."""
        return self._cards.get(arm)

    def judge(self) -> AdapterCard | None:
        """The card of the reward model, if there is one."""
        return self._judge

    def say(self, text: str) -> None:
        """A line for the person who waits."""
        self._tell(text)

    def rows(self, part: Part) -> list[Row]:
        """The test split of a dataset (`options.split`: another), or the records of a file; the first by a hash."""
        if part.data is None:
            raise BrogueError(f"the part '{part.prefix}' of the suite has no data; name a dataset: data: NAME")
        if is_file(part.data):
            rows = _file_rows(Path(part.data))
        else:
            split = part.options.get("split", "test")
            rows = [row for row in iter_rows(self._home, part.data) if row.split == split]
            if not rows:
                raise DataError(
                    f"dataset '{part.data}' has no {split} records to examine with; split it anew: "
                    f"brogue data split {part.data}"
                )
        return sorted(rows, key=lambda row: (hash_of(question_key(row.record)), row.id))[: part.limit]

    def lines(self, part: Part) -> list[dict[str, Any]]:
        """The objects of a file (JSONL; a table's rows, too), the first by a hash."""
        if part.data is None or not is_file(part.data):
            raise BrogueError(
                f"the part '{part.prefix}' wants a file of JSON lines; found {part.data or 'nothing'}: data: FILE"
            )
        found = []
        for number, line, _ in read_rows(Path(part.data), file_type(Path(part.data))):
            if not isinstance(line, dict):
                raise DataError(f"{part.data}:{number}: wanted an object, found {line}")
            found.append(line)
        return sorted(found, key=key_of)[: part.limit]

    def answers(self, arm: Arm, prompts: Sequence[Messages], **sampling: Any) -> list[Answer]:
        """An arm's answers, greedy unless `sampling` says; a prompt that is given twice is sampled twice."""
        asked = {**GREEDY, **sampling}
        questions = [{"messages": self._turns(arm, prompt), **asked} for prompt in prompts]
        keys = keys_of(self._system(arm), questions)
        self._complete(arm, dict(zip(keys, questions, strict=True)))
        return [Answer.model_validate(self._kept.get(self._name(arm), key)) for key in keys]

    def likelihoods(self, arm: Arm, prompts: Sequence[Messages | None], texts: Sequence[str]) -> list[list[float]]:
        """Log-probability (nats) of each token of each text, as answer to the messages or without any prompt."""
        keys = [
            key_of("likelihood", None if prompt is None else [self._system(arm), list(prompt)], text)
            for prompt, text in zip(prompts, texts, strict=True)
        ]
        name, wanted = self._name(arm), dict(zip(keys, zip(prompts, texts, strict=True), strict=True))
        missing = [key for key in wanted if self._kept.get(name, key) is None]
        if missing:
            progress = Progress(f"{self._label(arm)}: likelihoods", len(missing), self._tell)

            def take(number: int, values: list[float]) -> None:
                self._kept.put(name, missing[number], values)
                progress.one()

            asked, said = zip(*(wanted[key] for key in missing), strict=True)
            self._likelihoods().of(self._cards[arm], self._system(arm), asked, said, take)
        return [self._kept.get(name, key) or [] for key in keys]

    def rewards(self, prompts: Sequence[Messages], texts: Sequence[str]) -> list[float] | None:
        """The reward model's score of each answer; none without a reward model."""
        if self._judge is None:
            return None
        name = self._judge.engine_name
        keys = [key_of("reward", list(p), text) for p, text in zip(prompts, texts, strict=True)]
        wanted = dict(zip(keys, zip(prompts, texts, strict=True), strict=True))
        missing = iter([key for key in wanted if self._kept.get(name, key) is None])
        while some := list(islice(missing, 64)):
            self._tell(f"{self._judge.name}: scores answers")
            asked = [[dict(message) for message in wanted[key][0]] for key in some]
            found = self._scores().score(asked, [wanted[key][1] for key in some])
            for key, score in zip(some, found, strict=True):
                self._kept.put(name, key, round(score, 6))
        return [float(self._kept.get(name, key) or 0.0) for key in keys]

    def _complete(self, arm: Arm, questions: Mapping[str, Mapping[str, Any]]) -> None:
        """Ask what was never asked."""
        name = self._name(arm)
        missing = [key for key in questions if self._kept.get(name, key) is None]
        if not missing:
            return
        progress = Progress(f"{self._label(arm)}: answers", len(missing), self._tell)

        def take(number: int, answer: Answer) -> None:
            self._kept.put(name, missing[number], answer.model_dump())
            progress.one()

        card = self._cards[arm]
        model, version = (self._base.name, BASE) if card is None else (card.name, card.name)
        exam_asking.ask(self._gateway, model, version, [questions[key] for key in missing], take)

    def _turns(self, arm: Arm, prompt: Messages) -> list[Mapping[str, Any]]:
        """As the gateway is to be asked: it knows the versions' own system prompts; the base is told the version's."""
        system = self._system(arm)
        alone = self._cards[arm] is None and system
        return [*([{"role": "system", "content": system}] if alone else []), *prompt]

    def _system(self, arm: Arm) -> str | None:
        """What the arm is asked with; the base model as the version is, so that nothing but weights differ."""
        card = self._cards[arm] or self._cards["version"]
        return card.system_prompt if card is not None else None

    def _name(self, arm: Arm) -> str:
        """What the arm's answers are kept under."""
        card = self._cards[arm]
        return card.engine_name if card is not None else f"{BASE}-{self._base.sha256[:12]}"

    def _label(self, arm: Arm) -> str:
        card = self._cards[arm]
        return card.name if card is not None else self._base.name

    def _likelihoods(self) -> "Likelihoods":
        if self._likely is None:
            from adapters.likelihood import Likelihoods

            self._likely = Likelihoods(Registry(self._home), self._base)
        return self._likely

    def _scores(self) -> "RewardModel":
        if self._scorer is None:
            from adapters.reward_model import RewardModel

            assert self._judge is not None
            self._scorer = RewardModel.load(Registry(self._home), self._judge.name, self._base)
        return self._scorer


class Progress:
    """Tells at every tenth of the way."""

    def __init__(self, title: str, total: int, tell: Tell) -> None:
        self._title, self._total, self._tell, self._done = title, total, tell, 0
        tell(f"{title} 0/{total}")

    def one(self) -> None:
        """One more is done."""
        self._done += 1
        if self._done * 10 // self._total > (self._done - 1) * 10 // self._total:
            self._tell(f"{self._title} {self._done}/{self._total}")


def is_file(data: str) -> bool:
    """Whether a part's data is a file's path, as `exam_suites` writes it; else a dataset's name."""
    return "/" in data


def _file_rows(path: Path) -> list[Row]:
    """The records of a file as an import would recognise them."""
    imported, found = stream_file(path, None, {})
    rows = [Row(id=record_id(one.record), split="test", record=one.record, group=one.group) for one in found]
    if imported.faults:
        raise DataError(f"{imported.faults[0]} (brogue data check {path} shows all)")
    return rows
