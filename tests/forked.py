"""`brogue` in processes that can really be killed and cost no start: children of one that has imported the libraries.

Plants are functions of this module, run in the child before its command: what goes wrong there, and when.
"""

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, NamedTuple

from data.home import Home

HEAVY = ("torch", "peft", "trl", "adapters.trainer", "adapters.trainer_pairs", "adapters.trainer_labels",
         "adapters.trainer_online", "adapters.ppo_job", "adapters.planning", "assistant.cli_app", "assistant.retrain",
         "adapters.exam", "adapters.likelihood", "adapters.measure_preference", "adapters.measure_repetition",
         "assistant.exam_report", "data.collecting", "data.raters")  # fmt: skip
Plant = Callable[[Home], None]


class Stop(NamedTuple):
    """The training's process gets a signal when it reports a step."""

    step: int
    signal: signal.Signals

    def __call__(self, _home: Home) -> None:
        from assistant import cli_train

        bar = cli_train.training_bar

        @contextmanager
        def stopping(title: str) -> Any:
            with bar(title) as on_progress:

                def reported(progress: Any) -> None:
                    on_progress(progress)
                    if progress.phase == "training" and progress.step == self.step:
                        os.kill(os.getpid(), self.signal)

                yield reported

        cli_train.training_bar = stopping


class DieInSave(NamedTuple):
    """The process is killed when a file of a checkpoint is half written."""

    file: int  # which of those that torch writes, from 1

    def __call__(self, _home: Home) -> None:
        import torch

        save, seen = torch.save, list[int]()

        def half(value: Any, file: Any, *more: Any, **options: Any) -> None:
            seen.append(1)
            if len(seen) == self.file:
                Path(file).write_bytes(b"half")
                os.kill(os.getpid(), signal.SIGKILL)
            save(value, file, *more, **options)

        torch.save = half  # type: ignore[assignment]


class FullDisk(NamedTuple):
    """No file may grow beyond so many bytes, from the line on that begins with these words."""

    bytes: int
    when: str = ""

    def __call__(self, _home: Home) -> None:
        import resource

        from assistant import cli_train

        say = cli_train.say

        def said(line: str) -> None:
            if line.startswith(self.when or "training"):
                resource.setrlimit(resource.RLIMIT_FSIZE, (self.bytes, self.bytes))
            say(line)

        cli_train.say = said


class Recorded(NamedTuple):
    """Writes down what each step learns from: the token ids of its batch, or a round's questions."""

    file: Path

    def __call__(self, _home: Home) -> None:
        from transformers import Trainer

        from adapters import ppo_trainer

        step_of, batch_of = Trainer.training_step, ppo_trainer.batch_of

        def noted_step(trainer: Any, model: Any, inputs: Any, *more: Any) -> Any:
            rows = inputs if isinstance(inputs, list) else [value.tolist() for value in inputs.values()]
            self._note(trainer.state.global_step + 1, rows)
            return step_of(trainer, model, inputs, *more)

        def noted_batch(prompts: Any, number: int, config: Any) -> Any:
            found = batch_of(prompts, number, config)
            self._note(number + 1, [prompt.ids for prompt in found])
            return found

        Trainer.training_step, ppo_trainer.batch_of = noted_step, noted_batch

    def _note(self, step: int, rows: Any) -> None:
        with self.file.open("a") as file:
            file.write(json.dumps([step, repr(rows)]) + "\n")

    def steps(self) -> dict[int, set[str]]:
        """Step → what it learnt from; one thing only, if a step that was done again was the same."""
        found: dict[int, set[str]] = {}
        for line in self.file.read_text().splitlines():
            step, rows = json.loads(line)
            found.setdefault(step, set()).add(rows)
        return found


class DieAfter(NamedTuple):
    """The process is killed right after a step of the loop did its work, before that is written down."""

    step: str

    def __call__(self, _home: Home) -> None:
        from assistant.retrain import Steps

        work = getattr(Steps, self.step)

        def last(steps: Any, state: Any) -> Any:
            work(steps, state)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(Steps, self.step, last)


def die_before_the_end(_home: Home) -> None:
    """The process is killed when a version is in the registry, before its run's end is written down."""
    from adapters import runs

    runs.finish = lambda *_: os.kill(os.getpid(), signal.SIGKILL)


def save_often(_home: Home) -> None:
    """PPO, RLOO and GRPO with a checkpoint every other round."""
    from adapters import ppo_job, trainer_online

    made = ppo_job.ppo_config
    ppo_job.ppo_config = lambda *a: made(*a).model_copy(update={"save_every": 2})
    trainer_online.SAVE_EVERY = 2


class Forked:
    """Starts children; the first one waits until the libraries are imported."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._started = folder, 0
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([*HEAVY, __name__])

    def start(self, words: Sequence[str], home: Home, *plants: Plant) -> Callable[[], "CompletedProcess[str]"]:
        """`brogue WORDS` begins; what is given back waits for its end. A negative code is the signal it died of."""
        self._started += 1
        out, err = (self._folder / f"{self._started}.{name}" for name in ("out", "err"))
        # The server of all of them has the environment of the first test that asked for one.
        environment = os.environ | {"BROGUE_HOME": str(home.root)}
        process = self._context.Process(target=_child, args=(list(words), home, environment, plants, out, err))
        process.start()

        def ended() -> "CompletedProcess[str]":
            process.join(240)
            code = process.exitcode
            if code is None:
                process.kill()
            return CompletedProcess(list(words), -99 if code is None else code, out.read_text(), err.read_text())

        return ended

    def run(self, words: Sequence[str], home: Home, *plants: Plant) -> "CompletedProcess[str]":
        """`brogue WORDS`, to its end."""
        return self.start(words, home, *plants)()


def _child(words: list[str], home: Home, environment: dict[str, str], plants: Sequence[Plant], out: Path,
           err: Path) -> None:  # fmt: skip
    """A new process of `brogue`: one thread, for a tiny model is no faster on two."""
    for stream, path in ((sys.stdout, out), (sys.stderr, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream.fileno())
    os.environ |= environment
    import torch

    from assistant.cli import main

    torch.set_num_threads(1)
    for plant in plants:
        plant(home)
    sys.argv = ["brogue", *words]
    main()
