"""Are the right passages found, and are questions declined that the documents do not answer?

Run `python -m benchmarks.decline --data FOLDER` with clapnq_dev/ and xquad_en/ in it. CLAPnq: all passages are indexed;
its unanswerable questions have a passage about the very matter that does not answer them. XQuAD: every second
paragraph is left out of the index, and its questions are the unanswerable ones, while the rest of the article is there.

`hit@3`: answerable questions whose passage is among the first three. AUROC of each measure of assistant/decline.py on
all questions, with 95% bootstrap intervals. `chosen`: measure and threshold calibrated on one half of the questions,
reported on the other. JSON lines.
"""

import argparse
import hashlib
import json
import sys
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import roc_auc_score

from assistant.chunking import Passage
from assistant.decline import Measure, calibrate, measure
from assistant.embeddings import open_embedder
from assistant.knowledge_store import KnowledgeStore
from assistant.retrieval import search
from data.home import Home
from data.settings_knowledge import KnowledgeSettings

RESAMPLES = 1000


class Question(NamedTuple):
    """A question, and the id of the passage that answers it, if one does."""

    text: str
    passage: str | None


class Answered(NamedTuple):
    """What was found for a question."""

    answerable: bool
    hit: bool
    measured: dict[Measure, float]
    first_half: bool


def passage(text: str, title: str) -> Passage:
    digest = hashlib.sha256(f"{title}\0{text}".encode()).hexdigest()
    return Passage(id=digest[:32], source=title, title=title, start=0, end=len(text), text=text, sha256=digest)


def clapnq(folder: Path) -> tuple[list[Passage], list[Question]]:
    """All passages and questions of CLAPnq."""
    passages, questions = [], []
    for kind in ("answerable", "unanswerable"):
        for path in sorted((folder / "clapnq_dev").glob(f"clapnq_dev_{kind}*.jsonl")):
            for line in path.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                found = [passage(p["text"], p["title"]) for p in row["passages"]]
                passages += found
                questions.append(Question(row["input"], found[0].id if kind == "answerable" else None))
    return passages, questions


def xquad(folder: Path) -> tuple[list[Passage], list[Question]]:
    """Every second paragraph of XQuAD, and the questions of all."""
    passages, questions, number = [], [], 0
    for path in sorted((folder / "xquad_en").glob("*.json")):
        for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
            for paragraph in article["paragraphs"]:
                number += 1
                found = passage(paragraph["context"], article.get("title", ""))
                if number % 2:
                    passages.append(found)
                questions += [Question(qa["question"], found.id if number % 2 else None) for qa in paragraph["qas"]]
    return passages, questions


def run(passages: list[Passage], questions: list[Question], home: Home) -> list[Answered]:
    """Index the passages and look for each question."""
    settings = KnowledgeSettings()
    folder = home.root / "index"
    store = KnowledgeStore(folder, "decline", settings, open_embedder(settings, home, many=True))
    store.upsert(list({p.id: p for p in passages}.values()))
    answered = []
    for number, question in enumerate(questions, 1):
        hits = search(store, question.text, settings, limit=3).hits
        texts = [hit.passage.searchable() for hit in hits]
        measured = measure(question.text, texts, [hit.cosine for hit in hits], [hit.bm25 for hit in hits])
        hit = question.passage in [p.id for hit in hits for p in (hit.passage, *hit.same)]
        first = zlib.crc32(question.text.encode()) % 2 == 0
        answered.append(Answered(question.passage is not None, hit, measured, first))
        print(f"\r{number} of {len(questions)}", end="", file=sys.stderr)
    print(file=sys.stderr)
    store.close()
    return answered


def auroc(answered: Sequence[Answered], name: Measure) -> dict[str, Any]:
    """AUROC of a measure with its interval."""
    truth = np.array([a.answerable for a in answered])
    values = np.array([a.measured[name] for a in answered])
    chance = np.random.default_rng(0)
    drawn = []
    for _ in range(RESAMPLES):
        at = chance.integers(0, len(truth), len(truth))
        if 0 < truth[at].sum() < len(at):
            drawn.append(roc_auc_score(truth[at], values[at]))
    low, high = np.percentile(drawn, [2.5, 97.5])
    whole = float(roc_auc_score(truth, values))
    return {"auroc": round(whole, 3), "interval": [round(float(low), 3), round(float(high), 3)]}


def lines(name: str, answered: list[Answered], keep: float) -> list[dict[str, Any]]:
    """What is printed for one set."""
    answerable = [a for a in answered if a.answerable]
    found: list[dict[str, Any]] = [{
        "set": name, "answerable": len(answerable), "unanswerable": len(answered) - len(answerable),
        "hit@3": round(sum(a.hit for a in answerable) / len(answerable), 3),
    }]  # fmt: skip
    found += [{"set": name, "measure": kind, **auroc(answered, kind)} for kind in answered[0].measured]
    first, second = [a for a in answered if a.first_half], [a for a in answered if not a.first_half]
    point = calibrate([a.measured for a in first], [a.answerable for a in first], keep)
    kept = [not point.declines(a.measured) for a in second if a.answerable]
    gone = [point.declines(a.measured) for a in second if not a.answerable]
    return [*found, {
        "set": name, "chosen": point.measure, "threshold": round(point.threshold, 3),
        "answered": round(sum(kept) / len(kept), 3), "declined": round(sum(gone) / len(gone), 3),
    }]  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--keep", type=float, default=0.9, help="share of answerable questions to answer")
    options = parser.parse_args()
    for name, load in (("CLAPnq", clapnq), ("XQuAD", xquad)):
        with tempfile.TemporaryDirectory() as folder:
            home = Home(Path(folder))
            home.create()
            for line in lines(name, run(*load(options.data), home), options.keep):
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
