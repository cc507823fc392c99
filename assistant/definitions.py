"""Assistants: `<home>/assistants/<name>.yaml`, read, checked and written.

What the advisor tries is an assistant, too: `advice-<id>-<arm>`, in `<home>/advice/<id>/arms/`. It is found by that
name wherever an assistant is asked for, and listed nowhere.
"""

import re
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import ConfigDict, Field, ValidationError, model_validator

from assistant.decline import Measure
from data.errors import BrogueError, unknown
from data.home import NAME_PATTERN, Home, write_text
from data.settings import Frozen, first_problem
from data.yaml_files import read_mapping

MOST_CHOICES = 500  # that an engine is held to; with more its grammar takes long to build
_ADVICE = re.compile(r"^advice-([0-9a-f]{8})-.")


class Sampling(Frozen):
    """Defaults for what a client leaves open; OpenAI's names."""

    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: int | None = Field(None, ge=1)


class Brand(Frozen):
    """How the page presents an assistant."""

    title: str | None = None
    colour: str = Field("#3f5e8c", pattern=r"^#[0-9a-fA-F]{6}$")
    greeting: str = "Hello. What can I do for you?"
    examples: tuple[str, ...] = ()


class KnowledgeUse(Frozen):
    """How an assistant uses its documents, once there are some: `brogue knowledge add`."""

    use: str | None = Field(None, pattern=NAME_PATTERN, description="the assistant whose documents; none: its own")
    passages: int = Field(5, ge=1, le=20, description="that the model is shown at most")
    silent: str = Field("My documents do not say anything about that.", description="what it says when they don't")
    contact: str = Field("", description="whom to ask then, said after `silent`")
    decline_by: Measure = Field("cosine", description="what is compared: brogue knowledge calibrate finds the best")
    decline_below: float = Field(0.3, ge=0, description="what finds less is not answered from the documents")
    rewrite: bool = Field(False, description="a follow-up that finds nothing is searched for with the question before")


class Example(Frozen):
    """A question and the answer wanted, shown to the model before the conversation."""

    user: str = Field(min_length=1)
    assistant: str = Field(min_length=1)


class ExamplesFrom(Frozen):
    """Examples that are looked for anew for each question: the training records most like it."""

    dataset: str = Field(pattern=NAME_PATTERN)
    k: int = Field(5, ge=1, le=50, description="examples at most; the last one is the most similar")


class AnswerForm(Frozen):
    """What an answer has to look like; the engine can write nothing else (vLLM's structured outputs)."""

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    choices: tuple[str, ...] = Field((), max_length=MOST_CHOICES, description="one of these")
    labels_of: str | None = Field(None, pattern=NAME_PATTERN, description="one of the labels of this dataset")
    json_schema: dict[str, Any] | None = Field(None, alias="schema", description="JSON of this JSON schema")

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        given = [bool(self.choices), self.labels_of is not None, self.json_schema is not None]
        if sum(given) != 1:
            raise ValueError("answer wants one of choices, labels_of and schema")
        if not all(choice.strip() for choice in self.choices):
            raise ValueError("answer.choices holds an empty text")
        return self


class Assistant(Frozen):
    """One assistant. Clients name it as `model`."""

    name: str = Field(pattern=NAME_PATTERN)
    description: str = ""
    adapter: str | None = Field(None, description="name, name@alias or name@version; none: the base model's own voice")
    system_prompt: str | None = None
    knowledge: KnowledgeUse = KnowledgeUse()
    examples: tuple[Example, ...] = ()
    examples_from: ExamplesFrom | None = None
    answer: AnswerForm | None = None
    specialist: str | None = Field(None, pattern=NAME_PATTERN, description="a small model that answers by itself")
    sampling: Sampling = Sampling()
    brand: Brand = Brand()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.examples and self.examples_from:
            raise ValueError("wanted examples or examples_from, not both")
        beside = [key for key in ("adapter", "examples", "examples_from", "answer") if getattr(self, key)]
        if self.specialist is not None and beside:
            raise ValueError(f"a specialist answers by itself, without {' and '.join(beside)}; leave one of them out")
        return self

    @property
    def title(self) -> str:
        return self.brand.title or self.name

    @property
    def adapter_name(self) -> str | None:
        """The adapter without alias or version."""
        return self.adapter.partition("@")[0] if self.adapter else None


class _File(Assistant):
    """An assistant as a file: its name must be the file's."""

    file_name: str = Field(exclude=True)

    @model_validator(mode="after")
    def _named_as_the_file(self) -> Self:
        if self.name != self.file_name:
            raise ValueError(f"name is '{self.name}', but the file is called {self.file_name}.yaml; make them equal")
        return self


def load_assistant(path: Path) -> Assistant:
    """The assistant in the YAML file at `path`, or a one-line error with the file's name."""
    raw = read_mapping(path, "keys such as 'name:' and 'system_prompt:'")
    try:
        file = _File.model_validate(raw | {"file_name": path.stem})
    except ValidationError as error:
        raise BrogueError(f"{path}: {first_problem(error, Assistant)}") from error
    return Assistant.model_validate(file.model_dump())


def as_yaml(assistant: Assistant) -> str:
    """The definition as its file holds it: what is not said otherwise is left out."""
    said = assistant.model_dump(mode="json", exclude_defaults=True)
    return yaml.safe_dump({"name": assistant.name} | said, sort_keys=False, allow_unicode=True, width=120)


def write_assistant(path: Path, assistant: Assistant) -> Path:
    """Write the definition to `path`, whole or not at all. It is live with the next request."""
    write_text(path, as_yaml(assistant))
    return path


def list_assistants(home: Home) -> list[Assistant]:
    """All assistants, by name. A broken file raises."""
    return [load_assistant(path) for path in sorted(home.assistants.glob("*.yaml"))]


def get_assistant(home: Home, name: str) -> Assistant:
    """The assistant called `name`, or an error that lists those there are."""
    path = definition_file(home, name)
    if path is None or not path.is_file():
        known = [p.stem for p in home.assistants.glob("*.yaml")]
        raise unknown("assistant", name, known, "See: brogue assistants list")
    return load_assistant(path)


def definition_file(home: Home, name: str) -> Path | None:
    """Where the assistant called `name` stands, if it is there; none for what cannot be a name.

    Of `advice-<id>-<arm>` that is `<home>/advice/<id>/arms/advice-<id>-<arm>.yaml`.
    """
    if not re.match(NAME_PATTERN, name):
        return None
    own, advice = home.assistants / f"{name}.yaml", _ADVICE.match(name)
    return own if advice is None or own.is_file() else home.root / "advice" / advice[1] / "arms" / own.name


def is_advice(name: str) -> bool:
    """Whether an assistant or an adapter of this name belongs to the advisor, and is listed nowhere."""
    return _ADVICE.match(name) is not None


def training_prompt(home: Home, adapter: str, assistant: str | None) -> str | None:
    """The system prompt `adapter` will be served with: that of the assistant which uses it, or of the named one."""
    if assistant is not None:
        return get_assistant(home, assistant).system_prompt
    users = [a for a in list_assistants(home) if a.adapter_name == adapter]
    prompts = {a.system_prompt for a in users}
    if len(prompts) > 1:
        names = ", ".join(a.name for a in users)
        raise BrogueError(f"adapter '{adapter}' is used by {names} with different prompts; add --assistant NAME")
    return prompts.pop() if prompts else None
