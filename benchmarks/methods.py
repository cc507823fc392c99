"""What each training method makes of the same data: parameters, minutes, validation loss, and how it answers served.

    python -m benchmarks.methods answers_short.csv --prompt-column instruction --response-column response \
        --home FOLDER [--rows 300] [--methods lora miss] [--no-serve]

Trains a version with each method that can be served (recipe `sft`, one pass, else the defaults of `brogue train`), in a
home folder of its own; a prepared base model there saves time. Then starts `brogue up` there, the engine in float32,
promotes one version after the other, asks each ten held-out prompts, greedily, and compares the answers with those of
PEFT's own generate() in float32 for the version's folder. What is done is not done again: after a stop the same command
goes on. Prints JSON lines, at last a table in Markdown. Methods that cannot be served are listed with their parameters.
"""

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from adapters.registry import AdapterCard, Registry
from data.dataset import load_rows
from data.home import Home, write_json
from data.records import InstructionRecord
from data.secrets import admin_key
from data.settings import load_settings

RANKS = {"loha": 4, "vera": 16}  # the largest whose LoRA fits engine.max_lora_rank = 16; the others have 8
ADAPTER = "methods"
PROMPTS, TOKENS = 10, 48
SETTINGS = '[engine]\ndtype = "float32"\nmax_own_engines = 1\n'


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--prompt-column", required=True)
    parser.add_argument("--response-column", required=True)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--methods", nargs="*", help="only these")
    parser.add_argument("--no-serve", action="store_true", help="do not ask the versions")
    given = parser.parse_args()
    home, data = Home(given.home.absolute()), f"{given.file.stem.replace('_', '-')}-{given.rows}"
    home.assistants.mkdir(parents=True, exist_ok=True)  # there are assistants already, if none: no example is made
    if not home.settings_file.exists():
        home.settings_file.write_text(SETTINGS, encoding="utf-8")
    if load_settings(home.settings_file).engine.dtype != "float32":
        sys.exit(f'{home.settings_file}: wanted dtype = "float32" under [engine]; name another --home')
    _import(given, home, data)
    plans = json.loads(_brogue(home, "plan", "--method", "all", "--no-measure", "--json"))["methods"]
    plans = [plan for plan in plans if not given.methods or plan["method"] in given.methods]
    cards = {plan["method"]: _trained(home, data, plan["method"]) for plan in plans if _possible(plan)}
    answered = {} if given.no_serve else _compared(home, data, list(cards.values()))
    lines = [_line(plan, cards.get(plan["method"]), answered.get(plan["method"])) for plan in plans]
    for line in lines:
        print(json.dumps(line), flush=True)
    print(_table(lines))


def _possible(plan: dict[str, Any]) -> bool:
    return plan["served"] != "never" and plan["missing"] is None


def _import(given: argparse.Namespace, home: Home, data: str) -> None:
    """`rows` of the file's rows, drawn by chance, as a dataset; once."""
    if (home.datasets / data).exists():
        return
    with given.file.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = random.Random(0).sample(list(reader), given.rows)
    with tempfile.NamedTemporaryFile("w", suffix=".csv", encoding="utf-8", newline="") as chosen:
        writer = csv.DictWriter(chosen, rows[0])
        writer.writeheader()
        writer.writerows(rows)
        chosen.flush()
        _brogue(home, "data", "import", chosen.name, "--as", "instruction", "--into", data,
                "--prompt-column", given.prompt_column, "--response-column", given.response_column)  # fmt: skip


def _trained(home: Home, data: str, method: str) -> AdapterCard:
    """The version with that method; trained if there is none yet."""
    registry = Registry(home)
    cards = [registry.card(ADAPTER, number) for number in registry.versions(ADAPTER)]
    found = next((card for card in cards if (card.method, card.dataset) == (method, data)), None)
    if found is not None:
        return found
    rank = str(RANKS.get(method, 8))
    return AdapterCard.model_validate_json(
        _brogue(home, "train", ADAPTER, "--data", data, "--method", method, "--rank", rank, "--epochs", "1", "--json")
    )


def _compared(home: Home, data: str, cards: Sequence[AdapterCard]) -> dict[str, dict[str, Any]]:
    """For each method: how many answers equal PEFT's, and where the first of the others differs."""
    records = (row.record for row in load_rows(home, data) if row.split == "test")
    prompts = [record.prompt for record in records if isinstance(record, InstructionRecord)][:PROMPTS]
    wanted = {card.method: _kept(home, "peft", card, lambda c: _by_peft(home, c, prompts)) for card in cards}
    missing = [card for card in cards if not _answers_file(home, "served", card).exists()]
    if missing:
        with _gateway(home) as url:
            for card in missing:
                _kept(home, "served", card, lambda c: _by_gateway(home, url, c, prompts))
    found = {}
    for card in cards:
        given = json.loads(_answers_file(home, "served", card).read_text(encoding="utf-8"))
        pairs = list(zip(wanted[card.method], given, strict=True))
        first = min((_agreed(a, b) for a, b in pairs if a != b), default=None)
        found[card.method] = {"equal": sum(a == b for a, b in pairs), "asked": len(pairs), "first_difference": first}
    return found


def _agreed(one: str, other: str) -> int:
    """Words until two answers differ."""
    pairs = zip(one.split(), other.split(), strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one.split()), len(other.split())))


