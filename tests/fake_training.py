"""A stand-in for `brogue train` in a process of its own, for tests of the jobs' worker: a run's files, no learning.

Like the real one it goes on from its checkpoint, keeps one when it is stopped, and ends with a version in the registry.
The file `<home>/NAME.dies` names steps at which it is killed, one for each time; at the step in `NAME.holds` it waits.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from adapters import runs
from adapters.progress import METRICS
from adapters.registry import CARD, AdapterCard, Registry, file_hashes
from data.dataset import load_card
from data.home import Home, write_json

STEPS, STEP_S = 40, 0.02
REFUSE = "refuse"  # a system prompt with which it fails at once


def main() -> None:
    """`train NAME --data NAME …` as the worker types it."""
    words = sys.argv[1:]
    options = {word: words[n + 1] for n, word in enumerate(words[:-1]) if word.startswith("--")}
    home, name = Home.from_environment(), words[1]
    if f"--system-prompt={REFUSE}" in words:
        sys.exit(f"brogue: {home.root}/datasets/{name}: nothing can be learnt from it")
    dataset = load_card(home, options["--data"])
    asked = runs.asked_now(name, name, dataset.digest, "base", "sha", {"recipe": options["--recipe"], "words": words})
    run = runs.folder_of(home, asked)
    with runs.running(run, asked):
        done = run / "checkpoint"
        stopped: list[int] = []
        signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
        for step in range(int(done.read_text()) + 1 if done.exists() else 1, STEPS + 1):
            time.sleep(STEP_S)
            _log(run, {"step": step, "steps": STEPS, "loss": 4 / step, "num_input_tokens_seen": 10 * step})
            if step % 20 == 0:
                _log(run, {"step": step, "steps": STEPS, "eval_loss": 5 / step})
            _fate(home, name, step, stopped)
            if step % 5 == 0 or stopped:
                done.write_text(str(step))
            if stopped:
                sys.exit("brogue: training stopped; a checkpoint is kept. Go on from it with the same command")
        _version(home, name, run, options)
        runs.finish(run, f"{name}@1")


def _fate(home: Home, name: str, step: int, stopped: list[int]) -> None:
    dies, holds = (home.root / f"{name}.{what}" for what in ("dies", "holds"))
    steps = dies.read_text().split() if dies.exists() else []
    if steps and step == int(steps[0]):
        dies.write_text(" ".join(steps[1:]))
        os.kill(os.getpid(), signal.SIGKILL)
    while holds.exists() and step == int(holds.read_text()) and not stopped:
        time.sleep(0.02)


def _log(run: Path, line: dict[str, Any]) -> None:
    with (run / METRICS).open("a") as file:
        file.write(json.dumps(line) + "\n")


def _version(home: Home, name: str, run: Path, options: dict[str, str]) -> None:
    config = {"epochs": 4, "batch_size": 8, "beta": 0.1, "words": options}
    with Registry(home).new_version(name, stable=False) as (version, folder):
        (folder / "adapter_model.safetensors").write_text(f"{name}@{version}")
        card = AdapterCard(
            adapter=name, version=version, base_model="base", base_sha256="sha", dataset=name, dataset_digest="0",
            recipe=options["--recipe"], method="lora", rank=8, config=config, system_prompt=None, parent=None,
            scores={}, minutes=0, created="2026-11-29", files=file_hashes(folder), run=run.name,
        )  # fmt: skip
        write_json(folder / CARD, card.model_dump(mode="json"))


if __name__ == "__main__":
    os.nice(5)
    main()
