"""Which trainer a recipe takes, with its model, and what measures it. Imports torch: import it when training begins."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from datasets import Dataset
from peft import PeftConfig

from adapters.recipes import PAIRED, SCORED
from adapters.registry import Registry
from adapters.train import HELD_OUT, Job
from adapters.trainer import build_sft, evaluate, load_model
from adapters.trainer_cpu import speed_up

Measure = Callable[[Any, dict[str, Dataset], str], dict[str, float]]


class Chosen(NamedTuple):
    """A trainer, ready to go."""

    trainer: Any
    held_out: dict[str, Dataset]  # split → what is measured on
    measure: Measure
    before: Callable[[], AbstractContextManager[Any]]  # within it, the model is what the version is compared with


def choose(job: Job, registry: Registry) -> Chosen:
    """The trainer of the job's recipe. Raises `BrogueError` if the reward model cannot be used."""
    if job.config.recipe in SCORED:
        return _online(job, registry)
    held_out: dict[str, Any] = {
        split: Dataset.from_list(job.examples[split]) for split in HELD_OUT if job.examples[split]
    }
    model, lora, build, measure = _parts(job)
    trainer = build(model, lora, job.tokenizer, job.examples["train"], held_out.get("validation"), job.config, job.run)
    speed_up(trainer.model)
    # Pairs are measured against the reference, which is what training starts from. A head has nothing to be without;
    # a soft prompt changes answers from the start.
    as_it_is = job.config.recipe in PAIRED or job.config.head
    bare = nullcontext if as_it_is else trainer.model.disable_adapter
    return Chosen(trainer, held_out, measure, bare)


def _parts(job: Job) -> tuple[Any, PeftConfig | None, Callable[..., Any], Measure]:
    """(the model, what is put on it, what builds the trainer, what measures it)."""
    config, path, train = job.config, job.base.path, job.examples["train"]
    if config.head:
        from adapters.trainer_heads import build_head, head_evaluator, load_head

        return *load_head(path, config, job.tokenizer, job.labels, train), build_head, head_evaluator(job.labels, train)
    if config.recipe == "reward":
        from adapters.trainer_pairs import build_pairs, evaluate_pairs, load_scorer

        return *load_scorer(path, config, job.tokenizer), build_pairs, evaluate_pairs
    model, lora = load_model(path, config, job.start)
    if config.recipe in PAIRED:
        from adapters.trainer_pairs import build_pairs, evaluate_pairs

        return model, lora, build_pairs, evaluate_pairs
    if config.recipe == "labelled":
        from adapters.trainer_labels import label_evaluator

        return model, lora, build_sft, label_evaluator(train, job.tokenizer)
    return model, lora, build_sft, evaluate


def _online(job: Job, registry: Registry) -> Chosen:
    from adapters.reward_model import RewardModel
    from adapters.trainer_online import as_dataset, build_online, evaluate_online

    assert job.config.reward is not None  # train() has looked
    reward = RewardModel.load(registry, job.config.reward, job.base).score
    model, lora = load_model(job.base.path, job.config, job.start)
    trainer = build_online(model, lora, job.tokenizer, job.examples["train"], reward, job.config, job.run)
    speed_up(trainer.model)
    held_out: dict[str, Any] = {split: as_dataset(job.examples[split]) for split in HELD_OUT if job.examples[split]}
    return Chosen(trainer, held_out, evaluate_online, nullcontext)
