"""Train a version of an adapter by one of the recipes (adapters/recipes.py), with TRL and PEFT.

In: a dataset's rows, the base model, a `TrainConfig`. Out: a version in the registry, in PEFT's own format, with a
card. The run's folder under `<home>/runs/` keeps config, metrics and checkpoints; the same command after Ctrl-C or a
kill takes the last complete checkpoint up again.
"""

import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field
from safetensors import SafetensorError

from adapters import lineage, runs, served
from adapters.base_model import BaseModel, load_tokenizer
from adapters.examples import Encoder
from adapters.progress import Diverged, Interrupted, TrainProgress
from adapters.recipes import PAIRED, RecipeName, find, labelling_prompt
from adapters.recipes import check_trainable as check_trainable
from adapters.registry import CARD, AdapterCard, Registry, file_hashes, require_scorer
from data.dataset import DatasetCard, Row
from data.errors import BrogueError, DataError, one_line
from data.home import Home, write_json
from data.records import SPLITS, Split
from data.settings import Frozen, load_settings

_UNWRITTEN = ("No space left", "PytorchStreamWriter", "inline_container")  # how the libraries say that a disk is full
HELD_OUT: tuple[Split, ...] = ("validation", "test")


class TrainConfig(Frozen):
    """How to train. The defaults were chosen on the example workspace and on support answers (docs/training.md)."""

    recipe: RecipeName = "sft"
    method: str = "lora"  # see adapters/methods.py
    system_prompt: str | None = None  # as the assistant is served; see data/messages.py
    start: str | None = None  # `name@n`: the version that training goes on from, and that dpo and kto stay near
    rank: int = Field(8, ge=1)  # LoRA r; alpha is 2r, so that the learning rate need not follow the rank
    epochs: int | None = Field(None, ge=1)  # none: from the number of rows, see `Recipe.passes`
    batch_size: int = Field(8, ge=1)  # rows in one optimiser step
    learning_rate: float | None = Field(None, gt=0, allow_inf_nan=False)  # peak; a short warm-up, then linear decay
    beta: float = Field(0.1, gt=0, le=10)  # dpo and kto: how near to the reference; larger is nearer
    reward: str | None = None  # ppo: `name@n` of the reward model
    rounds: int = Field(50, ge=1)  # ppo: in each, answers are written, scored and learnt from
    max_tokens: int = Field(1024, ge=16)  # longer rows are left out and counted
    seed: int = 0


class Job(NamedTuple):
    """One training: what is learnt, from what, into which run."""

    run: Path
    config: TrainConfig  # complete
    base: BaseModel
    tokenizer: Any
    examples: dict[Split, list[Any]]
    start: Path | None  # the folder of the version to go on from
    on_progress: Callable[[TrainProgress], None]
    say: Callable[[str], None]


