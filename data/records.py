"""One record of a dataset, by kind: validated, with an id and a split that follow from its content alone.

`chat` holds a conversation, `instruction` a prompt and its response; both can be read as messages. Messages have
OpenAI's shape (role, content).
"""

import hashlib
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from data.settings import Frozen

Kind = Literal["chat", "instruction"]
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
        turns = self.messages[1:] if self.messages and self.messages[0].role == "system" else self.messages
        if not turns:
            raise ValueError("conversation is empty")
        for number, message in enumerate(turns):
            wanted = "user" if number % 2 == 0 else "assistant"
            if message.role != wanted:
                raise ValueError(f"turn {number + 1} is by '{message.role}', wanted '{wanted}'")
            if not message.content.strip():
                raise ValueError(f"turn {number + 1} is empty (role '{message.role}')")
        if turns[-1].role != "assistant":
            raise ValueError("the last turn is not by 'assistant'")
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


Record = Annotated[ChatRecord | InstructionRecord, Field(discriminator="kind")]


def record_id(record: ChatRecord | InstructionRecord) -> str:
    """12 hex digits of the content's sha256; equal content has equal ids."""
    text = "\x1e".join(f"{m.role}\x1f{m.content}" for m in record.messages)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def assign_split(record: ChatRecord | InstructionRecord, shares: tuple[int, int, int]) -> Split:
    """The record's split, from a hash of its first question.

    The same question always falls into the same split, whatever its answer, case or spacing, so that nothing that was
    trained on is examined. `shares` are percentages of train, validation and test that add up to 100.
    """
    question = next(m.content for m in record.messages if m.role == "user")
    digest = hashlib.sha256(" ".join(question.casefold().split()).encode()).digest()
    position = int.from_bytes(digest[:8], "big") % 10_000 / 100
    if position < shares[0]:
        return "train"
    return "validation" if position < shares[0] + shares[1] else "test"
