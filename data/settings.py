"""`brogue.toml`: one frozen, typed layer of settings. Unknown keys are refused; the effective values are logged.

A missing file means all defaults. `None` means "chosen from the machine" (see serve/hardware.py).
"""

import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self, get_args
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, Field, ValidationError, model_validator

from data.errors import BrogueError, one_line
from data.frozen import STARTER_MODEL as STARTER_MODEL
from data.frozen import Frozen as Frozen
from data.settings_gateway import Address as Address
from data.settings_gateway import GatewaySettings as GatewaySettings
from data.settings_gateway import PageSettings as PageSettings
from data.settings_jobs import FileSettings, JobSettings
from data.settings_knowledge import KnowledgeSettings
from data.settings_telemetry import TelemetrySettings

Logging = Literal["full", "redacted", "off"]  # what is kept of what people write: all, redacted, or nothing


class EngineSettings(Frozen):
    """How the vLLM engine is started."""

    device: Literal["auto", "cpu", "gpu"] = "auto"
    dtype: str = "auto"
    max_model_len: int | None = Field(None, ge=64, description="tokens; none: the model's own, at most 4096 on a CPU")
    max_num_seqs: int | None = Field(
        None, ge=1, description="requests in one batch; none: 16 on a CPU, vLLM's on a GPU"
    )
    max_loras: int = Field(4, ge=1, description="adapters in one batch; keep it above the number of live versions")
    max_cpu_loras: int = Field(16, ge=1, description="adapters kept in memory")
    max_lora_rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] = 16
    max_own_engines: int | None = Field(
        None, ge=0, description="engines of versions that cannot share the base model's; none: one for every 4 cores"
    )
    tool_call_parser: str = Field(
        "hermes", pattern=r"^[A-Za-z0-9_]+$",
        description="the base model's way to call tools, by vLLM's name of it; 'none': no tools are called",
    )  # fmt: skip
    kv_cache_gib: float | None = Field(None, gt=0, description="none: from the model's size and free memory (CPU)")
    cpu_cores: str | None = Field(None, description="cores of the engine, such as '0-3'; none: all that we may use")
    preload_openmp: bool = Field(True, description="preload Intel's OpenMP runtime on a CPU")
    gpu_memory_utilization: float = Field(0.85, gt=0, le=1)
    media_domains: tuple[str, ...] = Field(
        (), description="hosts that pictures in messages may be fetched from, for a base model that sees; none: nowhere"
    )
    start_timeout_s: int = Field(600, ge=10)
    extra_args: tuple[str, ...] = Field((), description="appended to vLLM's command line as they are")
    count: int = Field(1, ge=1, le=64, description="engines to start here, each with the whole base model")
    urls: tuple[Annotated[str, Field(pattern=r"^https?://[^/?#@\s]+/?$")], ...] = Field(
        (), description="engines that somebody else starts, such as http://gpu-1:8000; with any, none is started here"
    )
    router: Annotated[str, Field(pattern=r"^https?://[^/?#@\s]+/?$")] | None = Field(
        None, description="a vllm-router before the engines of urls, such as http://router:30000"
    )
    quorum: int | None = Field(
        None, ge=1, description="engines that must have answered with a version before it goes live; none: all"
    )
    copies: int | None = Field(None, ge=1, description="engines that hold an adapter; none: all of them")

    @property
    def engines(self) -> int:
        """How many there are, here or elsewhere."""
        return len(self.urls) or self.count

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.urls)) < len(self.urls):
            raise ValueError("urls names an engine twice")
        if self.router is not None and not self.urls:
            raise ValueError("router wants urls beside it: adapters are loaded into each engine directly")
        held = min(self.copies or self.engines, self.engines)
        if self.quorum is not None and self.quorum > held:
            raise ValueError(f"quorum = {self.quorum} can never be reached: {held} engines hold an adapter")
        return self


class TrainingSettings(Frozen):
    """What is done with a training's figures beside writing them to the run's folder."""

    report_to: tuple[Literal["tensorboard", "mlflow", "trackio"], ...] = Field(
        (), description="followed there too; each is a package to be installed"
    )


