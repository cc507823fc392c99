"""What each training method makes of the same data: parameters, minutes, validation loss, how it is served.

    python -m benchmarks.methods answers_short.csv --prompt-column instruction --response-column response \
        --home FOLDER [--rows 300] [--methods lora miss]

Trains a version with each method that can be served, by the recipe `sft` with the defaults of `brogue train`, in a home
folder of its own (a prepared base model there saves time). Prints JSON lines, at last a table in Markdown. Methods that
the engine could not serve are listed with their parameters only.
"""

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

RANKS = {"loha": 4, "vera": 16}  # the largest whose LoRA fits engine.max_lora_rank = 16; the others have 8


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--prompt-column", required=True)
    parser.add_argument("--response-column", required=True)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--methods", nargs="*", help="only these")
    given = parser.parse_args()
    data = f"{given.file.stem.replace('_', '-')}-{given.rows}"
    _import(given, data)
    plans = json.loads(_brogue(given.home, "plan", "--method", "all", "--no-measure", "--json"))
    lines = []
    for plan in plans["methods"]:
        if given.methods and plan["method"] not in given.methods:
            continue
        line = {key: plan[key] for key in ("method", "rank", "trainable", "total", "served")}
        if plan["served"] in ("native", "converted"):
            line |= _trained(given.home, data, plan["method"])
        print(json.dumps(line), flush=True)
        lines.append(line)
    print(_table(lines))


def _import(given: argparse.Namespace, data: str) -> None:
    """`rows` of the file's rows, drawn by chance, as a dataset; once."""
    if (given.home / "datasets" / data).exists():
        return
    with given.file.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = random.Random(0).sample(list(reader), given.rows)
    with tempfile.NamedTemporaryFile("w", suffix=".csv", encoding="utf-8", newline="") as chosen:
        writer = csv.DictWriter(chosen, rows[0])
        writer.writeheader()
        writer.writerows(rows)
        chosen.flush()
        _brogue(given.home, "data", "import", chosen.name, "--as", "instruction", "--into", data,
                "--prompt-column", given.prompt_column, "--response-column", given.response_column)  # fmt: skip


def _trained(home: Path, data: str, method: str) -> dict[str, Any]:
    rank = RANKS.get(method, 8)
    card = json.loads(
        _brogue(home, "train", f"try-{method}", "--data", data, "--method", method, "--rank", str(rank), "--json")
    )
    scores = card["scores"]
    return {
        "rank": rank, "minutes": card["minutes"], "lora_rank": card["rank"], "kl": scores.get("converted_kl", 0.0),
        "before": scores["base_validation_loss"], "after": scores["adapter_validation_loss"],
    }  # fmt: skip


def _brogue(home: Path, *words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "assistant.cli", *words], stdout=subprocess.PIPE, text=True,
                          env=os.environ | {"BROGUE_HOME": str(home)})  # fmt: skip
    if done.returncode != 0:
        sys.exit(done.returncode)  # the command has said why
    return done.stdout


def _table(lines: list[dict[str, Any]]) -> str:
    rows = ["| method | rank | trained | minutes | validation loss | served as |", "|---|---|---|---|---|---|"]
    for line in lines:
        known = "minutes" in line
        loss = f"{line['before']:.3f} → {line['after']:.3f}" if known else "-"
        served = {"native": "itself", "converted": f"LoRA of rank {line.get('lora_rank')}"}.get(line["served"], "no")
        if line.get("kl"):
            served += f", {line['kl']:.1g} nats a token off"
        minutes = f"{line['minutes']:.1f}" if known else "-"
        rows.append(f"| `{line['method']}` | {line['rank']} | {line['trainable']:,} | {minutes} | {loss} | {served} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
