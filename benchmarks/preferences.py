"""What a reward model and DPO learn from people's judgements: held-out accuracy for each set of data.

    python -m benchmarks.preferences --data FOLDER --home FOLDER [--max-tokens 128] [--recipes reward dpo sft+dpo]

FOLDER of `--data` holds the public sets `hh_rlhf_harmless`, `oasst_ranked_trees` and `pandalm_human_pairs` (see
docs/data.md). Thirty records of a hundred of each, by their first question, are held out; a version is trained with
`brogue train` on the others together, once for each recipe; `sft+dpo` is a version trained on their best answers, and
one trained from it on their preferences. Then every held-out pair is scored: by the reward model, or by DPO's implicit
reward (the answer's log-probability less that of the version it started from; Rafailov et al. 2023, eq. 5). Prints a
JSON line for each set and recipe, at last a table in Markdown. What is complete is not done again.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from adapters.base_model import load_tokenizer, load_weights, prepare
from adapters.examples import Encoder
from adapters.held_out import pair_scores
from adapters.recipes import find
from adapters.registry import Registry
from adapters.tokens import Pair
from data.dataset import Row, load_rows
from data.home import Home
from data.records import AnyRecord, PreferenceRecord, RankingRecord, answer
from data.settings import load_settings

SETS = {
    "hh-rlhf": "hh_rlhf_harmless/harmless_base_test_part1.jsonl",
    "oasst": "oasst_ranked_trees/en_trees_part1.jsonl",
    "pandalm": "pandalm_human_pairs/testset_part1.json",
}
ALL = "judged"  # what is trained on: the three sets' records that are not held out
BEST = "best"  # the best answers among them
ADAPTERS = {"reward": "judge", "dpo": "preferred", "sft+dpo": "voice"}
PASSES = "3"  # over so few pairs; the state with the lowest validation loss is kept
BATCH = 4  # pairs in one pass

Margins = Callable[[Sequence[Pair]], list[float]]


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--max-tokens", type=int, default=128, help="longer pairs are left out of the training")
    parser.add_argument("--held-out-tokens", type=int, default=256, help="and these of what is measured")
    parser.add_argument("--recipes", nargs="*", choices=list(ADAPTERS), default=list(ADAPTERS))
    given = parser.parse_args()
    home = Home(given.home)
    import_sets(home, given.data)
    lines = []
    for recipe in given.recipes:
        train(home, recipe, given.max_tokens)
        lines += list(measured(home, recipe, given.held_out_tokens))
    print(table(lines))


def train(home: Home, recipe: str, max_tokens: int) -> None:
    """The versions of a recipe that are not there yet."""
    name, options = ADAPTERS[recipe], ["--max-tokens", str(max_tokens)]
    steps = [["--data", ALL, "--recipe", recipe.removeprefix("sft+"), "--epochs", PASSES]]
    if recipe == "sft+dpo":
        steps = [["--data", BEST, "--recipe", "sft"], [*steps[0], "--from", f"{name}@1"]]
    for words in steps[len(Registry(home).versions(name)) :]:
        _brogue(home, "train", name, *words, *options)


def import_sets(home: Home, data: Path) -> None:
    """The three sets as datasets, and what is not held out of them as one of rankings (a pair is a ranking of two)."""
    for name, file in SETS.items():
        if not (home.datasets / name).exists():
            _brogue(home, "data", "import", str(data / file), "--into", name, "--split", "70/0/30", "--skip-faulty")
    rows = [row for name in SETS for row in load_rows(home, name) if row.split != "test"]
    _import(home, ALL, "ranking", ({"group": row.group, **ranking(row.record)} for row in rows))
    _import(home, BEST, "chat", ({"group": row.group, "messages": best(row.record)} for row in rows))


def _import(home: Home, name: str, kind: str, lines: Iterable[dict[str, Any]]) -> None:
    """`lines` as a dataset, if it is not there; without a group they are split by the question."""
    if (home.datasets / name).exists():
        return
    together = home.root / f"{name}.jsonl"
    together.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    # A row's place among 100 is the same as before, so none is over 70 here: 63 of 70 are trained on.
    _brogue(home, "data", "import", str(together), "--as", kind, "--into", name, "--split", "63/37/0",
            "--group-column", "group")  # fmt: skip
    together.unlink()


def best(record: AnyRecord) -> list[dict[str, str]]:
    """The conversation with its best answer."""
    assert isinstance(record, PreferenceRecord | RankingRecord)
    return [*(m.model_dump() for m in record.messages), {"role": "assistant", "content": answer(record)}]


def ranking(record: AnyRecord) -> dict[str, Any]:
    """The fields of a ranking record, as an import knows them."""
    if isinstance(record, PreferenceRecord):
        messages, replies = [m.model_dump() for m in record.messages], [record.chosen, record.rejected]
        return {"messages": messages, "replies": replies, "ranks": [0, 0 if record.tie else 1]}
    return record.model_dump(mode="json", exclude={"kind"})


def measured(home: Home, recipe: str, max_tokens: int) -> Iterator[dict[str, Any]]:
    """A line for each set: how well the newest version of the recipe tells its held-out pairs."""
    version = max(Registry(home).versions(ADAPTERS[recipe]))
    file = home.root / f"{ADAPTERS[recipe]}-{version}-{max_tokens}.json"
    if not file.exists():
        lines = list(_measured(home, recipe, f"{ADAPTERS[recipe]}@{version}", max_tokens))
        file.write_text(json.dumps(lines), encoding="utf-8")
    for line in json.loads(file.read_text(encoding="utf-8")):
        print(json.dumps(line), flush=True)
        yield line


def _measured(home: Home, recipe: str, name: str, max_tokens: int) -> Iterator[dict[str, Any]]:
    base = prepare(load_settings(home.settings_file).base_model, home, _say)
    tokenizer = load_tokenizer(base.path)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    margins = _scorer(home, name, base) if recipe == "reward" else _ratios(home, name, base, tokenizer)
    minutes, everything, before = Registry(home).resolve(name).minutes, list[tuple[float, Pair]](), 0
    for set_name in (*SETS, "all"):
        if set_name == "all":
            found = everything
        else:
            encoder = Encoder(find("dpo"), tokenizer, base, None, max_tokens, _say)  # gives pairs of rankings, too
            held_out = [row for row in load_rows(home, set_name) if row.split == "test"]
            pairs = _pairs(held_out, before, encoder)
            before += len(held_out)
            found = list(zip(margins(pairs), pairs, strict=True))
            everything += found
        scores = pair_scores("test", "adapter", [m for m, _ in found], [p for _, p in found])
        short = {key.replace("adapter_test_", "").replace("test_", ""): value for key, value in scores.items()}
        yield {"recipe": recipe, "set": set_name, "pairs": len(found), **short, "minutes": minutes}


def _pairs(held_out: Sequence[Row], first: int, encoder: Encoder) -> list[Pair]:
    """The pairs of a set's held-out records, all of them; the records are numbered from `first` on."""
    kept: list[Pair] = []
    for number, row in enumerate(held_out):
        for _, example in encoder.split("test", [row]):
            kept.append({**example, "group": first + number})  # type: ignore[typeddict-item]
    return kept


