"""What is looked at before a training begins: the versions it names, and whether there is enough to learn from."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters import lineage, methods
from adapters.base_model import BaseModel
from adapters.recipes import SCORED, find, labels
from adapters.registry import Registry, require_scorer
from adapters.served import refuse_start
from data.dataset import DatasetCard, Row
from data.errors import BrogueError, DataError
from data.records import Split

if TYPE_CHECKING:
    from adapters.train import TrainConfig


_ONLY_FOR = {  # option → the recipes that have a use for it
    "reward": SCORED, "max_new_tokens": SCORED, "kl_target": SCORED, "head": ("labelled",),
}  # fmt: skip


def check_options(config: "TrainConfig") -> None:
    """Refuse options that the recipe has no use for, and a recipe without the reward model that it learns from."""
    if config.recipe in SCORED and config.reward is None:
        raise BrogueError(
            f"recipe '{config.recipe}' learns from a reward model: --recipe {config.recipe} --reward NAME@N. Train "
            "one: brogue train NAME --data PREFERENCES --recipe reward"
        )
    for option, recipes in _ONLY_FOR.items():
        if getattr(config, option) not in (None, False) and config.recipe not in recipes:
            flag = f"--{option.replace('_', '-')}"
            raise BrogueError(
                f"recipe '{config.recipe}' has no use for {flag}; leave it away, or give --recipe "
                f"{' or '.join(recipes)}"
            )


def started_from(registry: Registry, base: BaseModel, config: "TrainConfig") -> tuple[Path | None, "TrainConfig"]:
    """The folder of the version to go on from, and the config with its whole name and its rank."""
    if config.reward is not None:
        scorer = registry.resolve(config.reward)
        require_scorer(scorer)
        config = config.model_copy(update={"reward": scorer.name})
    if config.start is None:
        return None, config
    card = registry.resolve(config.start)
    if config.recipe == "reward" or config.head or not card.chats:
        raise BrogueError(
            "a reward model or a classifier starts from the base model, and nothing starts from one; leave --from away"
        )
    if card.base_sha256 != base.sha256:
        raise BrogueError(
            f"{card.name} was trained on base model {card.base_model}, not on {base.name}; start from a version for it"
        )
    if (config.system_prompt or None) != (card.system_prompt or None) and config.recipe != "labelled":
        raise BrogueError(
            f"{card.name} was trained with another system prompt than this training would use; name the assistant that "
            "has it: --assistant NAME"
        )
    refuse_start(card)
    folder = registry.folder(card.adapter, card.version)
    return folder, config.model_copy(update={"start": card.name, "rank": card.rank})


def learnt_before(registry: Registry, start: str | None) -> set[str]:
    """The records that the version to go on from learnt from: what comes of it knows them too."""
    if start is None:
        return set()
    card = registry.resolve(start)
    listed = lineage.lineage(registry, card.adapter, card.version)
    return set(listed.records) if listed else set()


def completed(config: "TrainConfig", base: BaseModel, dataset: DatasetCard, units: int) -> "TrainConfig":
    """The configuration with what follows from the base model and the dataset."""
    recipe = find(config.recipe)
    return config.model_copy(
        update={
            "epochs": config.epochs or recipe.passes(units),
            "learning_rate": config.learning_rate
            or recipe.peak_learning_rate(base.weight_bytes) * methods.find(config.method).rate,
            "beta": config.beta or recipe.beta,
            "listwise": recipe.name == "reward" and dataset.kind == "ranking",
        }
    )


def recipe_words(config: "TrainConfig") -> str:
    """The recipe, with what makes it another one, for a person."""
    return f"{config.recipe} --head" if config.head else config.recipe


def labels_of(dataset: DatasetCard, rows: list[Row]) -> tuple[str, ...]:
    """The labels (or tags) that a classification head is to choose among. Raises `DataError` if there is no choice."""
    found = labels(rows)
    if len(found) < 2:
        raise DataError(f"a classification head wants at least 2 labels; dataset '{dataset.name}' has {len(found)}")
    return found


def check_size(dataset: DatasetCard, config: "TrainConfig", examples: dict[Split, list[Any]],
               say: Callable[[str], None]) -> None:  # fmt: skip
    """Refuse what nothing can be learnt from; say what little can be."""
    rows, unit, few = len(examples["train"]), find(config.recipe).unit, find(config.recipe).few
    if not rows:
        raise DataError(f"dataset '{dataset.name}' leaves nothing to train on in its train split; import more rows")
    if rows == 1 or (config.recipe == "kto" and config.batch_size == 1):
        found = f"{rows} {unit}" if rows == 1 else "--batch-size 1"
        raise DataError(f"recipe '{config.recipe}' wants at least 2 {unit} to train on; {dataset.name}: {found}")
    if config.recipe == "kto" and len({thumb["label"] for thumb in examples["train"]}) == 1:
        raise DataError(f"recipe 'kto' wants good and bad answers; dataset '{dataset.name}' trains on one sort only")
    if config.recipe in ("rloo", "grpo") and rows < config.batch_size:
        raise DataError(
            f"recipe '{config.recipe}' asks up to {config.batch_size} questions in a step (--batch-size); dataset "
            f"'{dataset.name}' has {rows}. Give a smaller --batch-size, or import more rows"
        )
    if rows < few:
        say(f"warning: only {rows} {unit} to train on; expect little from fewer than {few}")
    if not examples["validation"]:
        say("warning: no validation rows, so nobody sees when it learns by heart; see: brogue data split")
