"""One record of a dataset, by kind: validated, with an id and a split that follow from its content alone.

`chat` holds a conversation, `instruction` a prompt and its response: both can be trained on as messages. `labelled`
holds a text and its label, or tokens and their tags; `preference` two answers to one conversation, `ranking` several,
`rated` one that was found good or bad.
Messages have OpenAI's shape (role, content).
"""

import hashlib
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from data.errors import DataError
from data.settings import Frozen

Kind = Literal["chat", "instruction", "labelled", "preference", "ranking", "rated"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class Message(Frozen):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class ChatRecord(Frozen):
    """A conversation: an optional system message, then user and assistant in turn, ending with the assistant."""

    kind: Literal["chat"] = "chat"
    messages: tuple[Message, ...]

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_turns(self.messages, "assistant")
        return self


class InstructionRecord(Frozen):
    """A prompt and the response wanted, with an optional system message of its own."""

    kind: Literal["instruction"] = "instruction"
    prompt: str
    response: str
    system: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        for column in ("prompt", "response"):
            if not getattr(self, column).strip():
                raise ValueError(f"{column} is empty")
        return self

    @property
    def messages(self) -> tuple[Message, ...]:
        """The record as a conversation of one question and one answer."""
        system = (Message(role="system", content=self.system),) if self.system else ()
        question = Message(role="user", content=self.prompt)
        return (*system, question, Message(role="assistant", content=self.response))


class LabelledRecord(Frozen):
    """A text and its label (classification), or tokens and a tag for each (named entities)."""

    kind: Literal["labelled"] = "labelled"
    text: str | None = None
    label: str | None = None
    tokens: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.tokens is None:
            for column in ("text", "label"):
                if not (getattr(self, column) or "").strip():
                    raise ValueError(f"{column} is empty")
        elif len(self.tokens) != len(self.tags or ()):
            raise ValueError(f"{len(self.tokens)} tokens, but {len(self.tags or ())} tags")
        elif not self.tokens or not all(t.strip() for t in (*self.tokens, *(self.tags or ()))):
            raise ValueError("a token or a tag is empty")
        return self


class PreferenceRecord(Frozen):
    """A conversation that ends with the user, and two answers to it: the chosen one is better, or it is a tie."""

    kind: Literal["preference"] = "preference"
    messages: tuple[Message, ...]
    chosen: str
    rejected: str
    tie: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_turns(self.messages, "user")
        for column in ("chosen", "rejected"):
            if not getattr(self, column).strip():
                raise ValueError(f"{column} is empty")
        if self.chosen == self.rejected and not self.tie:
            raise ValueError("chosen and rejected are the same text")
        return self


class RankingRecord(Frozen):
    """A conversation that ends with the user, and replies to it with their ranks: 0 is best, equal ranks are a tie."""

    kind: Literal["ranking"] = "ranking"
    messages: tuple[Message, ...]
    replies: tuple[str, ...]
    ranks: tuple[int, ...]

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_turns(self.messages, "user")
        if len(self.replies) < 2:
            raise ValueError(f"{len(self.replies)} replies, wanted at least 2")
        if len(self.replies) != len(self.ranks):
            raise ValueError(f"{len(self.replies)} replies, but {len(self.ranks)} ranks")
        if not all(reply.strip() for reply in self.replies):
            raise ValueError("a reply is empty")
        if set(self.ranks) != set(range(len(set(self.ranks)))):
            raise ValueError(f"ranks are {list(self.ranks)}, wanted 0 for the best and no gaps")
        return self


class RatedRecord(Frozen):
    """A conversation whose last answer was found good, or bad."""

    kind: Literal["rated"] = "rated"
    messages: tuple[Message, ...]
    good: bool

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_turns(self.messages, "assistant")
        return self


AnyRecord = ChatRecord | InstructionRecord | LabelledRecord | PreferenceRecord | RankingRecord | RatedRecord
Record = Annotated[AnyRecord, Field(discriminator="kind")]


def _check_turns(messages: tuple[Message, ...], last: Literal["user", "assistant"]) -> None:
    turns = messages[1:] if messages and messages[0].role == "system" else messages
    if not turns:
        raise ValueError("conversation is empty")
    for number, message in enumerate(turns):
        wanted = "user" if number % 2 == 0 else "assistant"
        if message.role != wanted:
            raise ValueError(f"turn {number + 1} is by '{message.role}', wanted '{wanted}'")
        if not message.content.strip():
            raise ValueError(f"turn {number + 1} is empty (role '{message.role}')")
    if turns[-1].role != last:
        raise ValueError(f"the last turn is not by '{last}'")


def conversation(record: AnyRecord) -> tuple[Message, ...]:
    """The messages to train on: of `chat` and `instruction` records only."""
    if isinstance(record, ChatRecord | InstructionRecord):
        return record.messages
    raise DataError(f"'{record.kind}' records cannot be trained on as conversations; wanted 'chat' or 'instruction'")


def question(record: AnyRecord) -> str:
    """The first question, or a labelled record's text: what decides the split."""
    if isinstance(record, LabelledRecord):
        return record.text if record.text is not None else " ".join(record.tokens or ())
    return next(m.content for m in record.messages if m.role == "user")


def answer(record: AnyRecord) -> str:
    """What is to be learnt: the last answer, the chosen one, the best one; a labelled record's label or tags."""
    if isinstance(record, LabelledRecord):
        return record.label or " ".join(record.tags or ())
    if isinstance(record, PreferenceRecord):
        return record.chosen
    if isinstance(record, RankingRecord):
        return record.replies[record.ranks.index(0)]
    return record.messages[-1].content


def record_id(record: AnyRecord) -> str:
    """12 hex digits of the content's sha256; equal content has equal ids."""
    if isinstance(record, ChatRecord | InstructionRecord):
        text = "\x1e".join(f"{m.role}\x1f{m.content}" for m in record.messages)
    else:
        text = record.model_dump_json()
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def question_key(record: AnyRecord) -> str:
    """The first question (a labelled record's text) without its case and spacing."""
    return " ".join(question(record).casefold().split())


def assign_split(record: AnyRecord, shares: tuple[int, int, int]) -> Split:
    """The record's split, from a hash of its first question (a labelled record's text).

    The same question always falls into the same split, whatever its answer, case or spacing, so that nothing that was
    trained on is examined. `shares` are percentages of train, validation and test that add up to 100.
    """
    return split_at(position(question_key(record)), shares)


def position(key: str) -> float:
    """Where `key` lies between 0 and 100: evenly spread, and always the same for the same key."""
    return place_of(hash_of(key))


def hash_of(key: str) -> str:
    """The first 16 hex digits of the key's sha256."""
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def place_of(hashed: str) -> float:
    """The `position` of the key that has this hash."""
    return int(hashed, 16) % 10_000 / 100


def split_at(percent: float, shares: tuple[int, int, int]) -> Split:
    """The split in which a position between 0 and 100 lies."""
    if percent < shares[0]:
        return "train"
    return "validation" if percent < shares[0] + shares[1] else "test"
