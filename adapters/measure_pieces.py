"""What measures of held-out records share: their options, the records as questions, small sums."""

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from adapters.exam_types import Arm, Item, Messages, Part, Room
from adapters.measure_data import last_question
from data.dataset import Row
from data.errors import BrogueError, DataError
from data.records import AnyRecord, ChatRecord, InstructionRecord, LabelledRecord, RatedRecord, Split, question
from data.settings import Frozen, first_problem


class AskOptions(Frozen):
    """What every measure takes that asks a dataset's questions."""

    split: Split = "test"
    max_tokens: int | None = Field(None, ge=1, description="of an answer; none: what the exam gives")

    @property
    def sampling(self) -> dict[str, Any]:
        """What of it goes to the engine."""
        return {} if self.max_tokens is None else {"max_tokens": self.max_tokens}


Options = TypeVar("Options", bound=Frozen)


def options(part: Part, model: type[Options]) -> Options:
    """A part's options, typed. Raises `BrogueError`, which names the options there are."""
    try:
        return model.model_validate(part.options)
    except ValidationError as error:
        raise BrogueError(f"options of '{part.prefix}': {first_problem(error, model)}") from error


def held_out(room: Room, part: Part) -> list[Row]:
    """The part's records. Raises `DataError` if there is none."""
    rows = room.rows(part)
    if not rows:
        raise DataError(
            f"'{part.prefix}' has no held-out records in {part.data or 'its data'}; wanted at least 1. "
            "Import it with a test split: brogue data import FILE --into NAME --split 80/10/10"
        )
    return rows


def messages(record: AnyRecord) -> list[dict[str, Any]]:
    """What is asked: a conversation up to its last answer, or a labelled record's text."""
    if isinstance(record, LabelledRecord):
        return [{"role": "user", "content": question(record)}]
    asked = [message.model_dump() for message in record.messages]
    return asked[:-1] if isinstance(record, ChatRecord | InstructionRecord | RatedRecord) else asked


def item(row: Row, asked: Messages, answers: dict[Arm, str] | None = None, slice: str | None = None) -> Item:
    """A record for the report, by the last thing that was said to the model."""
    return Item(last_question(asked), answers or {}, slice, row.group)


def preferred(margin: float) -> float:
    """1 where the margin is above 0, 0 below it, a half for a tie."""
    return 0.5 if margin == 0 else float(margin > 0)


def sums(likelihoods: Sequence[Sequence[float]]) -> list[float]:
    """The log-probability of each text, in nats."""
    return [float(sum(tokens)) for tokens in likelihoods]