class PriceSettings(Frozen):
    """What answers cost: by the token, by the machine's hour, or both. Without prices nothing is reckoned."""

    currency: str = Field("", max_length=8, description="printed behind prices, such as EUR")
    prompt_per_million: float = Field(0, ge=0, allow_inf_nan=False, description="a million tokens of prompts")
    answer_per_million: float = Field(0, ge=0, allow_inf_nan=False, description="a million tokens of answers")
    machine_per_hour: float = Field(0, ge=0, allow_inf_nan=False, description="an hour of the machine")
    answers_at_once: int | None = Field(
        None, ge=1, description="that share the machine; wanted with machine_per_hour: one alone would pay all of it"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.machine_per_hour and self.answers_at_once is None:
            raise ValueError("machine_per_hour wants answers_at_once beside it: how many answers share the machine")
        return self

    @property
    def known(self) -> bool:
        """Is there any price?"""
        return bool(self.prompt_per_million or self.answer_per_million or self.machine_per_hour)


class LoopSettings(Frozen):
    """When `brogue retrain` finds enough to learn from, and how it divides that."""

    min_judgements: int = Field(20, ge=2, description="fewer that the recipe can learn from are refused")
    every: int = Field(50, ge=1, description="new judgements that --watch waits for")
    split: tuple[int, int, int] = Field((60, 10, 30), description="percent of train, validation and test")

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if sum(self.split) != 100 or min(self.split) < 0 or not self.split[0] or not self.split[2]:
            raise ValueError("split wants three percentages that add up to 100, with something in train and in test")
        return self


class AdvisorSettings(Frozen):
    """What `brogue advise` tries, and for how long."""

    budget_minutes: float = Field(30, gt=0, allow_inf_nan=False, description="for all of it; --budget goes before it")
    other_bases: tuple[str, ...] = Field(
        (), description="further base models to try: 'starter', Hugging Face ids, folders; one engine more at a time"
    )


class StoreSettings(Frozen):
    """Where answers and judgements are kept, and how much of them."""

    url: str | None = Field(None, description="sqlite:///FILE or postgresql://USER@HOST/NAME; none: <home>/store.db")
    logging: Logging = "full"

    @property
    def has_password(self) -> bool:
        """Whether the address holds a password: settings are logged and handed to other processes."""
        try:
            parts = urlsplit(self.url or "")
            return parts.password is not None or "password" in parse_qs(parts.query)
        except ValueError:
            return "@" in (self.url or "")  # it cannot be read; what opens the store tells what is wrong with it


class SharedSettings(Frozen):
    """What the homes of several gateways have in common; docs/scaling.md."""

    artefacts: str | None = Field(
        None, min_length=1,
        description="a folder or an address such as s3://bucket/brogue, where adapters and assistants are kept for all",
    )  # fmt: skip


class Settings(Frozen):
    """All of `brogue.toml`."""

    base_model: str = Field(STARTER_MODEL, description="'starter', a Hugging Face id, or a folder")
    engine: EngineSettings = EngineSettings()
    gateway: GatewaySettings = GatewaySettings()
    page: PageSettings = PageSettings()
    store: StoreSettings = StoreSettings()
    shared: SharedSettings = SharedSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    knowledge: KnowledgeSettings = KnowledgeSettings()
    training: TrainingSettings = TrainingSettings()
    loop: LoopSettings = LoopSettings()
    advisor: AdvisorSettings = AdvisorSettings()
    prices: PriceSettings = PriceSettings()
    files: FileSettings = FileSettings()
    jobs: JobSettings = JobSettings()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.shared.artefacts is not None and not (self.store.url or "").startswith("postgresql"):
            raise ValueError('shared.artefacts wants a PostgreSQL store: store.url = "postgresql://USER@HOST/NAME"')
        return self


def load_settings(path: Path) -> Settings:
    """The settings in the TOML file at `path`; all defaults if there is none."""
    try:
        settings = Settings.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        if settings.store.has_password:
            raise BrogueError(
                f"{path}: store.url holds a password; leave it out and put it into the environment: PGPASSWORD=…"
            )
        return settings
    except FileNotFoundError:
        return Settings()
    except tomllib.TOMLDecodeError as error:
        raise BrogueError(f"{path}: not valid TOML: {one_line(error)}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BrogueError(f"{path}: cannot be read: {one_line(error)}") from error
    except ValidationError as error:
        raise BrogueError(f"{path}: {first_problem(error, Settings)}") from error


def first_problem(error: ValidationError, model: type[BaseModel]) -> str:
    """The first of pydantic's complaints as one line; an unknown key is answered with the keys there are."""
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"]) or "the whole"
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{where}'; known keys here: {', '.join(_keys_at(model, problem['loc'][:-1]))}"
    found = "" if problem["type"] == "missing" else f", found {one_line(repr(problem['input']), 80)}"
    return f"{where}: {problem['msg']}{found}"


def _keys_at(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    for part in path:
        if isinstance(part, int):  # the number of one of several
            continue
        field = model.model_fields.get(part)
        kinds = () if field is None else (field.annotation, *get_args(field.annotation))
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if inner is None:
            return []
        model = inner
    return sorted(field.alias or name for name, field in model.model_fields.items())
