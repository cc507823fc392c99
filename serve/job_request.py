"""The request that creates a fine-tuning job: OpenAI's fields, each checked, what is not to be had here refused."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainValidator, model_validator

from data.frozen import Frozen
from data.home import NAME_PATTERN
from data.jobs import Setting
from data.judgements import Words

LONGEST_SUFFIX = 48  # letters; a name of ours has 63, of which "ft-", "-" and eight of the job's id are taken


def _whole(most: int) -> Any:
    def check(value: Any) -> Any:
        if value in (None, "auto") or (type(value) is int and 1 <= value <= most):
            return value or "auto"
        raise ValueError(f"wanted 'auto' or a whole number from 1 to {most}")

    return PlainValidator(check, Annotated[int, Field(ge=1, le=most)] | Literal["auto"] | None)


def _number(most: float) -> Any:
    def check(value: Any) -> Any:
        if value in (None, "auto") or (type(value) in (int, float) and 0 < value <= most):
            return value or "auto"
        raise ValueError(f"wanted 'auto' or a number above 0, at most {most}")

    return PlainValidator(check, Annotated[float, Field(gt=0, le=most)] | Literal["auto"] | None)


def _refused(why: str) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if value:
            raise ValueError(why)
        return None

    return check


class Supervised(Frozen):
    """Hyperparameters of supervised fine-tuning."""

    n_epochs: Annotated[Setting, _whole(50)] = "auto"
    batch_size: Annotated[Setting, _whole(256)] = "auto"
    learning_rate_multiplier: Annotated[Setting, _number(100)] = "auto"


class Dpo(Supervised):
    """Hyperparameters of direct preference optimisation."""

    beta: Annotated[Setting, _number(10)] = "auto"


class SupervisedMethod(Frozen):
    """How to train on answers."""

    hyperparameters: Supervised | None = None


class DpoMethod(Frozen):
    """How to train on pairs of answers."""

    hyperparameters: Dpo | None = None


class Method(Frozen):
    """By which method a job trains."""

    type: Literal["supervised", "dpo"]
    supervised: SupervisedMethod | None = None
    dpo: DpoMethod | None = None

    @model_validator(mode="before")
    @classmethod
    def _no_reinforcement(cls, value: Any) -> Any:
        if isinstance(value, dict) and (value.get("type") == "reinforcement" or value.get("reinforcement")):
            raise ValueError(
                "reinforcement fine-tuning with graders is not to be had here; wanted supervised or dpo (an operator "
                "has reward models and PPO: brogue train --recipe ppo)"
            )
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        other = "dpo" if self.type == "supervised" else "supervised"
        if getattr(self, other) is not None:
            raise ValueError(f"type is '{self.type}', but there are settings of {other}; leave one of them out")
        return self

    @property
    def hyperparameters(self) -> dict[str, Setting]:
        """Those of the method that is meant, by OpenAI's names."""
        if self.type == "dpo":
            return (self.dpo.hyperparameters if self.dpo and self.dpo.hyperparameters else Dpo()).model_dump()
        given = self.supervised.hyperparameters if self.supervised else None
        return (given or Supervised()).model_dump()


class JobRequest(Frozen):
    """What POST /v1/fine_tuning/jobs takes."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    training_file: Annotated[str, Field(min_length=1, max_length=100)]
    validation_file: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    suffix: Annotated[str, Field(max_length=LONGEST_SUFFIX)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32, strict=True)] | None = None
    metadata: (
        Annotated[
            dict[Annotated[Words, Field(max_length=64)], Annotated[Words, Field(max_length=512)]], Field(max_length=16)
        ]
        | None
    ) = None
    method: Method | None = None
    hyperparameters: Supervised | None = Field(None, deprecated="use method")
    integrations: Annotated[
        list[Any] | None,
        BeforeValidator(_refused("there are none here; leave it out (an operator can follow trainings: report_to)")),
    ] = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.method is not None and self.__dict__.get("hyperparameters") is not None:
            raise ValueError("wanted method or the older hyperparameters, not both")
        return self

    @property
    def wanted(self) -> Method:
        """The method, also where only the older hyperparameters are given."""
        older = self.__dict__.get("hyperparameters")  # not by its name: that warns of what the client did
        return self.method or Method(type="supervised", supervised=SupervisedMethod(hyperparameters=older))


SUFFIX = NAME_PATTERN.replace("{0,62}", "{0,47}")
