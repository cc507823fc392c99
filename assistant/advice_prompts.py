"""Instructions that are tried for a task, and which of them does best on validation records: never on test records.

They are made of the task alone: its labels, the form and the length of its answers. They are English whatever the
records' language is: instruction-tuned models follow English instructions best, and answer in the question's language.
"""

import json
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from adapters.measure_task import words
from adapters.recipes import labelling_prompt
from assistant.advice_figures import decides
from assistant.advice_lab import Lab
from assistant.advice_room import ArmRoom
from assistant.advice_task import rendered
from assistant.advice_types import Arm, Ready, Records, Task
from assistant.definitions import AnswerForm
from data.dataset import Row
from data.records import InstructionRecord, LabelledRecord, PreferenceRecord, question

TRIED = 40  # validation records that each instruction is tried on
_LISTED = 8_000  # characters of labels that an instruction may list
_TRAINED = 800  # characters of an instruction that stands before every record in a training
_FEW_WORDS = 6
_COPIED = 0.6  # of the answers stand in their questions: then they can be copied


class Instruction(NamedTuple):
    """What the model is told."""

    name: str
    text: str | None


def instructions(task: Task, records: Records) -> list[Instruction]:
    """The instructions to try, each in front of nothing or behind the task's own system prompt; none says the same."""
    known = [*records.train, *records.validation]
    if task.kind == "labels":
        found = [Instruction("short", labelling_prompt(None, known)), *_labels(task)]
    elif task.kind == "tags":
        found = [Instruction("short", labelling_prompt(None, known)), Instruction("explicit", _tags(task))]
    elif task.kind == "pairs":
        found = [Instruction("plain", None), *_better(known)]
    else:
        found = [Instruction("plain", None), *_answers(task, known)]
    joined = [one._replace(text="\n\n".join(filter(None, [task.system_prompt, one.text])) or None) for one in found]
    return list({one.text: one for one in joined}.values())


def to_train_with(task: Task, records: Records) -> list[Instruction]:
    """Those that weights may be trained with beside the first, which `sft-lora` is told: long ones make it slow."""
    return [one for one in instructions(task, records)[1:] if len(one.text or "") <= _TRAINED]


def best(lab: Lab, arm: Arm, records: Records, form: AnswerForm | None,
         found: Sequence[Instruction]) -> tuple[str | None, str]:  # fmt: skip
    """The instruction with the best figure on validation records, and how that was found; equal ones: the first."""
    rows = records.validation[:TRIED]
    if len(found) == 1 or not rows:
        return found[0].text, f"instruction: {found[0].name}; there was no other to try"
    values = []
    for one in found:
        lab.tell(f"{arm.title}: trying the {one.name} instruction")
        definition = lab.define(f"{lab.name(arm.name)}-try-{one.name}", arm, system_prompt=one.text, answer=form)
        room = ArmRoom(lab, Ready(arm=arm.name, rows=0, definition=definition), rows)
        values.append(decides(lab.task, room, rows))
    sign = -1 if lab.task.better == "lower" else 1
    chosen = max(range(len(found)), key=lambda n: sign * values[n])
    tried = ", ".join(f"{one.name} {value:.3f}" for one, value in zip(found, values, strict=True))
    return found[chosen].text, f"instruction: {found[chosen].name} ({len(rows)} validation records: {tried})"


def _labels(task: Task) -> list[Instruction]:
    listed = "\n".join(f"- {label}" for label in task.labels)
    if len(listed) > _LISTED:
        return []
    return [Instruction(
        "explicit",
        "You sort texts. Read what the user writes and choose the one label that fits it best. Write that label and "
        f"nothing else, exactly as it stands in this list:\n{listed}",
    )]  # fmt: skip


def _tags(task: Task) -> str:
    kinds = sorted({label[2:] for label in task.labels if label.startswith("B-")})
    if not kinds:
        return (
            "Tag every word of the text. Write each word on a line of its own, then a blank, then its tag: one of "
            f"{', '.join(task.labels)}. Leave no word out and add nothing else."
        )
    return (
        "Find the names in the text. Write each word on a line of its own, then a blank, then its tag: B- and the "
        "kind for the first word of a name, I- and the kind for its further words, O for every other word. Kinds: "
        f"{', '.join(kinds)}. Leave no word out and add nothing else. It looks like this:\nabout O\nJane B-{kinds[0]}\n"
        f"Roe I-{kinds[0]}"
    )


def _answers(task: Task, rows: Sequence[Row]) -> list[Instruction]:
    if task.answer_schema is not None:
        fields = json.dumps(task.answer_schema.get("properties", task.answer_schema), ensure_ascii=False)
        return [Instruction("object", f"Answer with one JSON object and nothing else. Its fields: {fields}")]
    said = [rendered(row) for row in rows]
    length = median(len(words(text)) for text in said)
    if length > _FEW_WORDS:
        about = f"Answer in about {_round(length)} words." if length < 200 else "Answer in detail."
        return [Instruction("length", f"{about} Write only the answer.")]
    found = [Instruction("short", "Answer in as few words as possible: only the answer itself, no sentence around it.")]
    inside = sum(text.casefold() in _asked(row).casefold() for row, text in zip(rows, said, strict=True))
    if inside >= _COPIED * len(rows):
        found.append(Instruction("copy", "Copy the answer out of the text, word for word: the shortest piece that "
                                         "answers the question, and nothing else."))  # fmt: skip
    return found


def _better(rows: Sequence[Row]) -> list[Instruction]:
    """What the better answers have in common, as far as that can be seen: their length."""
    pairs = [row.record for row in rows if isinstance(row.record, PreferenceRecord) and not row.record.tie]
    longer = sum(len(pair.chosen) > len(pair.rejected) for pair in pairs) / max(1, len(pairs))
    found = [Instruction("good", "Give the answer that the user likes best: correct, complete and friendly.")]
    if pairs and not 0.35 < longer < 0.65:
        how = "fully and in detail" if longer > 0.5 else "briefly and to the point"
        found.append(Instruction("length", f"Answer {how}: users like that better."))
    return found


def _asked(row: Row) -> str:
    record = row.record
    if isinstance(record, InstructionRecord):
        return f"{record.system or ''}\n{record.prompt}"
    return question(record) if isinstance(record, LabelledRecord) else "\n".join(
        m.content for m in record.messages if m.role != "assistant"
    )  # fmt: skip


def _round(length: float) -> int:
    return max(10, 10 * round(length / 10))