def train(adapter: str, rows: list[Row], dataset: DatasetCard, base: BaseModel, config: TrainConfig, home: Home,
          on_progress: Callable[[TrainProgress], None], say: Callable[[str], None]) -> AdapterCard:  # fmt: skip
    """Train the next version of `adapter` and put it into the registry; returns its card."""
    check_trainable(dataset, config.recipe)
    started, registry, recipe = time.monotonic(), Registry(home), find(config.recipe)
    start, config = _start(registry, base, config)
    max_rank = load_settings(home.settings_file).engine.max_lora_rank
    served.check(base, config.method, config.rank, config.recipe, start is not None, max_rank)
    tokenizer = load_tokenizer(base.path)
    prompt = labelling_prompt(config.system_prompt, rows) if recipe.name == "labelled" else config.system_prompt
    made = _made(rows, tokenizer, base, config.model_copy(update={"system_prompt": prompt}), say)
    examples = {split: [example for _, example in made[split]] for split in SPLITS}
    _check_size(dataset, config, examples, recipe.unit, recipe.few, say)
    config = config.model_copy(
        update={
            "epochs": config.epochs or recipe.passes(len(examples["train"])),
            "learning_rate": config.learning_rate or recipe.peak_learning_rate(base.weight_bytes),
        }
    )
    asked = runs.asked_now(adapter, dataset.name, dataset.digest, base.name, base.sha256, config.model_dump())
    run = runs.folder_of(home, asked)
    with runs.running(run, asked):
        write_json(run / "config.json", config.model_dump())
        records = {record for record, _ in made["train"]}
        records |= _learnt_before(registry, config.start) | _learnt_before(registry, config.reward)
        learnt = lineage.Lineage(dataset=dataset.name, digest=dataset.digest, records=tuple(sorted(records)))
        lineage.begin(run, learnt)
        job = Job(run, config, base, tokenizer, examples, start, on_progress, say)
        if recipe.name == "ppo":
            from adapters.ppo_job import trained_by_ppo

            trainer, scores = trained_by_ppo(job, registry)
        else:
            trainer, scores = _trained(job)
        with registry.new_version(adapter, chat=recipe.name != "reward") as (version, folder):
            compared = examples["validation"] or examples["train"]
            rank, how, measured = served.write(trainer.model, folder, config.method, config.rank, compared)
            card = AdapterCard(
                adapter=adapter,
                version=version,
                base_model=base.name,
                base_sha256=base.sha256,
                dataset=dataset.name,
                dataset_digest=dataset.digest,
                recipe=config.recipe,
                method=config.method,
                rank=rank,
                served=how,
                config=config.model_dump(),
                system_prompt=prompt,
                parent=max(registry.versions(adapter), default=None),
                scores=scores | measured,
                minutes=round((time.monotonic() - started) / 60, 2),
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                files=file_hashes(folder),
            )
            write_json(folder / CARD, card.model_dump(mode="json"))
            lineage.finish(run, registry, adapter, version)
        runs.finish(run, card.name)
    return card


def _made(rows: list[Row], tokenizer: Any, base: BaseModel, config: TrainConfig,
          say: Callable[[str], None]) -> dict[Split, list[tuple[str, Any]]]:  # fmt: skip
    """What the recipe learns from, by split, each with the id of its record."""
    if config.recipe != "ppo":
        encoder = Encoder(find(config.recipe), tokenizer, base, config.system_prompt, config.max_tokens, say)
        return {split: list(encoder.split(split, rows)) for split in SPLITS}
    from adapters.ppo import questions

    made: dict[Split, list[tuple[str, Any]]] = {}
    for split in SPLITS:
        asked = [(row.id, row.record) for row in rows if row.split == split]
        made[split] = list(
            questions(asked, tokenizer, config.system_prompt, base.supports_system, config.max_tokens, say, split)
        )
    return made


def _trained(job: Job) -> tuple[Any, dict[str, float]]:
    """The trainer after training, and what was measured; raises `Interrupted` or `Diverged` if it ended early."""
    from datasets import Dataset

    from adapters.trainer import build_sft, evaluate, fit, load_model  # torch loads only now

    held_out: dict[str, Any] = {
        split: Dataset.from_list(job.examples[split]) for split in HELD_OUT if job.examples[split]
    }
    train_rows, validation = job.examples["train"], held_out.get("validation")
    job.say("loading the base model")
    measure: Callable[[Any, dict[str, Any], str], dict[str, float]] = evaluate
    if job.config.recipe in PAIRED:
        from adapters.trainer_pairs import build_pairs, evaluate_pairs, load_scorer

        measure, build = evaluate_pairs, build_pairs
        if job.config.recipe == "reward":
            model, lora = load_scorer(job.base.path, job.config, job.tokenizer)
        else:
            model, lora = load_model(job.base.path, job.config, job.start)
    else:
        build, (model, lora) = build_sft, load_model(job.base.path, job.config, job.start)
        if job.config.recipe == "labelled":
            from adapters.trainer_labels import label_evaluator

            measure = label_evaluator(train_rows, job.tokenizer)
    trainer = build(model, lora, job.tokenizer, train_rows, validation, job.config, job.run)
    job.say("measuring the base model on held-out answers")
    # Pairs are measured against the reference, which is what training starts from.
    bare = nullcontext if job.config.recipe in PAIRED or not job.start else trainer.model.disable_adapter
    with bare():
        scores = _scores_once(job.run / "base_scores.json", lambda: measure(trainer, held_out, "base"))
    _fit(job, trainer, fit)
    job.say("measuring the adapter on held-out answers")
    return trainer, scores | measure(trainer, held_out, "adapter")


