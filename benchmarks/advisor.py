"""What the advisor finds on public data: every way to do the task, measured side by side, with its verdict.

    python -m benchmarks.advisor SET --data FOLDER --home FOLDER [--budget 30m] [--limit 200] [--arms a,b]

FOLDER of `--data` holds the public sets (docs/data.md); `SET` is one of the names in `SETS`. The set is imported as
anybody would, `brogue up` is started if nothing runs in that home, and `brogue advise` is run; then a JSON line and the
set's part of the table in docs/advisor.md are printed. What is complete is not done again: run it again after a kill.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from adapters.exam_types import Interval
from assistant.advice_types import Advice, Figures, Result
from assistant.services import running_gateway
from data.home import Home, write_text

Run = Callable[..., str]  # runs `brogue` with the given words: what it printed


class Set(NamedTuple):
    """A public set, and how it is imported."""

    file: str  # below the folder of the public sets
    words: tuple[str, ...] = ()  # of `brogue data import`
    split: str = "60/10/30"  # a set that is large enough keeps more of it to learn from
    closed: bool = False  # without the paragraphs: these are documents
    note: str = ""  # behind its name in the table


_REFRAMED = ("--prompt-column", "original_text", "--response-column", "reframed_text")
_SUMMARY = ("--prompt-column", "original_text", "--response-column", "reference_summary")
_XQUAD = "xquad_en/xquad.en.part1.json"
SETS = {
    "banking77": Set("banking77/train.csv", split="80/10/10", note="77 intents"),
    "clinc150": Set("clinc150/data_small_train_val.json", split="80/10/10", note="150 intents and out-of-scope"),
    "bitext": Set("bitext_customer_support/answers_short.csv", note="answers in a voice"),
    "xquad": Set(_XQUAD, split="50/20/30", note="questions with their paragraph"),
    "xquad-closed": Set(_XQUAD, split="50/20/30", closed=True, note="questions alone, paragraphs as documents"),
    "legal-plain-english": Set("legal_plain_english/tosdr_part1.json", _SUMMARY, note="style"),
    "positive-reframing": Set("positive_reframing/wholedev.csv", _REFRAMED, note="style"),
    "wnut17": Set("wnut17_ner/emerging.dev.conll", note="six types of names"),
}


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=list(SETS))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--budget", default="30m")
    parser.add_argument("--limit", type=int, default=200, help="test records at most")
    parser.add_argument("--arms", help="only these, with commas between them")
    given = parser.parse_args()
    home = Home(given.home.absolute())

    def run(*words: str) -> str:
        done = subprocess.run([sys.executable, "-m", "assistant.cli", *words], stdout=subprocess.PIPE, text=True,
                              env=os.environ | {"BROGUE_HOME": str(home.root)})  # fmt: skip
        if done.returncode != 0:
            sys.exit(done.returncode)  # the command has said why
        return done.stdout

    asked = ["--budget", given.budget, "--limit", str(given.limit), *(["--arms", given.arms] if given.arms else [])]
    advice = advise(home, given.set, given.data, asked, run)
    print(json.dumps(line(given.set, advice)))
    print(table(given.set, advice))


def advise(home: Home, name: str, data: Path, asked: list[str], run: Run) -> Advice:
    """The advice on a set, by the commands that anybody has; what it starts is stopped again."""
    words = import_set(home, name, data, run)
    begun = running_gateway(home) is None
    if begun:
        if not list(home.assistants.glob("*.yaml")):
            write_text(home.assistants / "plain.yaml", "name: plain\n")  # else the example's two voices are trained
        run("up")
    try:
        return Advice.model_validate_json(run("advise", *words, *asked, "--json"))
    finally:
        if begun:
            run("down")


def import_set(home: Home, name: str, data: Path, run: Run) -> list[str]:
    """The set as a dataset of its name, if it is not there yet; the options of `brogue advise` that it takes."""
    chosen = SETS[name]
    file, words = data / chosen.file, list(chosen.words)
    documents = home.root / "documents" / name
    if chosen.closed:
        file = _take_apart(file, documents)
        words = ["--group-column", "article", "--as", "instruction"]
    if not (home.datasets / name).exists():
        run("data", "import", str(file), "--into", name, "--split", chosen.split, *words)
    return ["--data", name, *(["--knowledge", str(documents)] if chosen.closed else [])]


def _take_apart(file: Path, documents: Path) -> Path:
    """SQuAD's file as questions with answers, and a document of each article's paragraphs; the questions' file."""
    lines = []
    for article in json.loads(file.read_text(encoding="utf-8"))["data"]:
        title = str(article.get("title") or file.stem)
        texts = [paragraph["context"] for paragraph in article["paragraphs"]]
        heading = title.replace("_", " ")
        write_text(documents / f"{title.replace('/', '-')}.md", "\n\n".join([f"# {heading}", *texts]) + "\n")
        lines += [
            json.dumps({"prompt": qa["question"], "response": qa["answers"][0]["text"], "article": title})
            for paragraph in article["paragraphs"] for qa in paragraph["qas"]
        ]  # fmt: skip
    questions = documents.parent / f"{documents.name}.jsonl"
    write_text(questions, "\n".join(lines) + "\n")
    return questions