def _scorer(home: Home, name: str, base: Any) -> Margins:
    from adapters.reward_model import RewardModel

    model = RewardModel.load(Registry(home), name, base)

    def margins(pairs: Sequence[Pair]) -> list[float]:
        scores = model.score_ids([p["prompt_ids"] + ids for p in pairs for ids in (p["chosen_ids"], p["rejected_ids"])])
        return [better - worse for better, worse in zip(scores[::2], scores[1::2], strict=True)]

    return margins


def _ratios(home: Home, name: str, base: Any, tokenizer: Any) -> Margins:
    """DPO's implicit reward: how much likelier the version finds an answer than what it started from does, in nats.

    Without beta, which alters no order; the calibration error is therefore left out of the table.
    """
    import torch
    from peft import PeftModel
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    from adapters.trainer_pairs import answer_log_probs

    registry = Registry(home)
    card = registry.resolve(name)
    model = PeftModel.from_pretrained(load_weights(base.path), registry.folder(card.adapter, card.version)).eval()
    collate, beta = DataCollatorForPreference(pad_token_id=tokenizer.pad_token_id), card.config["beta"]
    if start := card.config["start"]:
        before = registry.resolve(start)
        model.load_adapter(str(registry.folder(before.adapter, before.version)), "before")

    def reference(batch: Any) -> Any:
        if start:
            model.set_adapter("before")
            found = answer_log_probs(model, batch)
            model.set_adapter("default")
            return found
        with model.disable_adapter():
            return answer_log_probs(model, batch)

    def margins(pairs: Sequence[Pair]) -> list[float]:
        found: list[float] = []
        for first in range(0, len(pairs), BATCH):
            some = pairs[first : first + BATCH]
            batch = collate([{k: v for k, v in pair.items() if k.endswith("_ids")} for pair in some])
            with torch.no_grad(), torch.autocast(model.device.type, dtype=torch.bfloat16):
                ratios = answer_log_probs(model, batch) - reference(batch)
            chosen, rejected = ratios.chunk(2)
            found += (beta * (chosen - rejected)).tolist()
        return found

    return margins


def table(lines: Sequence[dict[str, Any]]) -> str:
    """The lines as a Markdown table."""
    rows = [
        "| recipe | held-out set | records | pairs | told rightly (95%) | always the longer | calibration error |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        rows.append(
            f"| `{line['recipe']}` | {line['set']} | {line['records']:.0f} | {line['pairs']} | {line['accuracy']:.1%} "
            f"({line['accuracy_low']:.1%} to {line['accuracy_high']:.1%}) | {line['longer_accuracy']:.1%} | "
            f"{line['calibration_error']:.3f} |"
        )
    return "\n".join(rows)


def _brogue(home: Home, *words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "assistant.cli", *words], env=os.environ | {"BROGUE_HOME": str(home.root)}
    )
    if done.returncode != 0:
        sys.exit(done.returncode)  # the command has said why


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
