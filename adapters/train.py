"""Train a version of an adapter by one of the recipes (adapters/recipes.py), with TRL and PEFT.

In: a dataset's rows, the base model, a `TrainConfig`. Out: a version in the registry, in PEFT's own format, with a
card. The run's folder under `<home>/runs/` keeps config, metrics and checkpoints; the same command after Ctrl-C or a
kill takes the last complete checkpoint up again.
"""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field
from safetensors import SafetensorError

from adapters import lineage, processes, runs, served, tracking
from adapters.base_model import BaseModel, load_tokenizer
from adapters.examples import Encoder
from adapters.progress import Diverged, Interrupted, TrainProgress
from adapters.recipes import RecipeName, find, labelling_prompt
from adapters.recipes import check_trainable as check_trainable
from adapters.registry import CARD, AdapterCard, Registry, file_hashes
from adapters.train_checks import (
    check_options,
    check_size,
    completed,
    labels_of,
    learnt_before,
    recipe_words,
    started_from,
)
from data.dataset import DatasetCard, Row
from data.errors import BrogueError, one_line
from data.home import Home, full_disk, write_json
from data.records import SPLITS, Split
from data.settings import Frozen, Settings, load_settings

_UNWRITTEN = ("PytorchStreamWriter", "inline_container")  # how torch says that a file could not be written
HELD_OUT: tuple[Split, ...] = ("validation", "test")


class TrainConfig(Frozen):
    """How to train. The defaults were chosen on the example workspace and on support answers (docs/training.md)."""

    recipe: RecipeName = "sft"
    method: str = "lora"  # see adapters/methods.py
    method_options: dict[str, Any] = {}  # on top of its own, by the names of PEFT's configuration
    system_prompt: str | None = None  # as the assistant is served; see data/messages.py
    start: str | None = None  # `name@n`: the version that training goes on from, and that dpo and kto stay near
    rank: int = Field(8, ge=1)  # LoRA r; alpha is 2r, so that the learning rate need not follow the rank
    epochs: int | None = Field(None, ge=1)  # none: from the number of rows, see `Recipe.passes`
    batch_size: int = Field(8, ge=1)  # rows in one optimiser step
    learning_rate: float | None = Field(None, gt=0, allow_inf_nan=False)  # peak; a short warm-up, then linear decay
    beta: float | None = Field(None, gt=0, le=10)  # none: the recipe's, see `Recipe.beta`
    head: bool = False  # labelled: a classification head instead of label words
    listwise: bool = False  # reward: rankings as a whole (Plackett-Luce); set where the dataset holds rankings
    reward: str | None = None  # ppo, rloo, grpo: `name@n` of the reward model
    rounds: int = Field(50, ge=1)  # and in each, answers are written, scored and learnt from
    max_new_tokens: int | None = Field(None, ge=1, le=4096)  # and so long may they be; none: 64
    kl_target: float | None = Field(None, gt=0)  # nats an answer may stray from the reference; none: ppo's 6
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
    report_to: tuple[str, ...] = ()  # trackers, see adapters/tracking.py
    labels: tuple[str, ...] = ()  # of a classification head
    gateway: tuple[str, str] | None = None  # address and admin key of the one that serves this home, for rollouts


def train(adapter: str, rows: list[Row], dataset: DatasetCard, base: BaseModel, config: TrainConfig, home: Home,
          on_progress: Callable[[TrainProgress], None], say: Callable[[str], None],
          gateway: tuple[str, str] | None = None, stable: bool = True) -> AdapterCard:  # fmt: skip
    """Train the next version of `adapter` and put it into the registry; returns its card.

    `gateway`: address and admin key of the one that serves this home, if it runs; its engine writes the answers of ppo.
    `stable`: whether an adapter's first version becomes its stable one.
    """
    started, registry, settings = time.monotonic(), Registry(home), load_settings(home.settings_file)
    start, config = _checked(dataset, base, config, registry, settings)
    tokenizer, labels = load_tokenizer(base.path), labels_of(dataset, rows) if config.head else ()
    prompt = _prompt(config, rows)
    encoder = Encoder(find(config.recipe), tokenizer, base, prompt, config.max_tokens, say, labels)
    made = {split: list(encoder.split(split, rows)) for split in SPLITS}
    examples = {split: [example for _, example in made[split]] for split in SPLITS}
    check_size(dataset, config, examples, say)
    config = completed(config, base, dataset, len(examples["train"]))
    asked = runs.asked_now(adapter, dataset.name, dataset.digest, base.name, base.sha256, config.model_dump())
    run = runs.folder_of(home, asked)
    with runs.running(run, asked):
        card = _made_before(registry, adapter, home, run, stable)
        if card is not None:
            say(f"{card.name} was complete already when this training was stopped")
        else:
            write_json(run / "config.json", config.model_dump())
            lineage.begin(run, _learnt(registry, config, dataset, {record for record, _ in made["train"]}))
            told = runs.noting(run, on_progress)
            job = Job(run, config, base, tokenizer, examples, start, told, say, settings.training.report_to, labels,
                      gateway)  # fmt: skip
            trainer, scores = _trained(job, registry)
            if processes.is_main():
                card = _new_version(adapter, job, dataset, prompt, trainer, scores, started, registry, stable)
        if card is not None and processes.is_main():
            runs.finish(run, card.name)
        processes.wait()
    return card or registry.resolve(runs.get(home, run.name).version or adapter)