def line(name: str, advice: Advice) -> dict[str, Any]:
    """What is worth comparing with other runs."""
    verdict = advice.recommendation
    return {
        "set": name, "id": advice.id, "metric": advice.task.metric, "counts": advice.counts, "minutes": advice.minutes,
        "floor": round(advice.task.floor, 4), "base_model": advice.base_model, "seed": advice.seed,
        "result": verdict.result, "arm": verdict.arm, "best": verdict.best, "fine_tune": verdict.fine_tune,
        "arms": {
            one.arm.name: {"state": one.state, **({} if one.test is None else _numbers(one.test))}
            for one in advice.results
        },
    }  # fmt: skip


def _numbers(test: Figures) -> dict[str, Any]:
    main = test.main
    return {"n": test.n, "value": round(main.value, 4), "low": round(main.low, 4), "high": round(main.high, 4)}


def table(name: str, advice: Advice) -> str:
    """The set's part of the table in docs/advisor.md: the verdict, then a row for every arm that was measured."""
    task, counts = advice.task, advice.counts
    held = ", ".join(f"{counts[split]} {split}" for split in ("train", "validation", "test") if split in counts)
    return "\n".join([
        f"### {name}: {SETS[name].note}",
        "",
        f"`{task.metric}` on {held} records; {advice.minutes:.0f} min, `{advice.base_model}`; without looking at the "
        f"question: {task.floor:.2f}.",
        "",
        *(f"> {sentence}" for sentence in advice.recommendation.words),
        "",
        "| arm | " + task.metric + " (95%) | rows | minutes | tokens in / out | s, p50 / p95 | same when asked again |",
        "|---" * 7 + "|",
        *_rows(advice),
    ])  # fmt: skip


def _rows(advice: Advice) -> Iterator[str]:
    tested = [one for one in advice.results if one.test is not None]
    turn = -1 if advice.task.better == "higher" else 1
    for one in sorted(tested, key=lambda result: turn * result.test.main.value if result.test else 0):
        yield _row(one, chosen=one.arm.name == advice.recommendation.arm)
    for one in advice.results:
        if one.test is None:
            last = f" ({_interval(one.curve[-1].found)} on validation)" if one.curve else ""
            yield f"| {one.arm.name} | {one.state}: {one.why}{last} | | | | | |"


def _row(result: Result, chosen: bool) -> str:
    test, ready, again = result.test, result.ready, result.consistency
    assert test is not None
    name = f"**{result.arm.name}**" if chosen else result.arm.name
    return (
        f"| {name} | {_interval(test.main)} | {ready.rows if ready else 0} | {ready.minutes if ready else 0:.1f} | "
        f"{test.prompt_tokens:.0f} / {test.answer_tokens:.0f} | {test.seconds_p50:.2f} / {test.seconds_p95:.2f} | "
        f"{'-' if again is None else f'{again.value:.2f}'} |"
    )


def _interval(found: Interval) -> str:
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


if __name__ == "__main__":
    main()
