"""How well passages are found: words alone, vectors alone, and both, on judged questions.

Run `python -m benchmarks.retrieval FOLDER` with a set in BEIR's layout: corpus*.jsonl (_id, title, text),
queries*.jsonl (_id, text), qrels*.tsv (query-id, corpus-id, score). Each document is one passage, indexed in a
temporary folder. Measures come from pytrec_eval; the intervals are 95% percentile bootstraps over the questions.
`--set key=value` changes a setting of [knowledge]. A JSON line for each way of searching, each pair, and the sizes.
"""

import argparse
import csv
import hashlib
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from assistant.chunking import Passage
from assistant.embeddings import open_embedder
from assistant.knowledge_store import KnowledgeStore
from assistant.retrieval import search
from data.home import Home
from data.settings_knowledge import KnowledgeSettings

MEASURES = {"ndcg@10": "ndcg_cut_10", "recall@10": "recall_10", "mrr": "recip_rank"}
DEPTH = 100  # passages that are judged
SAMPLES = 2000  # of the bootstrap
Scores = dict[str, dict[str, float]]  # question → measure → value
Tell = Callable[[str], None]


def load(folder: Path) -> tuple[list[Passage], dict[str, str], dict[str, dict[str, int]]]:
    """Documents, questions with judgements, and these judgements."""
    passages = []
    for file in sorted(folder.glob("corpus*.jsonl")):
        for line in file.open(encoding="utf-8"):
            row = json.loads(line)
            text = row["text"]
            passages.append(
                Passage(id=row["_id"], source=row["_id"], title=row["title"], start=0, end=len(text), text=text,
                        sha256=hashlib.sha256(text.encode()).hexdigest())
            )  # fmt: skip
    judged: dict[str, dict[str, int]] = {}
    for file in sorted(folder.glob("qrels*.tsv")):
        for row in csv.DictReader(file.open(encoding="utf-8"), delimiter="\t"):
            judged.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
    asked = [json.loads(line) for file in sorted(folder.glob("queries*.jsonl")) for line in file.open(encoding="utf-8")]
    return passages, {row["_id"]: row["text"] for row in asked if row["_id"] in judged}, judged


def run(store: KnowledgeStore, questions: dict[str, str], settings: KnowledgeSettings) -> dict[str, dict[str, float]]:
    """For each question the passages found, with scores that fall with the rank."""
    found = {}
    for id, question in questions.items():
        hits = search(store, question, settings, limit=DEPTH).hits
        found[id] = {hit.passage.id: float(DEPTH - rank) for rank, hit in enumerate(hits)}
    return found


def evaluate(found: dict[str, dict[str, float]], judged: dict[str, dict[str, int]]) -> Scores:
    """Each question's measures."""
    import pytrec_eval

    evaluator = pytrec_eval.RelevanceEvaluator({q: judged[q] for q in found}, {"ndcg_cut", "recall", "recip_rank"})
    scores: Scores = evaluator.evaluate(found)
    return {q: {name: scores.get(q, {}).get(key, 0.0) for name, key in MEASURES.items()} for q in found}


def interval(values: Sequence[float], seed: int = 0) -> dict[str, float]:
    """The mean and its 95% percentile bootstrap interval."""
    import numpy as np

    chance, given = np.random.default_rng(seed), np.array(values)
    means = [given[chance.integers(len(given), size=len(given))].mean() for _ in range(SAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return {"mean": round(float(given.mean()), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def measure(folder: Path, settings: KnowledgeSettings, only: int | None, tell: Tell) -> list[dict[str, Any]]:
    """The table, as JSON values."""
    passages, questions, judged = load(folder)
    if only:
        questions = dict(random.Random(0).sample(sorted(questions.items()), only))
    ways = {
        "words": settings.model_copy(update={"dense_weight": 0.0, "reranker": None}),
        "vectors": settings.model_copy(update={"dense_weight": 1.0, "reranker": None}),
        "hybrid": settings.model_copy(update={"reranker": None}),
    }
    if settings.reranker:
        ways["hybrid, reranked"] = settings
    results: list[dict[str, Any]] = [{"set": folder.name, "passages": len(passages), "questions": len(questions)}]
    with tempfile.TemporaryDirectory() as temporary:
        home = Home(Path(os.environ.get("BROGUE_HOME") or temporary))
        began = time.perf_counter()
        store = KnowledgeStore(
            Path(temporary) / "store", "benchmark", settings, open_embedder(settings, home, many=True)
        )
        store.upsert(passages, tell)
        results[0]["index_s"] = round(time.perf_counter() - began, 1)
        store.embedder = open_embedder(settings, home, many=False)
        by_way: dict[str, Scores] = {}
        for name, way in ways.items():
            tell(f"asking {len(questions)} questions: {name}")
            by_way[name] = evaluate(run(store, questions, way), judged)
            values = {m: interval([s[m] for s in by_way[name].values()]) for m in MEASURES}
            results.append({"way": name, **values})
        store.close()
    for name in list(by_way)[:2]:  # the same questions, so that the difference is surer than the two intervals say
        gain = {m: interval([by_way["hybrid"][q][m] - by_way[name][q][m] for q in questions]) for m in MEASURES}
        results.append({"difference": f"hybrid - {name}", **gain})
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", type=int, help="so many questions, drawn by chance")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of [knowledge]")
    arguments = parser.parse_args()
    changed = dict(pair.split("=", 1) for pair in arguments.set)
    chosen = KnowledgeSettings.model_validate({"fold": False} | changed)
    for result in measure(arguments.folder, chosen, arguments.only, lambda line: print(line, file=sys.stderr)):
        print(json.dumps(result))
