"""`brogue train` beside TRL's SFTTrainer with its own defaults: tokens a second, memory, and what was learnt.

    python -m benchmarks.training answers_short.csv answers_long.csv --prompt-column instruction \
        --response-column response --home FOLDER [--rows 200] [--rounds 3] [--epochs 1]

The home folder is one of its own; a prepared base model there saves time. Of each file `--rows` rows are drawn and
imported. Each round trains both, in turns (the first of one round is the second of the next), each in a process of its
own: the same rows, batch size (8, both defaults), epochs, LoRA (rank 8, alpha 16, all linear layers), peak learning
rate and seed. All else on TRL's side is as TRL has it: weights in float32 under bfloat16 autocast, gradient
checkpointing, max_length 1024, rows in random order, linear decay without warm-up, no evaluation. `brogue train` runs
by its command, with what it does beyond that: held-out measurements, checkpoints, the registry.

Tokens are counted once, on the rows, for both: those of the whole rows, and of the answers. The time is that of the
training loop without the evaluations inside; the whole process (imports, measurements, everything) stands beside it.
Where other programs take the processor, OMP_NUM_THREADS=1 and tokens per second of processor time say most.
The validation loss is measured afterwards for all in one way: float32, nats per answer token of the validation rows.
Prints a JSON line for each training, at last a table in Markdown: medians, lowest and highest in brackets.
"""

import argparse
import csv
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

SIDES = ("trl", "brogue")
_COLUMNS = (
    ("tokens/s", "tokens_per_s"), ("answer tokens/s", "answer_tokens_per_s"), ("tokens/cpu s", "tokens_per_cpu_s"),
    ("training s", "train_s"), ("process s", "process_s"), ("peak MiB", "peak_mib"),
    ("validation loss", "validation_loss"),
)  # fmt: skip
EVALUATED = 60  # validation rows at most
Asked = dict[str, Any]
Run = Callable[[str, Asked], dict[str, Any]]


def main() -> None:
    """See the module's text."""
    if sys.argv[1:2] == ["--one"]:  # a process of its own for one training
        name, asked = sys.argv[2], json.loads(sys.argv[3])
        print(json.dumps(PARTS[name](asked)))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--prompt-column", required=True)
    parser.add_argument("--response-column", required=True)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=1)
    given = parser.parse_args()
    os.environ["BROGUE_HOME"] = str(given.home.absolute())
    lines = []
    for file in given.files:
        data = import_rows(file, given.rows, given.prompt_column, given.response_column)
        lines += compare(data, given.rounds, given.epochs, separate)
    print(table(lines))


def import_rows(file: Path, rows: int, prompt: str, response: str) -> str:
    """`rows` of the file's rows, drawn by chance, as a dataset of the home folder, once; returns its name."""
    data = f"{file.stem.lower().replace('_', '-')}-{rows}"
    if (Path(os.environ["BROGUE_HOME"]) / "datasets" / data).exists():
        return data
    with file.open(encoding="utf-8", newline="") as source:
        all_rows = list(csv.DictReader(source))
    chosen = random.Random(0).sample(all_rows, min(rows, len(all_rows)))
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as made:
        made.writelines(json.dumps({"prompt": r[prompt], "response": r[response]}) + "\n" for r in chosen)
        made.flush()
        _brogue("data", "import", made.name, "--as", "instruction", "--into", data)
    return data


def compare(data: str, rounds: int, epochs: int, run: Run) -> list[dict[str, Any]]:
    """One line for each training: what it took, and its validation loss."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        lines = []
        for number in range(rounds):
            for side in SIDES if number % 2 == 0 else SIDES[::-1]:
                asked = {"data": data, "epochs": epochs, "seed": number, "out": f"{folder}/{side}-{number}"}
                began = time.monotonic()
                line = {"data": data, "side": side, "round": number + 1} | run(side, asked)
                lines.append(line | {"process_s": round(time.monotonic() - began, 1), "load": os.getloadavg()[0]})
                print(json.dumps(lines[-1]), flush=True)
        losses = run("losses", {"data": data, "folders": [line["folder"] for line in lines]})["losses"]
    return [line | {"validation_loss": loss} for line, loss in zip(lines, losses, strict=True)]


def separate(name: str, asked: Asked) -> dict[str, Any]:
    """A training (or the measurement of all) in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.training", "--one", name, json.dumps(asked)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(done.returncode)  # it has said why
    return dict(json.loads(done.stdout.splitlines()[-1]))


def by_brogue(asked: Asked) -> dict[str, Any]:
    """`brogue train`, as a person gives it."""
    home = Path(os.environ["BROGUE_HOME"])
    name = f"speed-{time.time_ns()}"  # a run that was interrupted is not to be taken up again
    with clocked() as spent:
        said = _brogue("train", name, "--data", asked["data"], "--epochs", str(asked["epochs"]),
                       "--seed", str(asked["seed"]), "--json")  # fmt: skip
    card = json.loads(said)
    version = home / "adapters" / card["adapter"] / str(card["version"])
    return _taken(spent, asked["data"], asked["epochs"]) | {"folder": str(version)}