def _answers_file(home: Home, who: str, card: AdapterCard) -> Path:
    return home.root / "answers" / f"{who}-{card.engine_name}.json"


def _kept(home: Home, who: str, card: AdapterCard, ask: Callable[[AdapterCard], list[str]]) -> list[str]:
    """What `ask` gives for a version, asked once."""
    file = _answers_file(home, who, card)
    if not file.exists():
        print(f"{card.name} ({card.method}): asking, {who}", file=sys.stderr, flush=True)
        file.parent.mkdir(exist_ok=True)
        write_json(file, ask(card))
    return list(json.loads(file.read_text(encoding="utf-8")))


def _by_peft(home: Home, card: AdapterCard, prompts: Sequence[str]) -> list[str]:
    """Greedy answers of plain transformers and PEFT in float32."""
    import torch
    from peft import PeftModel

    from adapters.base_model import load_tokenizer, load_weights, prepare

    base = prepare(load_settings(home.settings_file).base_model, home, lambda _: None)
    tokenizer = load_tokenizer(base.path)
    model = PeftModel.from_pretrained(
        load_weights(base.path, "float32"), str(Registry(home).folder(ADAPTER, card.version))
    )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    # All at once: some methods make every layer's weights anew for each token. PEFT gives soft prompts no positions, so
    # what stands between them and the question has to be nothing: those one by one.
    size = 1 if card.served == "soft-prompt" else len(prompts)
    answers: list[str] = []
    for first in range(0, len(prompts), size):
        asked = [[{"role": "user", "content": prompt}] for prompt in prompts[first : first + size]]
        ids = tokenizer.apply_chat_template(asked, add_generation_prompt=True, padding=True, return_tensors="pt",
                                            return_dict=True)  # fmt: skip
        with torch.no_grad():
            made = model.generate(**ids, max_new_tokens=TOKENS, do_sample=False)
        texts = tokenizer.batch_decode(made[:, ids["input_ids"].shape[1] :], skip_special_tokens=True)
        answers += [text.strip() for text in texts]
    return answers


def _by_gateway(home: Home, url: str, card: AdapterCard, prompts: Sequence[str]) -> list[str]:
    """Greedy answers of the version as anybody gets them, after it was promoted."""
    _brogue(home, "adapters", "promote", card.name)
    answers = []
    headers = {"Authorization": f"Bearer {admin_key(home)}"}
    with httpx.Client(base_url=url, headers=headers, timeout=900, trust_env=False) as client:
        for prompt in prompts:
            body = {"model": card.name, "messages": [{"role": "user", "content": prompt}], "temperature": 0,
                    "max_tokens": TOKENS}  # fmt: skip
            reply = client.post("/v1/chat/completions", json=body)
            if reply.status_code != 200:
                sys.exit(f"{card.name} did not answer: {reply.text}")
            answers.append(str(reply.json()["choices"][0]["message"]["content"]).strip())
    return answers


@contextmanager
def _gateway(home: Home) -> Iterator[str]:
    """Brogue, running in that home: its URL."""
    from serve.engine import free_port

    port = free_port()
    try:
        _brogue(home, "up", "--port", str(port), "--page-port", str(free_port()))
        yield f"http://127.0.0.1:{port}"
    finally:
        _brogue(home, "down")


def _brogue(home: Home, *words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "assistant.cli", *words], stdout=subprocess.PIPE, text=True,
                          env=os.environ | {"BROGUE_HOME": str(home.root)})  # fmt: skip
    if done.returncode != 0:
        sys.exit(done.returncode)  # the command has said why
    return done.stdout


def _line(plan: dict[str, Any], card: AdapterCard | None, answered: dict[str, Any] | None) -> dict[str, Any]:
    line = {key: plan[key] for key in ("method", "rank", "trainable", "total", "served")}
    if card is None:
        return line
    scores = card.scores
    line |= {
        "rank": card.config["rank"], "served": card.served, "minutes": card.minutes, "lora_rank": card.rank,
        "learning_rate": card.config["learning_rate"], "before": scores["base_validation_loss"],
        "after": scores["adapter_validation_loss"],
        **{name: value for name, value in scores.items() if name.startswith(("converted_", "merged_"))},
    }  # fmt: skip
    return line | (answered or {})


def _table(lines: list[dict[str, Any]]) -> str:
    rows = [
        "| method | trained | minutes | validation loss | served | equal to PEFT | logits off by |",
        "|---" * 7 + "|",
    ]
    for line in lines:
        loss = f"{line['before']:.3f} → {line['after']:.3f}" if "after" in line else "-"
        minutes = f"{line['minutes']:.1f}" if "minutes" in line else "-"
        served = {"converted": f"LoRA of rank {line.get('lora_rank')}", "native": "as it is",
                  "never": "in no way"}.get(line["served"], line["served"])  # fmt: skip
        off = line.get("converted_logit", line.get("merged_logit"))
        rows.append(
            f"| `{line['method']}` | {line['trainable']:,} | {minutes} | {loss} | {served} | {_equal(line)} | "
            f"{'-' if off is None else f'{off:.1g}'} |"
        )
    return "\n".join(rows)


def _equal(line: dict[str, Any]) -> str:
    if "equal" not in line:
        return "-"
    first = line["first_difference"]
    return f"{line['equal']} of {line['asked']}{'' if first is None else f', first other word {first + 1}'}"


if __name__ == "__main__":
    main()
