"""PPO on a task whose optimum is known, and the time of its step beside TRL's RLOO.

    python -m benchmarks.ppo MODEL --out FOLDER [--seeds 0 1 2] [--rounds 16] [--seconds 480]
    python -m benchmarks.ppo MODEL --out FOLDER --steps 4
    python -m benchmarks.ppo MODEL --out FOLDER --plot FILE.png

MODEL is a model's folder. The reward is 1 for an answer with a comma in its first words, else 0: its most is 1. A
base model has it in one answer of four. The first command trains on 57 questions, once for each seed, and measures on
15 other questions what it began as and what came of it; `--seconds` ends it early, the same command goes on. The second
one times whole steps of PPO and of RLOO in turns: same model, questions, LoRA rank, number and length of answers, and
one pass over them. The third draws the learning curves of the runs in FOLDER. Prints JSON.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapters.base_model import load_tokenizer
from adapters.ppo import PPOConfig, Prompt, make_prompt
from data.records import Message

ASKED = ("What is {}?", "Tell me about {}.", "Why do people like {}?", "Where does {} come from?",
         "Who should know about {}?", "Explain {} to a friend.")  # fmt: skip
THINGS = ("tea", "chess", "copper", "rain", "bread", "the moon", "cycling", "a library", "glass", "a river", "honey",
          "football")  # fmt: skip
QUESTIONS = [asked.format(thing) for thing in THINGS for asked in ASKED]
HELD_OUT = QUESTIONS[::5]  # every question form and nearly every thing
SYSTEM = "Answer briefly."


def has_comma(_prompts: Sequence[Sequence[dict[str, Any]]], answers: Sequence[str]) -> list[float]:
    """1 for each answer that has a comma behind a word, else 0."""
    return [float("," in answer.strip().lstrip(",")) for answer in answers]


def config_of(seed: int, rounds: int) -> PPOConfig:
    """Few, short answers, so that a run takes minutes on two cores. An answer that was cut is no worse here."""
    return PPOConfig(
        seed=seed, rounds=rounds, batch_size=16, minibatch_size=8, epochs=2, max_new_tokens=10, learning_rate=5e-4,
        unended_penalty=0, save_every=5,
    )  # fmt: skip


def prompts_of(tokenizer: Any, questions: Sequence[str]) -> list[Prompt]:
    """The questions as they are asked."""
    return [make_prompt(tokenizer, [Message(role="user", content=q)], SYSTEM, True) for q in questions]


def learn(model: Path, out: Path, seed: int, rounds: int, until: float) -> None:
    """One seed's run, from its last checkpoint; measures when it is complete."""
    from adapters.ppo_policy import Policy
    from adapters.ppo_rollout import measure
    from adapters.ppo_trainer import PPOTrainer

    tokenizer, config, run = load_tokenizer(model), config_of(seed, rounds), out / f"seed-{seed}"
    if (run / "measured.json").exists():
        print((run / "measured.json").read_text(encoding="utf-8"), flush=True)
        return
    run.mkdir(parents=True, exist_ok=True)
    policy = Policy(str(model), tokenizer, config, None)
    asked = [question for question in QUESTIONS if question not in HELD_OUT]
    trainer = PPOTrainer(policy, tokenizer, prompts_of(tokenizer, asked), has_comma, config, run)
    if not trainer.train(lambda stats: print(stats.model_dump_json(), flush=True), lambda: time.monotonic() > until):
        return
    held_out = prompts_of(tokenizer, HELD_OUT)
    measured = {
        who: measure(policy, tokenizer, held_out, has_comma, config, reference=who == "before").model_dump()
        for who in ("before", "after")
    }
    last, means = trainer.history[-8:], ("reward", "kl", "entropy", "repeated")
    report = {
        "seed": seed, "rounds": rounds, "held_out": measured, "kl_target": config.kl_target,
        "first_round": trainer.history[0].reward,
        "last_8_rounds": {name: round(statistics.fmean(getattr(s, name) for s in last), 3) for name in means},
        "highest_kl": round(max(s.kl for s in trainer.history), 2),
        "seconds_a_round": round(statistics.median(s.seconds for s in trainer.history), 2),
    }  # fmt: skip
    (run / "measured.json").write_text(json.dumps(report), encoding="utf-8")
    print(json.dumps(report), flush=True)


