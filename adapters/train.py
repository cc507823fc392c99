"""Train a version of an adapter: supervised fine-tuning (recipe `sft`) of LoRA weights with TRL and PEFT.

In: a dataset's rows, the base model, a `TrainConfig`. Out: a version in the registry, in PEFT's own format, with a
card. The run's folder under `<home>/runs/` keeps config, metrics and checkpoints; the same command after Ctrl-C or a
kill takes the last complete checkpoint up again.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from adapters import lineage
from adapters.base_model import BaseModel, load_tokenizer
from adapters.registry import CARD, AdapterCard, Registry, file_hashes
from adapters.tokens import Example, encode
from data.dataset import DatasetCard, Row
from data.errors import BrogueError, DataError
from data.home import Home, write_json
from data.records import SPLITS, Kind, conversation
from data.settings import Frozen

TRAINABLE: tuple[Kind, ...] = ("chat", "instruction")
MAX_EVALUATED_ROWS = 200  # of validation and of test: bounds the time of an evaluation


class TrainConfig(Frozen):
    """How to train. The defaults were chosen on the example workspace and on support answers (docs/training.md)."""

    recipe: Literal["sft"] = "sft"
    method: Literal["lora"] = "lora"
    system_prompt: str | None = None  # as the assistant is served; see data/messages.py
    rank: int = Field(8, ge=1)  # LoRA r; alpha is 2r, so that the learning rate need not follow the rank
    epochs: int | None = Field(None, ge=1)  # none: from the number of rows, see `passes`
    batch_size: int = Field(8, ge=1)  # rows in one optimiser step
    learning_rate: float | None = Field(None, gt=0)  # peak; warm-up over the first 5% of steps, then linear decay
    max_tokens: int = Field(1024, ge=16)  # longer rows are left out and counted
    seed: int = 0


class TrainProgress(Frozen):
    """What a progress bar needs, once a step."""

    step: int
    steps: int
    loss: float | None
    tokens_per_s: float
    seconds_left: float


class Interrupted(BrogueError):
    """Ctrl-C or SIGTERM: a checkpoint was written, the same command goes on from it."""


def passes(rows: int) -> int:
    """Passes over the training rows: about 300 rows are to be seen, in at least 1 and at most 8 passes."""
    return min(8, max(1, round(300 / rows)))


def check_trainable(dataset: DatasetCard) -> None:
    """Refuse a dataset of a kind that no recipe takes."""
    if dataset.kind not in TRAINABLE:
        raise DataError(
            f"dataset '{dataset.name}' holds {dataset.kind} records; the recipe 'sft' takes {' or '.join(TRAINABLE)}. "
            "Import such records: brogue data import FILE --as instruction --into NAME"
        )


def train(adapter: str, rows: list[Row], dataset: DatasetCard, base: BaseModel, config: TrainConfig, home: Home,
          on_progress: Callable[[TrainProgress], None], say: Callable[[str], None]) -> AdapterCard:  # fmt: skip
    """Train the next version of `adapter` and put it into the registry; returns its card."""
    check_trainable(dataset)
    started = time.monotonic()
    tokenizer = load_tokenizer(base.path)
    encoded = {split: _encode_split(split, rows, tokenizer, base, config, say) for split in SPLITS}
    examples = {split: [example for _, example in encoded[split]] for split in SPLITS}
    if not examples["train"]:
        raise DataError(f"dataset '{dataset.name}' leaves nothing to train on in its train split; import more rows")
    config = config.model_copy(
        update={
            "epochs": config.epochs or passes(len(examples["train"])),
            "learning_rate": config.learning_rate or peak_learning_rate(base.weight_bytes),
        }
    )
    run = _run_folder(home, adapter, dataset, base, config)
    write_json(run / "config.json", config.model_dump())
    records = tuple(sorted({record for record, _ in encoded["train"]}))
    lineage.begin(run, lineage.Lineage(dataset=dataset.name, digest=dataset.digest, records=records))

    from adapters.trainer import build_trainer, evaluate, fit, held_out_data  # torch loads only now

    say("loading the base model")
    held_out = held_out_data(examples)
    trainer = build_trainer(
        base.path, tokenizer, examples["train"], held_out.get("validation"), config, run, on_progress
    )
    say("measuring the base model on held-out answers")
    scores = _scores_once(run / "base_scores.json", lambda: evaluate(trainer, held_out, "base"))
    if not fit(trainer, last_checkpoint(run)):
        raise Interrupted("training stopped; a checkpoint is kept. Go on from it with the same command")
    say("measuring the adapter on held-out answers")
    scores |= evaluate(trainer, held_out, "adapter")

    registry = Registry(home)
    parent = max(registry.versions(adapter), default=None)
    with registry.new_version(adapter) as (version, folder):
        trainer.model.save_pretrained(folder)
        card = AdapterCard(
            adapter=adapter,
            version=version,
            base_model=base.name,
            base_sha256=base.sha256,
            dataset=dataset.name,
            dataset_digest=dataset.digest,
            recipe=config.recipe,
            method=config.method,
            rank=config.rank,
            config=config.model_dump(),
            system_prompt=config.system_prompt,
            parent=parent,
            scores=scores,
            minutes=round((time.monotonic() - started) / 60, 2),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            files=file_hashes(folder),
        )
        write_json(folder / CARD, card.model_dump(mode="json"))
        lineage.finish(run, registry, adapter, version)
    for checkpoint in run.glob("checkpoint-*"):
        shutil.rmtree(checkpoint, ignore_errors=True)  # the run is complete; its metrics stay
    (run / "done").touch()
    return card


def peak_learning_rate(weight_bytes: int) -> float:
    """LoRA's learning rate by the base model's size (bfloat16): small models bear and need more."""
    if weight_bytes < 1e9:
        return 1e-3
    return 5e-4 if weight_bytes < 4e9 else 2e-4


def _encode_split(split: str, rows: list[Row], tokenizer: Any, base: BaseModel, config: TrainConfig,
                  say: Callable[[str], None]) -> list[tuple[str, Example]]:  # fmt: skip
    """The split's examples, each with the id of its record, without those that are too long."""
    chosen = [row for row in rows if row.split == split]
    if split != "train":
        chosen = chosen[:MAX_EVALUATED_ROWS]
    examples = [
        (row.id, example)
        for row in chosen
        for example in encode(tokenizer, conversation(row.record), config.system_prompt, base.supports_system)
    ]
    short = [(record, e) for record, e in examples if len(e["input_ids"]) <= config.max_tokens]
    if len(short) < len(examples):
        say(f"{split}: {len(examples) - len(short)} answers longer than {config.max_tokens} tokens are left out")
    return short


def _run_folder(home: Home, adapter: str, dataset: DatasetCard, base: BaseModel, config: TrainConfig) -> Path:
    """The folder of this very training: an unfinished one of equal settings is taken up again."""
    what = json.dumps([adapter, dataset.digest, base.sha256, config.model_dump()], sort_keys=True)
    stem = f"{adapter}-{hashlib.sha256(what.encode()).hexdigest()[:8]}"
    number = 1
    while (home.runs / f"{stem}-{number}" / "done").exists():
        number += 1
    return home.runs / f"{stem}-{number}"


def last_checkpoint(run: Path) -> Path | None:
    """The newest complete checkpoint; the trainer's state is the last file written, so a killed save lacks it."""
    complete = []
    for folder in run.glob("checkpoint-*"):
        try:
            json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
            complete.append(folder)
        except (OSError, ValueError):
            shutil.rmtree(folder, ignore_errors=True)
    return max(complete, key=lambda folder: int(folder.name.rsplit("-", 1)[1]), default=None)


def _scores_once(path: Path, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    """The base model's losses; measured before the first step, read again when a run is resumed."""
    if path.exists():
        return dict(json.loads(path.read_text(encoding="utf-8")))
    scores = measure()
    write_json(path, scores)
    return scores
