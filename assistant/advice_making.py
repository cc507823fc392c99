"""How each kind of arm is made, by its name. All of it ends in a definition that the gateway knows."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from assistant.advice_examples import fixed_examples
from assistant.advice_lab import Lab
from assistant.advice_prompts import best, instructions, to_train_with
from assistant.advice_task import rendered
from assistant.advice_training import Training, learnt, train
from assistant.advice_types import Arm, Ready, Records, Task
from assistant.definitions import MOST_CHOICES, AnswerForm, Assistant, ExamplesFrom, KnowledgeUse
from assistant.knowledge_manage import knowledge_folder
from data.errors import BrogueError
from data.home import write_text
from data.records import question

NEAREST = 5  # examples
PASSAGES = 3  # that a model is shown; small ones lose the thread with more
DOCUMENTS = 5_000  # training records that are indexed as documents at most: the first by a hash
_MANY = 5_000  # examples; of more, the embedding model is loaded that is the faster one for many
Need = Callable[[str], Ready]  # an arm that another one rests on, ready; it is made if it is not there


class Making(NamedTuple):
    """What a maker is handed."""

    lab: Lab
    arm: Arm
    records: Records
    need: Need

    @property
    def form(self) -> AnswerForm | None:
        """What its answers are held to."""
        return form_of(self.lab.task) if self.arm.constrained else None

    @property
    def definition_name(self) -> str:
        return self.lab.name(self.arm.name, len(self.records.train) if self.arm.learns else None)

    def instruction(self) -> str | None:
        """The one that did best: with constrained answers, of those with constrained answers."""
        name = "prompt-constrained" if self.arm.constrained else "prompt"
        return self.need(name).definition.system_prompt

    def ready(self, definition: Assistant, rows: int, began: float | None = None, **found: object) -> Ready:
        """`began`: since when the minutes count, as time.monotonic does."""
        minutes = {} if began is None else {"minutes": round((time.monotonic() - began) / 60, 3)}
        return Ready.model_validate({"arm": self.arm.name, "rows": rows, "definition": definition} | minutes | found)


def form_of(task: Task) -> AnswerForm | None:
    """What answers can be held to: the labels of texts, or the JSON schema; none where there is neither."""
    if task.kind == "labels" and 2 <= len(task.labels) <= MOST_CHOICES:
        return AnswerForm(choices=task.labels)
    return AnswerForm(json_schema=task.answer_schema) if task.answer_schema is not None else None


def prompt(making: Making) -> Ready:
    """The instruction that does best on validation records."""
    began = time.monotonic()
    found = instructions(making.lab.task, making.records)
    text, note = best(making.lab, making.arm, making.records, making.form, found)
    definition = making.lab.define(making.definition_name, making.arm, system_prompt=text, answer=making.form)
    return making.ready(definition, 0, began, notes=(note,))


def few_shot_fixed(making: Making) -> Ready:
    """The same examples for every question."""
    lab, began = making.lab, time.monotonic()
    examples = fixed_examples(lab.task, making.records.train, lab.base.context_length)
    definition = lab.define(making.definition_name, making.arm, system_prompt=making.instruction(), examples=examples,
                            answer=making.form)  # fmt: skip
    size = sum(len(f"{one.user}{one.assistant}".encode()) for one in examples)
    return making.ready(definition, len(examples), began, bytes=size)


def few_shot_nearest(making: Making) -> Ready:
    """The training examples that are most like the question."""
    began = time.monotonic()
    definition, size = _with_nearest(making, system_prompt=making.instruction())
    return making.ready(definition, len(making.records.train), began, bytes=size)


def _with_nearest(making: Making, **fields: object) -> tuple[Assistant, int]:
    """A definition with the nearest examples, and the bytes of what they are looked for in.

    They are embedded here: the gateway finds them, and none of its questions waits for that.
    """
    from assistant.embeddings import open_embedder
    from assistant.nearest_examples import load_examples

    lab = making.lab
    dataset = lab.dataset(making.records)
    many = len(making.records.train) > _MANY
    load_examples(lab.home, dataset.name, open_embedder(lab.settings.knowledge, lab.home, many, lab.tell), lab.tell)
    definition = lab.define(making.definition_name, making.arm, answer=making.form,
                            examples_from=ExamplesFrom(dataset=dataset.name, k=NEAREST), **fields)  # fmt: skip
    return definition, sum(size_of(where / dataset.name) for where in (lab.home.datasets, lab.home.examples))


def rag(making: Making) -> Ready:
    """Passages of the documents; without any, the training examples are the documents."""
    lab = making.lab
    if making.arm.constrained:  # the other one's index
        other = making.need("rag")
        definition = lab.define(making.definition_name, making.arm, system_prompt=making.instruction(),
                                knowledge=other.definition.knowledge, answer=making.form)  # fmt: skip
        return making.ready(definition, other.rows, minutes=other.minutes, bytes=other.bytes, notes=other.notes)
    began, name = time.monotonic(), making.definition_name
    use = KnowledgeUse(use=name, passages=PASSAGES, decline_below=0)  # declining would never be right here
    definition = lab.define(name, making.arm, system_prompt=making.instruction(), knowledge=use)
    note, rows = _index(lab, name, making.records)
    size = size_of(knowledge_folder(lab.home, name))
    return making.ready(definition, rows, began, bytes=size, notes=(note,))


def _index(lab: Lab, name: str, records: Records) -> tuple[str, int]:
    """Index the documents under a name; what is there already is not read again. What was read, in words."""
    from assistant.knowledge_documents import add_documents

    source = lab.knowledge or _as_documents(lab, records)
    done = add_documents(lab.home, name, [source], lab.tell)
    if not done.passages:
        raise BrogueError(f"nothing could be indexed: {done.problems[0] if done.problems else f'{source} is empty'}")
    left = f", {len(done.problems)} files could not be read" if done.problems else ""
    return f"{done.passages} passages{left}", 0 if lab.knowledge else min(DOCUMENTS, len(records.train))


def _as_documents(lab: Lab, records: Records) -> Path:
    """The training records as files, each a passage."""
    folder = lab.folder / "documents" / str(len(records.train))
    named = {"labels": ("Text", "Label")}.get(lab.task.kind, ("Question", "Answer"))
    for row in records.train[:DOCUMENTS]:
        path = folder / f"{row.id}.txt"
        if not path.exists():
            write_text(path, f"{named[0]}: {question(row.record)}\n{named[1]}: {rendered(row)}\n")
    return folder


def specialist(making: Making) -> Ready:
    """A small model of its own; the arm is named by its kind."""
    from assistant.specialists import train_specialist

    lab, name = making.lab, making.definition_name
    card = train_specialist(lab.home, name, making.arm.name, lab.task, making.records, lab.tell)
    definition = lab.define(name, making.arm, specialist=name)
    return making.ready(definition, card.rows, minutes=round(card.seconds / 60, 3), trained=card.trained,
                        bytes=card.bytes, notes=card.notes)  # fmt: skip


def trained(recipe: str | None = None, method: str = "lora") -> Callable[[Making], Ready]:
    """A maker of trained weights, by the recipe of the records' kind, or that one."""

    def make(making: Making) -> Ready:
        lab = making.lab
        wanted = recipe or ("labelled" if lab.task.kind in ("labels", "tags") else "sft")
        told, notes = lab.task.system_prompt, list[str]()  # `labelled` puts an instruction of its own behind it
        if wanted == "instruct":
            some = to_train_with(lab.task, making.records)
            told, note = best(lab, making.arm, making.records, making.form, some)
            notes.append(note)
        dataset = lab.dataset(making.records, as_instructions=wanted == "instruct")
        adapter = lab.name(making.arm.name)
        card = train(lab, Training(adapter=adapter, recipe=wanted, method=method, system_prompt=told), dataset)
        definition = lab.define(making.definition_name, making.arm, adapter=card.name, answer=making.form,
                                system_prompt=card.system_prompt)  # fmt: skip
        count, size = learnt(lab, card)
        return making.ready(definition, len(making.records.train), minutes=card.minutes, trained=count, bytes=size,
                            notes=tuple(notes))  # fmt: skip

    return make


def lora_rag(making: Making) -> Ready:
    """Trained weights, and passages of the documents."""
    tuned, other = making.need("sft-lora"), making.need("rag")
    definition = making.lab.define(
        making.definition_name, making.arm, adapter=tuned.definition.adapter, answer=making.form,
        system_prompt=tuned.definition.system_prompt, knowledge=other.definition.knowledge,
    )  # fmt: skip
    return making.ready(definition, tuned.rows, minutes=round(tuned.minutes + other.minutes, 3),
                        trained=tuned.trained, bytes=tuned.bytes + other.bytes)  # fmt: skip


def lora_few_shot(making: Making) -> Ready:
    """Trained weights, and the nearest examples."""
    tuned = making.need("sft-lora")
    definition, size = _with_nearest(making, adapter=tuned.definition.adapter,
                                     system_prompt=tuned.definition.system_prompt)  # fmt: skip
    return making.ready(definition, tuned.rows, minutes=tuned.minutes, trained=tuned.trained, bytes=tuned.bytes + size)


def size_of(folder: Path) -> int:
    """The bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