def by_trl(asked: Asked) -> dict[str, Any]:
    """TRL's trainer as it comes, but for what the module's text names."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    base, rows, _ = _parts(asked["data"])
    examples = [{"prompt": [m.model_dump() for m in said[:-1]], "completion": [said[-1].model_dump()]} for said in rows]
    arguments = SFTConfig(output_dir=asked["out"], num_train_epochs=asked["epochs"], seed=asked["seed"],
                          learning_rate=_learning_rate(base), report_to=[], disable_tqdm=True,
                          use_cpu=not torch.cuda.is_available())  # fmt: skip
    lora = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = SFTTrainer(base.path, args=arguments, train_dataset=Dataset.from_list(examples), peft_config=lora)
    with redirect_stdout(sys.stderr), clocked() as spent:  # it prints what it logs
        trainer.train()
    trainer.save_model(asked["out"])
    return _taken(spent, asked["data"], asked["epochs"]) | {"folder": asked["out"]}


@contextmanager
def clocked() -> Iterator[dict[str, float]]:
    """The seconds (`wall`) and processor seconds (`cpu`) that transformers' trainers train, without evaluations."""
    from transformers import Trainer

    spent = {"wall": 0.0, "cpu": 0.0}
    before = {name: getattr(Trainer, name) for name in ("train", "evaluate")}
    inside = 0

    def wrapped(name: str) -> Callable[..., Any]:
        def call(self: Any, *values: Any, **options: Any) -> Any:
            nonlocal inside
            outer, wall, cpu = inside, time.monotonic(), time.process_time()
            inside += name == "train"
            try:
                return before[name](self, *values, **options)
            finally:
                inside = outer
                if name == "train" or outer:  # the measurements before and after training are not inside
                    sign = 1 if name == "train" else -1
                    spent["wall"] += sign * (time.monotonic() - wall)
                    spent["cpu"] += sign * (time.process_time() - cpu)

        return call

    for name in before:
        setattr(Trainer, name, wrapped(name))
    try:
        yield spent
    finally:
        for name, method in before.items():
            setattr(Trainer, name, method)


def losses_of(asked: Asked) -> dict[str, Any]:
    """The validation loss of each adapter, in float32: nats per answer token, over all of them."""
    import torch
    from peft import PeftModel

    from adapters.base_model import load_weights

    base, _, examples = _parts(asked["data"])
    losses = []
    for folder in asked["folders"]:
        model = PeftModel.from_pretrained(load_weights(base.path, "float32"), folder).eval()
        total = 0.0
        for example in examples["validation"][:EVALUATED]:
            ids, labels = torch.tensor([example["input_ids"]]), torch.tensor(example["labels"])
            with torch.no_grad():
                logits = model(ids).logits[0, :-1]
            total += float(torch.nn.functional.cross_entropy(logits, labels[1:], ignore_index=-100, reduction="sum"))
        losses.append(round(total / _answers(examples["validation"][:EVALUATED]), 4))
    return {"losses": losses}


PARTS: dict[str, Callable[[Asked], dict[str, Any]]] = {"brogue": by_brogue, "trl": by_trl, "losses": losses_of}


def _parts(data: str) -> tuple[Any, list[Any], dict[str, list[Any]]]:
    """The base model, the conversations to train on, and all rows as token ids by split, as `brogue train` has them."""
    from adapters.base_model import load_tokenizer, prepare
    from adapters.tokens import encode
    from data.dataset import load_rows
    from data.home import Home
    from data.records import conversation
    from data.settings import load_settings

    home = Home.from_environment()
    base = prepare(load_settings(home.settings_file).base_model, home, lambda _: None)
    tokenizer, rows = load_tokenizer(base.path), load_rows(home, data)
    said = {
        split: [conversation(row.record) for row in rows if row.split == split] for split in ("train", "validation")
    }
    examples = {
        split: [e for one in some for e in encode(tokenizer, one, None, base.supports_system)]
        for split, some in said.items()
    }
    return base, said["train"], examples


def _learning_rate(base: Any) -> float:
    """The peak that `brogue train` takes for this base model."""
    from adapters.recipes import find

    return float(find("sft").peak_learning_rate(base.weight_bytes))


def _taken(spent: Mapping[str, float], data: str, epochs: int) -> dict[str, Any]:
    examples = _parts(data)[2]["train"]
    tokens = epochs * sum(len(e["input_ids"]) for e in examples)
    return {
        "train_s": round(spent["wall"], 2),
        "train_cpu_s": round(spent["cpu"], 2),
        "tokens_per_s": round(tokens / spent["wall"], 1),
        "answer_tokens_per_s": round(epochs * _answers(examples) / spent["wall"], 1),
        "tokens_per_cpu_s": round(tokens / spent["cpu"], 1),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def _answers(examples: Sequence[Any]) -> int:
    return sum(label != -100 for example in examples for label in example["labels"])


def _brogue(*words: str) -> str:
    """What the command writes to stdout; in this process."""
    from assistant.cli_app import app

    with redirect_stdout(StringIO()) as said:
        app([*words], standalone_mode=False)
    return said.getvalue()


def table(lines: Sequence[dict[str, Any]]) -> str:
    """Medians with the lowest and highest, side by side."""
    head = ["data", "trained by", *(title for title, _ in _COLUMNS)]
    keys = [key for _, key in _COLUMNS]
    made = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for data in dict.fromkeys(line["data"] for line in lines):
        middle = {}
        for side in SIDES:
            of_side = {key: [ln[key] for ln in lines if (ln["data"], ln["side"]) == (data, side)] for key in keys}
            middle[side] = {key: statistics.median(of_side[key]) for key in keys}
            cells = [f"{statistics.median(v):.4g} ({min(v):.4g} to {max(v):.4g})" for v in of_side.values()]
            made.append(f"| {data} | {side} | {' | '.join(cells)} |")
        ratios = " | ".join(f"{middle['brogue'][key] / middle['trl'][key]:.2f}" for key in keys)
        made.append(f"| {data} | brogue / trl | {ratios} |")
    return "\n".join(made)


if __name__ == "__main__":
    main()