def _fit(job: Job, trainer: Any, fit: Callable[..., bool]) -> None:
    checkpoint = runs.last_checkpoint(job.run)
    try:
        if not fit(trainer, checkpoint, job.run, job.on_progress):
            raise Interrupted("training stopped; a checkpoint is kept. Go on from it with the same command")
    except Diverged as error:
        kept = runs.last_checkpoint(job.run)
        runs.fail(job.run, str(error))
        raise Diverged(
            f"{error}; {f'{kept.name} is kept' if kept else 'nothing was saved yet'} in {job.run}. Try a lower "
            f"--learning-rate (it was {job.config.learning_rate:g})"
        ) from error
    except (OSError, RuntimeError, SafetensorError) as error:
        if not isinstance(error, OSError) and not any(words in str(error) for words in _UNWRITTEN):
            raise
        raise BrogueError(
            f"cannot write to the run's folder {job.run} ({one_line(error, 80)}); the last whole checkpoint is kept. "
            "Make room, then give the same command again"
        ) from error
    best, last = getattr(trainer.state, "best_global_step", None), trainer.state.global_step
    if best and best < last:
        job.say(f"validation loss was lowest at step {best} of {last}; that state is kept")


def _start(registry: Registry, base: BaseModel, config: TrainConfig) -> tuple[Path | None, TrainConfig]:
    """The folder of the version to go on from, and the config with its whole name and its rank."""
    if (config.recipe == "ppo") != (config.reward is not None):
        raise BrogueError(
            "recipe 'ppo', and no other, learns from a reward model: --recipe ppo --reward NAME@N. Train one: "
            "brogue train NAME --data PREFERENCES --recipe reward"
        )
    if config.reward is not None:
        scorer = registry.resolve(config.reward)
        require_scorer(scorer)
        config = config.model_copy(update={"reward": scorer.name})
    if config.start is None:
        return None, config
    card = registry.resolve(config.start)
    if config.recipe == "reward" or card.recipe == "reward":
        raise BrogueError("a reward model starts from the base model, and nothing starts from one; leave --from away")
    if card.base_sha256 != base.sha256:
        raise BrogueError(
            f"{card.name} was trained on base model {card.base_model}, not on {base.name}; start from a version for it"
        )
    if (config.system_prompt or None) != (card.system_prompt or None) and config.recipe != "labelled":
        raise BrogueError(
            f"{card.name} was trained with another system prompt than this training would use; name the assistant that "
            "has it: --assistant NAME"
        )
    folder = registry.folder(card.adapter, card.version)
    return folder, config.model_copy(update={"start": card.name, "rank": card.rank})


def _learnt_before(registry: Registry, start: str | None) -> set[str]:
    """The records that the version to go on from learnt from: what comes of it knows them too."""
    if start is None:
        return set()
    card = registry.resolve(start)
    listed = lineage.lineage(registry, card.adapter, card.version)
    return set(listed.records) if listed else set()


def _check_size(dataset: DatasetCard, config: TrainConfig, examples: dict[Split, list[Any]], unit: str, few: int,
                say: Callable[[str], None]) -> None:  # fmt: skip
    rows = len(examples["train"])
    if not rows:
        raise DataError(f"dataset '{dataset.name}' leaves nothing to train on in its train split; import more rows")
    if rows == 1 or (config.recipe == "kto" and config.batch_size == 1):
        found = f"{rows} {unit}" if rows == 1 else "--batch-size 1"
        raise DataError(f"recipe '{config.recipe}' wants at least 2 {unit} to train on; {dataset.name}: {found}")
    if config.recipe == "kto" and len({thumb["label"] for thumb in examples["train"]}) == 1:
        raise DataError(f"recipe 'kto' wants good and bad answers; dataset '{dataset.name}' trains on one sort only")
    if rows < few:
        say(f"warning: only {rows} {unit} to train on; expect little from fewer than {few}")
    if not examples["validation"]:
        say("warning: no validation rows, so nobody sees when it learns by heart; see: brogue data split")


def _scores_once(path: Path, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    """The base model's losses; measured before the first step, read again when a run is resumed."""
    if path.exists():
        return dict(json.loads(path.read_text(encoding="utf-8")))
    scores = measure()
    write_json(path, scores)
    return scores