def _made_before(registry: Registry, adapter: str, home: Home, run: Path, stable: bool) -> AdapterCard | None:
    """The version that came of this very run already: a kill left no time to note the run's end."""
    began = runs.get(home, run.name).asked.created
    made = (registry.card(adapter, version) for version in registry.versions(adapter))
    card = next((card for card in made if card.run == run.name and card.created >= began), None)
    if stable and card is not None and card.chats and "stable" not in registry.aliases(adapter):
        registry.move(adapter, "stable", card.version, who="brogue", why="the first version")
    return card


def _checked(dataset: DatasetCard, base: BaseModel, config: TrainConfig, registry: Registry,
             settings: Settings) -> tuple[Path | None, TrainConfig]:  # fmt: skip
    """The folder of the version to go on from, and the config with its rank. Raises `BrogueError`."""
    check_trainable(dataset, config.recipe)
    check_options(config)
    processes.check(config.recipe, config.head, config.batch_size)
    start, config = started_from(registry, base, config)
    tracking.check(settings.training.report_to)
    goes_on, most, options = start is not None, settings.engine.max_lora_rank, config.method_options
    served.check(base, config.method, config.rank, recipe_words(config), goes_on, most, options)
    return start, config


def _prompt(config: TrainConfig, rows: list[Row]) -> str | None:
    """The system prompt that the version is trained and served with."""
    if config.head:
        return None
    return labelling_prompt(config.system_prompt, rows) if config.recipe == "labelled" else config.system_prompt


def _learnt(registry: Registry, config: TrainConfig, dataset: DatasetCard, records: set[str]) -> lineage.Lineage:
    """The records that the version will have learnt from, also through its start and its reward model."""
    records = records | learnt_before(registry, config.start) | learnt_before(registry, config.reward)
    return lineage.Lineage(dataset=dataset.name, digest=dataset.digest, records=tuple(sorted(records)))


def _new_version(adapter: str, job: Job, dataset: DatasetCard, prompt: str | None, trainer: Any,
                 scores: dict[str, float], started: float, registry: Registry,
                 stable: bool) -> AdapterCard:  # fmt: skip
    """What was trained, in the registry; `started`: when, as time.monotonic counts."""
    config, base = job.config, job.base
    chats = config.recipe != "reward" and not config.head
    with registry.new_version(adapter, stable=stable and chats) as (version, folder):
        compared: Any = job.examples["validation"] or job.examples["train"]
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
            labels=job.labels,
            system_prompt=prompt,
            parent=max(registry.versions(adapter), default=None),
            scores=scores | measured,
            minutes=round((time.monotonic() - started) / 60, 2),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            files=file_hashes(folder),
            run=job.run.name,
        )
        write_json(folder / CARD, card.model_dump(mode="json"))
        lineage.finish(job.run, registry, adapter, version)
    return card


def _trained(job: Job, registry: Registry) -> tuple[Any, dict[str, float]]:
    """The trainer after training, and what was measured; raises `Interrupted` or `Diverged` if it ended early."""
    if job.config.recipe == "ppo":
        from adapters.ppo_job import trained_by_ppo

        return trained_by_ppo(job, registry)
    from adapters.trainer import fit  # torch loads only now
    from adapters.trainer_choice import choose
    from adapters.trainer_watch import watch

    job.say("loading the base model")
    trainer, held_out, measure, before = choose(job, registry)
    watch(trainer, job.run, job.report_to, job.on_progress, job.say)
    job.say("measuring the base model on held-out answers")
    with before():
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
        unwritten = full_disk(error) or any(words in str(error) for words in _UNWRITTEN)
        if not isinstance(error, OSError) and not unwritten:
            raise
        raise BrogueError(
            f"cannot write to the run's folder {job.run} ({one_line(error, 80)}); the last whole checkpoint is kept. "
            "Make room, then give the same command again"
        ) from error
    best, last = getattr(trainer.state, "best_global_step", None), trainer.state.global_step
    if best and best < last:
        job.say(f"validation loss was lowest at step {best} of {last}; that state is kept")


def _scores_once(path: Path, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    """The base model's losses; measured before the first step, read again when a run is resumed."""
    if path.exists():
        return dict(json.loads(path.read_text(encoding="utf-8")))
    scores = measure()
    write_json(path, scores)
    return scores
