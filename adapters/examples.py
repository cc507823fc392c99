"""From a dataset's rows to what a recipe's trainer takes: token ids, counted where something is left out."""

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from adapters.base_model import BaseModel
from adapters.ppo import Prompt, questions
from adapters.recipes import SCORED, Recipe, labelled_answer
from adapters.tokens import (
    Example,
    Pair,
    Ranked,
    TextLabel,
    Thumb,
    encode,
    encode_answer,
    ends_in_token,
    prompt_ids,
    with_labels,
)
from data.dataset import Row
from data.exporting_shapes import pair_weight, pairs
from data.messages import with_system
from data.records import (
    LabelledRecord,
    Message,
    PreferenceRecord,
    RankingRecord,
    RatedRecord,
    Split,
    conversation,
    question,
)

MAX_EVALUATED_ROWS = 200  # of validation and of test: bounds the time of an evaluation
AnyExample = Example | TextLabel | Pair | Ranked | Thumb
Made = tuple[str, AnyExample]  # the record's id, and an example made of it


class Encoder(NamedTuple):
    """What rows are encoded for."""

    recipe: Recipe
    tokenizer: Any
    base: BaseModel
    system_prompt: str | None
    max_tokens: int
    say: Callable[[str], None]
    labels: tuple[str, ...] = ()  # of a classification head, if one is trained

    def split(self, split: Split, rows: Iterable[Row]) -> Sequence[Made | tuple[str, Prompt]]:
        """The split's examples, each with the id of its record, without those that are too long."""
        chosen = [row for row in rows if row.split == split]
        if self.recipe.name in SCORED:
            asked = [(row.id, row.record) for row in chosen]
            return list(questions(asked, self.tokenizer, self.system_prompt, self.base.supports_system,
                                  self.max_tokens, self.say, split))  # fmt: skip
        if split != "train":
            chosen = chosen[:MAX_EVALUATED_ROWS]
        makers: dict[str, Callable[[Row, int], Sequence[AnyExample]]] = {
            "dpo": self._pairs, "orpo": self._pairs, "simpo": self._pairs, "reward": self._pairs, "kto": self._thumbs
        }  # fmt: skip
        if self.recipe.name == "reward" and chosen and isinstance(chosen[0].record, RankingRecord):
            makers["reward"] = self._ranked
        make = makers.get(self.recipe.name, self._tagged if self.labels else self._answers)
        made = [(row.id, example) for number, row in enumerate(chosen) for example in make(row, number)]
        if unequal := sum(not self._gives(row) for row in chosen):
            self.say(
                f"{split}: {unequal} of {len(chosen)} records hold only ties or equal answers; nothing is learnt there"
            )
        return self._fitting(split, _evened(made))

    def _gives(self, row: Row) -> bool:
        return not isinstance(row.record, PreferenceRecord | RankingRecord) or next(pairs(row.record), None) is not None

    def _fitting(self, split: str, made: list[Made]) -> list[Made]:
        short = [(record, e) for record, e in made if length(e) <= self.max_tokens]
        if long := [length(e) for _, e in made if length(e) > self.max_tokens]:
            self.say(
                f"{split}: {len(long)} of {len(made)} {self.recipe.unit} are left out, as they are longer than "
                f"{self.max_tokens} tokens (--max-tokens; the longest has {max(long)})"
            )
        if split == "train" and short and not self.labels and not ends_in_token(self.tokenizer, _closing(short[0][1])):
            self.say(
                "warning: the base model's chat template closes an answer without an end token, so the adapter will "
                "not learn when to stop; use a base model whose template does"
            )
        return short

    def _answers(self, row: Row, _number: int) -> list[Example]:
        record = row.record
        said = _labelled(record) if isinstance(record, LabelledRecord) else conversation(record)
        return encode(self.tokenizer, said, self.system_prompt, self.base.supports_system)

    def _tagged(self, row: Row, _number: int) -> list[Example | TextLabel]:
        record = row.record
        assert isinstance(record, LabelledRecord)  # the recipe takes no others
        return [with_labels(self.tokenizer, record, self.labels)]

    def _pairs(self, row: Row, number: int) -> list[Pair]:
        made = []
        for before, better, worse in pairs(row.record):
            prompt, (chosen, rejected) = self._asked(before, (better, worse))
            longest = len(prompt) + max(len(chosen), len(rejected))
            made.append(Pair(prompt_ids=prompt, chosen_ids=chosen, rejected_ids=rejected, length=longest, group=number,
                             weight=row.weight * pair_weight(row.record)))  # fmt: skip
        return made

    def _ranked(self, row: Row, number: int) -> list[Ranked]:
        """The ranking as a whole; of answers with equal texts the best."""
        record = row.record
        assert isinstance(record, RankingRecord)  # a dataset holds one kind
        ranked = dict(sorted(zip(record.replies, record.ranks, strict=True), key=lambda one: -one[1]))
        if len(set(ranked.values())) < 2:
            return []
        prompt, answers = self._asked([m.model_dump() for m in record.messages], list(ranked))
        return [Ranked(prompt_ids=prompt, answers=answers, ranks=list(ranked.values()), weight=row.weight, group=number,
                       length=len(prompt) + max(map(len, answers)))]  # fmt: skip

    def _thumbs(self, row: Row, number: int) -> list[Thumb]:
        """Of a preference or ranking: the best answer was good, the worst one bad."""
        if isinstance(row.record, RatedRecord):
            *before, last = (m.model_dump() for m in row.record.messages)
            prompt, [ids] = self._asked(before, [last["content"]])
            return [Thumb(prompt_ids=prompt, completion_ids=ids, label=row.record.good, weight=row.weight, group=number,
                          length=len(prompt) + len(ids))]  # fmt: skip
        found = list(pairs(row.record))
        if not found:
            return []
        before, best, worst = found[0][0], found[0][1], found[-1][2]
        prompt, answers = self._asked(before, (best, worst))
        return [
            Thumb(prompt_ids=prompt, completion_ids=ids, label=good, weight=row.weight, group=number,
                  length=len(prompt) + len(ids))
            for ids, good in zip(answers, (True, False), strict=True)
        ]  # fmt: skip

    def _asked(self, before: list[dict[str, Any]], answers: Sequence[str]) -> tuple[list[int], list[list[int]]]:
        turns = with_system(before, self.system_prompt, self.base.supports_system)
        return prompt_ids(self.tokenizer, turns), [encode_answer(self.tokenizer, turns, text) for text in answers]


