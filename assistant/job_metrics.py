"""What a training's log lines say, in the words of OpenAI's API: events, the results file, the figures of a state."""

import csv
import io
import math
from typing import Any

from data.jobs import JobEvent

_TOLD = 100  # steps of a training that events tell of
_FIGURES = {  # the trainer's log lines → OpenAI's names, or TRL's where OpenAI has none
    "loss": "train_loss", "eval_loss": "valid_loss", "mean_token_accuracy": "train_mean_token_accuracy",
    "eval_mean_token_accuracy": "valid_mean_token_accuracy", "rewards/accuracies": "rewards_accuracy",
    "rewards/margins": "rewards_margin", "eval_rewards/accuracies": "valid_rewards_accuracy",
}  # fmt: skip
_COLUMNS = ("step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy")


def step_events(lines: list[dict[str, Any]], step: int, measured: int) -> tuple[list[JobEvent], int, int]:
    """Events of the steps behind `step` and of the measurements behind that of step `measured`; and where these are
    now. Of a long training not every step is told."""
    events = []
    for line in sorted(lines, key=lambda line: (line.get("step", 0), "eval_loss" in line)):
        figures, number, steps = figures_of(line), int(line.get("step", 0)), int(line.get("steps") or 0)
        if "valid_loss" in figures and number > measured:
            measured, kind, loss = number, "validation", figures["valid_loss"]
        elif "train_loss" in figures and number > step:
            step, kind, loss = number, "training", figures["train_loss"]
            if step % max(1, steps // _TOLD) and step != steps:
                continue
        else:
            continue
        events.append(JobEvent(kind="metrics", message=f"Step {number}/{steps}: {kind} loss={loss:.2f}",
                               data={"step": number, "total_steps": steps} | figures))  # fmt: skip
    return events, step, measured


def figures_of(line: dict[str, Any]) -> dict[str, float]:
    """The figures of a log line by OpenAI's names; those that are numbers."""
    found = {ours: line[name] for name, ours in _FIGURES.items() if isinstance(line.get(name), int | float)}
    finite = {name: round(float(value), 6) for name, value in found.items() if math.isfinite(value)}
    return finite if {"train_loss", "valid_loss"} & finite.keys() else {}


def step_metrics(lines: list[dict[str, Any]]) -> bytes:
    """The step metrics as a CSV file, in OpenAI's columns."""
    by_step: dict[int, dict[str, Any]] = {}
    for line in lines:
        if figures := figures_of(line):
            row = by_step.setdefault(int(line["step"]), {"step": int(line["step"])})
            row |= figures | ({"train_accuracy": figures["train_mean_token_accuracy"]}
                              if "train_mean_token_accuracy" in figures else {})  # fmt: skip
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(by_step[step] for step in sorted(by_step))
    return text.getvalue().encode()


def kept_metrics(lines: list[dict[str, Any]]) -> dict[str, float]:
    """The figures of the state that was kept: with the lowest validation loss, else the last."""
    measured = [line for line in lines if "valid_loss" in figures_of(line)]
    trained = [line for line in lines if "train_loss" in figures_of(line)]
    if not trained:
        return {}
    kept = int(min(measured, key=lambda line: line["eval_loss"])["step"] if measured else trained[-1]["step"])
    of_step = [figures_of(line) for line in lines if int(line.get("step", -1)) == kept]
    merged = {name: value for figures in of_step for name, value in figures.items()}
    if "valid_loss" in merged:  # it is measured on all validation rows
        merged["full_valid_loss"] = merged["valid_loss"]
    return {"step": float(kept)} | merged


def trained_tokens(lines: list[dict[str, Any]]) -> int | None:
    """The tokens that were learnt from, as far as the trainer counted them."""
    counted = [int(line["num_input_tokens_seen"]) for line in lines if "num_input_tokens_seen" in line]
    return max(counted, default=None)
