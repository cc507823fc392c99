"""From conversations to token ids and labels: the prompt just as the engine will see it, loss on the answers only."""

from collections.abc import Sequence
from typing import Any, TypedDict

from data.errors import DataError, one_line
from data.messages import with_system
from data.records import LabelledRecord, Message

IGNORED = -100  # the label that torch's cross entropy leaves out


class Example(TypedDict):
    """One answer in its context; both lists have equal length, in tokens."""

    input_ids: list[int]
    labels: list[int]


class Pair(TypedDict):
    """Two answers to one prompt, as token ids; the better one first."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]
    weight: float
    length: int  # tokens of the longer sequence: batches are made of pairs about equally long
    group: int  # pairs of the same record have the same number


class TextLabel(TypedDict):
    """A text for a classification head, with its label's number."""

    input_ids: list[int]
    label: int


class Ranked(TypedDict):
    """Several answers to one prompt with their ranks, 0 is best, as token ids."""

    prompt_ids: list[int]
    answers: list[list[int]]
    ranks: list[int]
    weight: float
    length: int
    group: int


class Thumb(TypedDict):
    """An answer that was found good or bad, as token ids."""

    prompt_ids: list[int]
    completion_ids: list[int]
    label: bool
    weight: float
    length: int
    group: int


def prompt_ids(tokenizer: Any, messages: Sequence[dict[str, Any]]) -> list[int]:
    """The ids that the engine gives these messages when it is asked to answer them."""
    return list(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False))


def encode(tokenizer: Any, messages: Sequence[Message], system: str | None, supports_system: bool) -> list[Example]:
    """One example for each assistant message, its prompt being all that came before.

    Prompt and answer are tokenised apart, as they are at inference, where the answer's tokens follow the prompt's ids.
    """
    turns = with_system([m.model_dump() for m in messages], system, supports_system)
    examples = []
    for position, message in enumerate(turns):
        if message["role"] == "assistant":
            prompt, answer = prompt_ids(tokenizer, turns[:position]), _answer_ids(tokenizer, turns[: position + 1])
            examples.append(Example(input_ids=prompt + answer, labels=[IGNORED] * len(prompt) + answer))
    return examples


def with_labels(tokenizer: Any, record: LabelledRecord, labels: Sequence[str]) -> Example | TextLabel:
    """A text, or words, for a classification head. A word's label stands at its last token, where the head is read:
    a causal model has seen all of the word there, and nothing that comes after.
    """
    if record.tokens is None:
        return TextLabel(input_ids=text_ids(tokenizer, record.text or ""), label=labels.index(record.label or ""))
    words = word_ids(tokenizer, record.tokens)
    marks = [
        [IGNORED] * (len(ids) - 1) + [labels.index(tag)] for ids, tag in zip(words, record.tags or (), strict=True)
    ]
    return Example(input_ids=[i for ids in words for i in ids], labels=[i for some in marks for i in some])


def text_ids(tokenizer: Any, text: str) -> list[int]:
    """A text as a classification head reads it: asked as a question, up to where the answer would begin."""
    return prompt_ids(tokenizer, [{"role": "user", "content": text}])


def word_ids(tokenizer: Any, words: Sequence[str]) -> list[list[int]]:
    """The token ids of each word of a text, at least one."""
    parts = [word if number == 0 else f" {word}" for number, word in enumerate(words)]
    found = [list(tokenizer(part, add_special_tokens=False)["input_ids"]) for part in parts]
    return [ids or [tokenizer.eos_token_id] for ids in found]


def encode_answer(tokenizer: Any, messages: Sequence[dict[str, Any]], answer: str) -> list[int]:
    """The ids of an answer to these messages, with what ends it; they follow `prompt_ids` of the same messages."""
    return _answer_ids(tokenizer, [*messages, {"role": "assistant", "content": answer}])


def ends_in_token(tokenizer: Any, answer_ids: Sequence[int]) -> bool:
    """Does the answer close with a token at which the engine stops? Otherwise it never learns to end."""
    return bool(answer_ids) and answer_ids[-1] in {tokenizer.eos_token_id, *tokenizer.all_special_ids}


def _answer_ids(tokenizer: Any, turns: Sequence[dict[str, Any]]) -> list[int]:
    return list(tokenizer(_answer_text(tokenizer, turns), add_special_tokens=False)["input_ids"])


def _answer_text(tokenizer: Any, turns: Sequence[dict[str, Any]]) -> str:
    """The last message's text with what the chat template closes an answer with (the end-of-turn token)."""
    answer = turns[-1]["content"].strip()
    rendered = tokenizer.apply_chat_template(turns, tokenize=False)
    start = rendered.rfind(answer)
    if start < 0:
        raise DataError(
            f"the base model's chat template alters this answer, so it cannot be trained on: {one_line(answer, 80)}"
        )
    closing = rendered[start + len(answer) :].rstrip()
    return str(answer + (closing or tokenizer.eos_token or ""))
