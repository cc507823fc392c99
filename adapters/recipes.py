"""The recipes: what each learns from, how fast, and how often it passes over the data. Pure: no torch.

`sft`, `instruct` and `labelled` learn answers word for word. `dpo` (Rafailov 2023) and `kto` (Ethayarajh 2024) learn
which answers are better, staying near the adapter they start from; `orpo` (Hong 2024) and `simpo` (Meng 2024) do so
without one to stay near. `reward` learns to score answers (Bradley-Terry; rankings after Plackett and Luce).
`ppo` (Schulman 2017), `rloo` (Ahmadian 2024) and `grpo` (Shao 2024) write answers to a dataset's questions and learn
from a reward model's scores (docs/ppo.md).
Learning rates are for LoRA, which wants about ten times those of full training (Schulman 2025, "LoRA without regret").
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple, get_args

from data.dataset import DatasetCard, Row
from data.errors import DataError, unknown
from data.records import Kind, LabelledRecord

RecipeName = Literal["sft", "instruct", "labelled", "dpo", "kto", "orpo", "simpo", "reward", "ppo", "rloo", "grpo"]
PAIRED: tuple[RecipeName, ...] = ("dpo", "kto", "orpo", "simpo", "reward")  # they learn which answers are better
SCORED: tuple[RecipeName, ...] = ("ppo", "rloo", "grpo")  # they learn from a reward model's scores of their own answers
LISTED = 40  # labels that a prompt names; more would cost more tokens than they tell


class Recipe(NamedTuple):
    """How weights are updated."""

    name: RecipeName
    kinds: tuple[Kind, ...]  # of records
    unit: str  # what it learns from, for a person
    peaks: tuple[float, float, float]  # learning rates for bases below 1 GB of bfloat16 weights, below 4 GB, above
    most_passes: int
    few: int  # fewer of the units than this are said to be few
    beta: float = 0.1  # how near to the reference (rloo, grpo: what a nat costs); orpo, simpo: the comparison's weight

    def peak_learning_rate(self, weight_bytes: int) -> float:
        """LoRA's learning rate by the base model's size (bfloat16): small models bear and need more."""
        return self.peaks[0 if weight_bytes < 1e9 else 1 if weight_bytes < 4e9 else 2]

    def passes(self, units: int) -> int:
        """Passes over the training data: about 300 examples are to be seen, in at least 1 pass."""
        return min(self.most_passes, max(1, round(300 / units)))


_ONLINE = (3e-4, 1e-4, 5e-5)
_QUESTIONS: tuple[Kind, ...] = ("preference", "ranking", "rated", "chat", "instruction")
_SFT, _PAIRS, _SCORES = (1e-3, 5e-4, 2e-4), (1e-4, 5e-5, 2e-5), (2e-4, 1e-4, 5e-5)
RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("sft", ("chat", "instruction"), "answers", _SFT, 8, 20),
        Recipe("instruct", ("instruction",), "answers", _SFT, 8, 20),
        Recipe("labelled", ("labelled",), "texts", _SFT, 8, 20),
        Recipe("dpo", ("preference", "ranking"), "pairs", _PAIRS, 3, 100),
        Recipe("kto", ("rated", "preference", "ranking"), "answers", _PAIRS, 3, 100),
        Recipe("orpo", ("preference", "ranking"), "pairs", _SCORES, 3, 100),
        Recipe("simpo", ("preference", "ranking"), "pairs", _PAIRS, 3, 100, 2.0),
        Recipe("reward", ("preference", "ranking"), "pairs", _SCORES, 3, 100),
        Recipe("ppo", _QUESTIONS, "questions", _ONLINE, 1, 50),
        Recipe("rloo", _QUESTIONS, "questions", _ONLINE, 1, 50, 0.05),
        Recipe("grpo", _QUESTIONS, "questions", _ONLINE, 1, 50, 0.04),
    )
}
assert tuple(RECIPES) == get_args(RecipeName)


def find(name: str) -> Recipe:
    """The recipe of that name, or an error that names those there are."""
    if name not in RECIPES:
        raise unknown("recipe", name, list(RECIPES), "See: docs/training.md")
    return RECIPES[name]


def check_trainable(dataset: DatasetCard, name: str) -> None:
    """Refuse a dataset of a kind that the recipe does not take; name the recipes that do."""
    recipe = find(name)
    if dataset.kind not in recipe.kinds:
        fitting = [other.name for other in RECIPES.values() if dataset.kind in other.kinds]
        raise DataError(
            f"dataset '{dataset.name}' holds {dataset.kind} records; the recipe '{name}' takes "
            f"{' or '.join(recipe.kinds)}. For {dataset.kind} records: --recipe {' or '.join(fitting)}"
        )


def labels(rows: Iterable[Row]) -> tuple[str, ...]:
    """The labels (or tags) that occur, sorted."""
    found: set[str] = set()
    for row in rows:
        if isinstance(row.record, LabelledRecord):
            found |= {row.record.label} if row.record.label else set(row.record.tags or ())
    return tuple(sorted(found))


def labelling_prompt(system_prompt: str | None, rows: Iterable[Row]) -> str:
    """The system prompt that a labelling version is trained and served with: what is asked, and the label words."""
    rows = list(rows)
    named = labels(rows)
    tagging = any(isinstance(row.record, LabelledRecord) and row.record.tokens for row in rows)
    asked = "Write every word with its tag, one a line." if tagging else "Answer with the label of the text only."
    listed = f" {'Tags' if tagging else 'Labels'}: {', '.join(named)}." if len(named) <= LISTED else ""
    return "\n\n".join(filter(None, [system_prompt, asked + listed]))


def labelled_answer(record: LabelledRecord) -> str:
    """What a labelling version is to answer: the label, or every word with its tag, one a line."""
    if record.tokens is None:
        return record.label or ""
    return "\n".join(f"{token} {tag}" for token, tag in zip(record.tokens, record.tags or (), strict=True))