def times(model: Path, out: Path, steps: int) -> None:
    """Seconds of a step of PPO and of RLOO, in turns of `steps` steps, two of each; a turn's first step warms up."""
    found: dict[str, list[float]] = {"ppo": [], "rloo": []}
    turns = {"ppo": _ppo_steps, "rloo": _rloo_steps}
    for turn in range(2):
        for name, run in turns.items():
            seconds = run(model, out / f"time-{name}-{turn}", steps)
            found[name] += seconds
            print(json.dumps({"turn": turn, "what": name, "seconds": [round(s, 2) for s in seconds]}), flush=True)
    for name, seconds in found.items():
        ends = {"median_s": statistics.median(seconds), "least_s": min(seconds), "most_s": max(seconds)}
        print(json.dumps({"what": name, "steps": len(seconds)} | {key: round(s, 2) for key, s in ends.items()}))


def _ppo_steps(model: Path, run: Path, steps: int) -> list[float]:
    from adapters.ppo_policy import Policy
    from adapters.ppo_trainer import PPOTrainer

    # No folder: what a run of before has left would be gone on from.
    tokenizer, config = load_tokenizer(model), config_of(0, steps + 1)
    config = config.model_copy(update={"save_every": 1000, "epochs": 1})
    policy = Policy(str(model), tokenizer, config, None)
    run = run / str(time.time_ns())
    run.mkdir(parents=True)
    trainer = PPOTrainer(policy, tokenizer, prompts_of(tokenizer, QUESTIONS), has_comma, config, run)
    trainer.train(lambda _: None, lambda: False)
    return [stats.seconds for stats in trainer.history[1:]]


def _rloo_steps(model: Path, run: Path, steps: int) -> list[float]:
    """TRL's trainer on the same questions: 16 answers a step (4 questions, 4 answers each), two minibatches of 8."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PrinterCallback, TrainerCallback
    from trl import RLOOConfig, RLOOTrainer

    class Clock(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.ends: list[float] = []

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.ends.append(time.monotonic())

    def reward(completions: list[list[dict[str, str]]], **_: Any) -> list[float]:
        return has_comma([], [answer[0]["content"] for answer in completions])

    clock, system = Clock(), {"role": "system", "content": SYSTEM}
    rows = [{"prompt": [system, {"role": "user", "content": question}]} for question in QUESTIONS]
    config = config_of(0, steps)
    arguments = RLOOConfig(
        output_dir=str(run), max_steps=steps + 1, per_device_train_batch_size=config.minibatch_size,
        gradient_accumulation_steps=config.batch_size // config.minibatch_size, num_generations=4,
        max_completion_length=config.max_new_tokens, learning_rate=config.learning_rate, beta=config.kl_coef, bf16=True,
        gradient_checkpointing=False, use_cpu=not torch.cuda.is_available(), report_to=[], save_strategy="no",
        logging_steps=1000, disable_tqdm=True, model_init_kwargs={"dtype": "bfloat16"},
    )  # fmt: skip
    rank = config.rank
    lora = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", lora_dropout=0.0, task_type="CAUSAL_LM")
    trainer = RLOOTrainer(model=str(model), reward_funcs=reward, args=arguments, train_dataset=Dataset.from_list(rows),
                          peft_config=lora, callbacks=[clock])  # fmt: skip
    trainer.remove_callback(PrinterCallback)  # stdout is for our lines
    trainer.train()
    return [after - before for before, after in zip(clock.ends, clock.ends[1:], strict=False)]


def plot(out: Path, file: Path) -> None:
    """Reward, KL and entropy by round, one line for each run in `out`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    titles = {"reward": "mean reward", "kl": "KL, nats per answer", "entropy": "entropy, nats per token"}
    figure, axes = pyplot.subplots(1, 3, figsize=(12, 3.2), layout="constrained")
    for path in sorted(out.glob("*/metrics.jsonl")):
        stats = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for axis, name in zip(axes, titles, strict=True):
            axis.plot([s["round"] for s in stats], [s[name] for s in stats], label=path.parent.name)
    for axis, title in zip(axes, titles.values(), strict=True):
        axis.set(title=title, xlabel="round")
        axis.set_ylim(bottom=0)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
    axes[0].axhline(0.8, linestyle=":", color="grey")  # four fifths of the most
    axes[1].axhline(config_of(0, 1).kl_target, linestyle=":", color="grey")
    axes[0].legend(frameon=False)
    figure.savefig(file, dpi=110)


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="stop after so long; go on with the same command"
    )
    parser.add_argument("--steps", type=int, help="time so many steps of PPO and RLOO instead")
    parser.add_argument("--plot", type=Path, help="draw the curves of the runs in FOLDER instead")
    given, began = parser.parse_args(), time.monotonic()
    if given.plot:
        plot(given.out, given.plot)
    elif given.steps:
        times(given.model, given.out, given.steps)
    else:
        for seed in given.seeds:
            if time.monotonic() < began + given.seconds:
                learn(given.model, given.out, seed, given.rounds, began + given.seconds)


if __name__ == "__main__":
    main()
