"""What watches a training run: Ctrl-C, progress, metrics on disk, and a loss that is no number or explodes."""
# ruff: noqa: ARG002 (transformers' signature of a callback)

import json
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from adapters import processes
from adapters.progress import MEASURING, METRICS, TrainProgress
from adapters.tracking import Tracker

EXPLODED = 3.0  # nats above the first losses' mean, and twice as large: lower than that it may still recover
FIGURES = {"reward": "reward", "kl": "KL"}  # TRL's log lines → what is shown of them beside the loss
_SEEN = 5  # losses that a mean is taken of


class StopOnSignal(TrainerCallback):  # type: ignore[misc]
    """The first Ctrl-C or SIGTERM lets the running step end and saves; a second one acts at once.

    Processes that train together stop after the same step, whichever was told; there the launcher repeats the signal,
    and ends those that take too long.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> None:
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        self.asked = True
        if processes.count() == 1:
            signal.signal(number, self._before[signal.Signals(number)])

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if processes.count() > 1:
            asked = torch.tensor(float(self.asked), device=args.device)
            torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX)
            self.asked = bool(asked)
        if self.asked:
            control.should_save = control.should_training_stop = True


class Guard(TrainerCallback):  # type: ignore[misc]
    """Stops when the loss is no number or explodes, before that state is saved; `reason` says so in words."""

    def __init__(self) -> None:
        self.reason = ""
        self._losses: list[float] = []

    def stop(self, control: TrainerControl, reason: str) -> None:
        """End the training here, without saving this state."""
        self.reason = reason
        control.should_training_stop = True
        control.should_save = control.should_evaluate = False

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
        logs: dict[str, float] | None = None, **_: Any,
    ) -> None:  # fmt: skip
        loss = (logs or {}).get("loss")
        if loss is None:
            return
        self._losses.append(loss)
        first, last = self._losses[:_SEEN], self._losses[-_SEEN:]
        before, now = sum(first) / len(first), sum(last) / len(last)
        if not math.isfinite(loss) or not math.isfinite((logs or {}).get("grad_norm", 0)):
            what = "gradient" if math.isfinite(loss) else "loss"
            self.stop(control, f"the {what} of step {state.global_step} is no number")
        elif len(self._losses) > _SEEN and now > max(2 * before, before + EXPLODED):
            self.stop(
                control, f"the loss exploded: {before:.3g} in the first steps, {now:.3g} at step {state.global_step}"
            )


class Patience(TrainerCallback):  # type: ignore[misc]
    """Ends the training after so many measurements of the validation loss without a lower one.

    Like transformers' EarlyStoppingCallback, but counted from the run's state, which outlives a kill.
    """

    def __init__(self, most: int) -> None:
        self._most = most

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        losses = [line["eval_loss"] for line in state.log_history if "eval_loss" in line]
        if losses and len(losses) - 1 - losses.index(min(losses)) >= self._most:
            control.should_training_stop = True

    on_train_begin = on_evaluate  # the kill may have come between the last measurement and the version


class Order(TrainerCallback):  # type: ignore[misc]
    """Each pass goes over its rows in an order that only the seed and the pass decide.

    By itself the sampler draws it from torch's random numbers, of which a run that is taken up again has used others.
    """

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, train_dataloader: Any, **_: Any
    ) -> None:
        batches = train_dataloader.batch_sampler
        batches = getattr(batches, "batch_sampler", batches)  # of several processes each has a part of it
        sampler = getattr(batches, "sampler", batches)
        if hasattr(sampler, "generator"):
            number = int(state.epoch or 0)  # a part of a pass may be done
            sampler.generator = torch.Generator().manual_seed(args.seed * 100_003 + number)


class Metrics(TrainerCallback):  # type: ignore[misc]
    """Writes every log line of the trainer to the run's folder; a step that is done again stands there twice."""

    def __init__(self, run: Path) -> None:
        self._path = run / METRICS

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
        logs: dict[str, float] | None = None, **_: Any,
    ) -> None:  # fmt: skip
        if not state.is_world_process_zero:
            return
        line = {"step": state.global_step, "steps": state.max_steps, "time": round(time.time(), 1), **(logs or {})}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class Reporter(TrainerCallback):  # type: ignore[misc]
    """Turns the trainer's log lines into `TrainProgress`."""

    def __init__(self, on_progress: Callable[[TrainProgress], None]) -> None:
        self._on_progress = on_progress
        self._begun = (0.0, 0, 0)  # time, step and tokens when this process began to train

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._begun = (time.monotonic(), state.global_step, state.num_input_tokens_seen)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
        logs: dict[str, float] | None = None, **_: Any,
    ) -> None:  # fmt: skip
        if not logs or "loss" not in logs or not state.is_world_process_zero:
            return
        time_0, step_0, tokens_0 = self._begun
        elapsed = time.monotonic() - time_0
        self._on_progress(
            TrainProgress(
                step=state.global_step,
                steps=state.max_steps,
                loss=logs["loss"],
                tokens_per_s=(state.num_input_tokens_seen - tokens_0) / elapsed,
                seconds_left=elapsed / max(1, state.global_step - step_0) * (state.max_steps - state.global_step),
                figures={words: logs[name] for name, words in FIGURES.items() if name in logs},
            )
        )


class Measuring(TrainerCallback):  # type: ignore[misc]
    """Tells how far a measurement on held-out rows is: `TrainProgress` of its own phase, once a batch."""

    def __init__(self, on_progress: Callable[[TrainProgress], None]) -> None:
        self._on_progress, self._done, self._began = on_progress, 0, 0.0

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, eval_dataloader: Any = None,
        **_: Any,
    ) -> None:  # fmt: skip
        if not state.is_world_process_zero:
            return
        batches = len(eval_dataloader)
        self._began = self._began if self._done else time.monotonic()
        self._done += 1
        each = (time.monotonic() - self._began) / max(1, self._done - 1)  # the clock starts when the first is done
        left = each * (batches - self._done)
        self._on_progress(
            TrainProgress(step=self._done, steps=batches, loss=None, tokens_per_s=0, seconds_left=left, phase=MEASURING)
        )
        self._done %= batches


def told(trainer: Any, batches: Sequence[Any]) -> Iterator[Any]:
    """The batches of a measurement that the trainer does not make itself, telling how far it is like one that it does.

    `batches`: anything that has a length and can be gone through, such as a `DataLoader`.
    """
    trainer.callback_handler.eval_dataloader = batches
    for batch in batches:
        yield batch
        trainer.callback_handler.on_prediction_step(trainer.args, trainer.state, trainer.control)


class Tracked(TrainerCallback):  # type: ignore[misc]
    """Hands the trainer's log lines to trackers such as MLflow."""

    def __init__(self, names: Sequence[str], run: Path, say: Callable[[str], None]) -> None:
        self._names, self._run, self._say = names, run, say
        self._tracker: Tracker | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        names = self._names if state.is_world_process_zero else ()
        self._tracker = Tracker(names, self._run, model, self._say, args)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
        logs: dict[str, float] | None = None, **_: Any,
    ) -> None:  # fmt: skip
        if self._tracker:  # not before training, where held-out rows are measured
            self._tracker.log(state.global_step, logs or {})

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._tracker:
            self._tracker.close()
            self._tracker = None


def watch(trainer: Any, run: Path, report_to: Sequence[str], on_progress: Callable[[TrainProgress], None],
          say: Callable[[str], None]) -> None:  # fmt: skip
    """From now on measurements tell how far they are, and trackers are told what is logged."""
    trainer.add_callback(Measuring(on_progress))
    if report_to:
        trainer.add_callback(Tracked(report_to, run, say))
