"""Where the advisor's arms are made: datasets without a test row, definitions that can be asked, what was made before.

Everything has a name that follows from what it is made of and is kept on disk, so that what a kill left is taken up.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.base_model import BaseModel
from adapters.exam_asking import Gateway
from adapters.exam_kept import Kept, key_of
from assistant.advice_files import folder
from assistant.advice_task import rendered
from assistant.advice_types import Arm, Ready, Records, Task
from assistant.definitions import Assistant, Sampling, definition_file, write_assistant
from data.dataset import DatasetCard, Row, load_card, save_dataset
from data.errors import BrogueError, UnknownName
from data.home import Home, write_json
from data.records import ChatRecord, InstructionRecord, Split, question
from data.settings import load_settings

if TYPE_CHECKING:
    from adapters.likelihood import Likelihoods
    from assistant.compose import Composer

WATCHED = 100  # validation records that a training looks at; it need not look at more to see when it learns by heart
Tell = Callable[[str], None]


class Lab:
    """One task, one base model, one gateway. `home` need not hold the task's dataset: arms are made of records."""

    def __init__(self, home: Home, id: str, task: Task, base: BaseModel, gateway: Gateway, seed: int, tell: Tell,
                 knowledge: Path | None = None) -> None:  # fmt: skip
        self.home, self.id, self.task, self.base = home, id, task, base
        self.gateway, self.seed, self.tell, self.knowledge = gateway, seed, tell, knowledge
        self.settings = load_settings(home.settings_file)
        self.folder, self.kept = folder(home, id), Kept(home)

    def name(self, arm: str, rows: int | None = None) -> str:
        """What an arm's definition, adapter or specialist is called; `rows` where it learns from them."""
        found = f"advice-{self.id}-{arm.replace('+', '-')}"
        return found if rows is None else f"{found}-{rows}"

    def define(self, name: str, arm: Arm, **fields: Any) -> Assistant:
        """Write the definition by which the gateway knows an arm; what is none is left out."""
        sampling = Sampling(temperature=0, max_tokens=self.task.max_tokens)
        given = {"name": name, "description": arm.title, "sampling": sampling} | fields
        definition = Assistant.model_validate({key: value for key, value in given.items() if value is not None})
        self.write(definition)
        return definition

    def write(self, definition: Assistant) -> None:
        """Let the gateway answer by it from the next request on."""
        path = definition_file(self.home, definition.name)
        if path is None:
            raise BrogueError(f"an arm cannot be called '{definition.name}': too long")
        write_assistant(path, definition)

    # --- what was made before ---

    def recall(self, name: str, made_of: str) -> Ready | None:
        """What was made under that name, of the very same."""
        try:
            kept = json.loads(self._ready(name).read_text(encoding="utf-8"))
            if kept["made_of"] != made_of:
                return None
            found = Ready.model_validate(kept["ready"])
        except (OSError, ValueError, KeyError):  # never made, or by another Brogue
            return None
        self.write(found.definition)
        return found

    def keep(self, name: str, made_of: str, ready: Ready) -> Ready:
        """Write down what was made, whole, once it is there."""
        write_json(self._ready(name), {"made_of": made_of, "ready": ready.model_dump(mode="json")})
        return ready

    def _ready(self, name: str) -> Path:
        return self.folder / "ready" / f"{name}.json"

    # --- its records as a dataset ---

    def dataset(self, records: Records, as_instructions: bool = False) -> DatasetCard:
        """The dataset `advice-<id>-<rows>` of the train and validation records: never a test record.

        `as_instructions`: questions and answers of one turn, as the recipe `instruct` wants them.
        """
        name = f"advice-{self.id}-{len(records.train)}" + ("-instructions" if as_instructions else "")
        watched = [row for row in records.validation if row.synthetic_of is None][:WATCHED]
        rows = [*_in_split(records.train, "train"), *_in_split(watched, "validation")]
        if as_instructions:
            rows = [row.model_copy(update={"record": as_instruction(row)}) for row in rows]
        digest = digest_of(records, as_instructions)
        try:
            if (found := load_card(self.home, name)).source_sha256 == digest:
                return found
        except UnknownName:
            pass
        origin = f"the train and validation records of {self.task.dataset}, for brogue advise"
        return save_dataset(self.home, name, rows, self.task.dataset, digest, {}, None, replace=True, origin=origin)

    # --- what rooms share ---

    @property
    def kept_as(self) -> str:
        """The file of answers: the same dataset and base model asked again under another id find them."""
        return f"advice-{self.task.digest[:12]}-{self.base.sha256[:12]}"

    @cached_property
    def likelihoods(self) -> "Likelihoods":
        """The model that tells how likely answers are; loaded here, beside the engine."""
        from adapters.likelihood import Likelihoods
        from adapters.registry import Registry

        return Likelihoods(Registry(self.home), self.base)

    @cached_property
    def composer(self) -> "Composer":
        """What the gateway makes of a request, for what is not asked there."""
        from adapters.counting import token_counter
        from adapters.template import template_tokens
        from assistant.base_facts import BaseFacts
        from assistant.compose import Composer
        from assistant.knowledge import Knowledge
        from assistant.knowledge_answer import Answers

        count, path = token_counter(self.base.path), Path(self.base.path)
        facts = BaseFacts(lambda text: count([text])[0], self.base.context_length, template_tokens(path))
        return Composer(
            self.home, self.base.supports_system, Answers(Knowledge(self.home, self.settings.knowledge), facts)
        )


def digest_of(records: Records, *more: Any) -> str:
    """Hash of the records that arms are made of: train and validation with their weights."""
    used = [[[row.id, row.weight] for row in split] for split in (records.train, records.validation)]
    return hashlib.sha256(json.dumps([used, *more]).encode()).hexdigest()


def made_of(lab: Lab, arm: Arm, records: Records, needed: Sequence[Any]) -> str:
    """What an arm follows from: if none of it has changed, it need not be made again."""
    return key_of(arm.model_dump(), digest_of(records), lab.task.model_dump(), lab.base.sha256, lab.seed,
                  str(lab.knowledge), list(needed))  # fmt: skip


def as_instruction(row: Row) -> InstructionRecord:
    """A record as one question and its answer. Raises `BrogueError` for a conversation of several turns."""
    record = row.record
    if isinstance(record, InstructionRecord):
        return record
    system = None
    if isinstance(record, ChatRecord):
        system = record.messages[0].content if record.messages[0].role == "system" else None
        if len(record.messages) > 2 + (system is not None):
            raise BrogueError("conversations of several turns are no single instructions")
    return InstructionRecord(prompt=question(record), response=rendered(row), system=system)


def single(rows: Iterable[Row]) -> bool:
    """Whether all are one question with one answer."""
    return all(not isinstance(r.record, ChatRecord) or sum(m.role == "user" for m in r.record.messages) == 1
               for r in rows)  # fmt: skip


def _in_split(rows: Iterable[Row], split: Split) -> list[Row]:
    return [row if row.split == split else row.model_copy(update={"split": split}) for row in rows]
