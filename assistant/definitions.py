"""Assistants: `<home>/assistants/<name>.yaml`, read and checked."""

from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, model_validator

from assistant.decline import Measure
from data.errors import BrogueError, unknown
from data.home import NAME_PATTERN, Home
from data.settings import Frozen, first_problem
from data.yaml_files import read_mapping


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


class Assistant(Frozen):
    """One assistant. Clients name it as `model`."""

    name: str = Field(pattern=NAME_PATTERN)
    description: str = ""
    adapter: str | None = Field(None, description="name, name@alias or name@version; none: the base model's own voice")
    system_prompt: str | None = None
    knowledge: KnowledgeUse = KnowledgeUse()
    sampling: Sampling = Sampling()
    brand: Brand = Brand()

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


def list_assistants(home: Home) -> list[Assistant]:
    """All assistants, by name. A broken file raises."""
    return [load_assistant(path) for path in sorted(home.assistants.glob("*.yaml"))]


def get_assistant(home: Home, name: str) -> Assistant:
    """The assistant called `name`, or an error that lists those there are."""
    path = home.assistants / f"{name}.yaml"
    if "/" in name or not path.is_file():
        known = [p.stem for p in home.assistants.glob("*.yaml")]
        raise unknown("assistant", name, known, "See: brogue assistants list")
    return load_assistant(path)


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