def length(example: Any) -> int:
    """Tokens of the (longer) sequence."""
    return int(example.get("length") or len(example["input_ids"]))


def _closing(example: Any) -> list[int]:
    return list(
        example.get("labels")
        or example.get("chosen_ids")
        or example.get("answers", [None])[0]
        or example.get("completion_ids")
        or []
    )


def _labelled(record: LabelledRecord) -> tuple[Message, Message]:
    """A text and its label as a question and its answer; tokens with their tags one a line."""
    said = labelled_answer(record)
    return Message(role="user", content=question(record)), Message(role="assistant", content=said)


def _evened(made: list[Made]) -> list[Made]:
    """With weights of mean 1, so that they say what counts more and leave the learning rate as it is.

    Good and bad answers weigh the same together, however many there are of each (Ethayarajh et al. 2024, eq. 9).
    """
    given = [(e.get("label"), float(e.get("weight", 0))) for _, e in made]  # type: ignore[arg-type]
    sides = {side: sum(weight for label, weight in given if label == side) for side, _ in given}
    weights = [weight / sides[label] if sides[label] else 0.0 for label, weight in given]
    mean = sum(weights) / len(weights) if weights else 0
    if mean < sys.float_info.min:
        return made
    return [(record, {**e, "weight": weight / mean}) for (record, e), weight in zip(made, weights, strict=True)]  # type: ignore[misc]
