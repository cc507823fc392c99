"""How fast documents are indexed and passages are found. JSON lines.

Run `python -m benchmarks.knowledge FOLDER` with a set in BEIR's layout (see benchmarks/retrieval.py).

precision: `--texts` documents embedded by the same model in each precision, in turns; the best of three rounds.

index: the first `--documents` documents, by Brogue and by the plain LangChain recipe (`Chroma.from_documents` with
`HuggingFaceEmbeddings`, all defaults, the same model, texts and cores), in turns, each in a process of its own.
Importing libraries and loading the model is not counted; wall seconds, seconds of processor, peak memory.

search: passages of five sentences drawn from the set by chance, as many as `--sizes` say. A passage's vector is the
mean of its sentences' vectors: embedding 100,000 passages would only lengthen the run. Milliseconds by stage, and how
many of the 10 nearest vectors of an exact search are found.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assistant.chunking import Passage, passage_id
from assistant.embeddings import Embedder, Kind, Tell, open_embedder
from assistant.knowledge_store import KnowledgeStore
from assistant.retrieval import search
from benchmarks.retrieval import load
from data.home import Home
from data.settings_knowledge import KnowledgeSettings, Precision

if TYPE_CHECKING:
    import numpy as np

SETTINGS = KnowledgeSettings()
SENTENCES = 4_000  # embedded for the passages of the search
QUESTIONS = 300


def measure_precision(folder: Path, count: int) -> list[dict[str, Any]]:
    """Speed of each precision, and the smallest cosine of its vectors with those of float32."""
    texts, questions = [p.searchable() for p in load(folder)[0][:count]], list(load(folder)[1].values())[:50]
    ways: tuple[Precision, ...] = ("float32", "bfloat16", "int8")
    with tempfile.TemporaryDirectory() as temporary:
        models = {
            way: open_embedder(SETTINGS.model_copy(update={"precision": way}), Home(Path(temporary)), many=True)
            for way in ways
        }
    wanted = models["float32"].encode(texts, "document")
    results: dict[str, dict[str, Any]] = {way: {"precision": way, "seconds": 1e9, "cpu_s": 1e9} for way in ways}
    for _ in range(3):
        for way, model in models.items():
            began, worked = time.perf_counter(), time.process_time()
            vectors = model.encode(texts, "document")
            seconds, worked = time.perf_counter() - began, time.process_time() - worked
            times = sorted(_seconds(model, question) for question in questions)
            best = results[way]
            best["seconds"], best["cpu_s"] = min(best["seconds"], seconds), min(best["cpu_s"], worked)
            best["passages_per_s"] = round(count / best["seconds"], 1)
            best["question_ms"] = round(min(1000 * times[len(times) // 2], best.get("question_ms", 1e9)), 1)
            best["least_cosine"] = round(float((vectors * wanted).sum(axis=1).min()), 5)
    return [one | {key: round(one[key], 2) for key in ("seconds", "cpu_s")} for one in results.values()]


def _seconds(model: Embedder, question: str) -> float:
    began = time.perf_counter()
    model.encode([question], "query")
    return time.perf_counter() - began


def index_with_brogue(passages: list[Passage], folder: Path) -> Callable[[], int]:
    """Ready to index; call it, and it does."""
    embedder = open_embedder(SETTINGS, Home(folder), many=True)
    embedder.encode(["loads the model"], "document")
    store = KnowledgeStore(folder / "store", "benchmark", SETTINGS, embedder)

    def index() -> int:
        store.upsert(passages)
        return store.count()

    return index


def index_with_langchain(passages: list[Passage], folder: Path) -> Callable[[], int]:
    """The same for the recipe that LangChain's documentation gives."""
    from langchain_chroma import Chroma
    from langchain_core.documents import Document
    from langchain_huggingface import HuggingFaceEmbeddings

    from assistant.embeddings import _locate

    model = HuggingFaceEmbeddings(model_name=str(_locate(SETTINGS, Home(folder), lambda _: None)[1]))
    model.embed_query("loads the model")
    documents = [Document(p.searchable(), metadata={"source": p.source, "title": p.title}) for p in passages]

    def index() -> int:
        stored = Chroma.from_documents(documents, model, persist_directory=str(folder / "plain"))
        return int(stored._collection.count())

    return index


WAYS = {"brogue": index_with_brogue, "langchain": index_with_langchain}


def measure_index(folder: Path, way: str, documents: int) -> dict[str, Any]:
    """One indexing in this process."""
    passages = load(folder)[0][:documents]
    with tempfile.TemporaryDirectory() as temporary:
        index = WAYS[way](passages, Path(temporary))
        began, worked = time.perf_counter(), time.process_time()
        count = index()
        seconds, worked = time.perf_counter() - began, time.process_time() - worked
    return {"index": way, "passages": count, "seconds": round(seconds, 1), "cpu_s": round(worked, 1),
            "passages_per_s": round(count / seconds, 1), "peak_mib": _peak_mib()}  # fmt: skip


class _Given:
    """Vectors that were made before, by text; questions go to the true model."""

    def __init__(self, folder: Path) -> None:
        self.true = open_embedder(SETTINGS, Home(folder), many=False)
        self.identity, self.max_tokens = self.true.identity, self.true.max_tokens
        self.vectors: dict[str, np.ndarray[Any, Any]] = {}

    def encode(self, texts: Sequence[str], kind: Kind, tell: Tell = lambda _: None) -> "np.ndarray[Any, Any]":
        import numpy as np

        return self.true.encode(texts, kind, tell) if kind == "query" else np.stack([self.vectors[t] for t in texts])

    def count_tokens(self, text: str) -> int:
        return self.true.count_tokens(text)


def build(folder: Path, size: int, into: Path) -> dict[str, Any]:
    """A store with `size` passages in `into`, and beside it the vectors for the exact search."""
    import numpy as np

    chance = random.Random(0)
    given = _Given(into)
    pool = [s for p in load(folder)[0] for s in re.split(r"(?<=\.) ", p.text) if 40 < len(s) < 400]
    sentences = chance.sample(pool, min(SENTENCES, len(pool)))
    vectors = open_embedder(SETTINGS, Home(into), many=True).encode(sentences, "document")
    store = KnowledgeStore(into / "store", "benchmark", SETTINGS, given)
    began, ids = time.perf_counter(), []
    for start in range(0, size, 1000):
        passages = []
        for number in range(start, min(start + 1000, size)):
            drawn = chance.sample(range(len(sentences)), 5)
            text, source = " ".join(sentences[i] for i in drawn), f"{number % 500}.md"
            passages.append(Passage(id=passage_id(source, "", "", text, 0), source=source, title="", start=0,
                                    end=len(text), text=text, sha256=""))  # fmt: skip
            mean = vectors[drawn].mean(axis=0)
            given.vectors[text] = mean / np.linalg.norm(mean)
        store.upsert(passages)
        ids += [p.id for p in passages]
        if start % 10_000 == 0:
            print(f"{start:,} of {size:,} passages", file=sys.stderr)
    seconds = time.perf_counter() - began
    store.close()
    np.save(into / "exact.npy", np.stack(list(given.vectors.values())))
    (into / "ids.json").write_text(json.dumps(ids))
    size_mib = sum(p.stat().st_size for p in (into / "store").rglob("*") if p.is_file()) >> 20
    return {
        "build": size,
        "seconds_without_embedding": round(seconds, 1),
        "disk_mib": size_mib,
        "peak_mib": _peak_mib(),
    }


def measure_search(folder: Path, size: int, at: Path) -> dict[str, Any]:
    """The questions of the set, asked one after the other of the store in `at`."""
    import numpy as np

    questions = list(load(folder)[1].values())
    store = KnowledgeStore(at / "store", "benchmark", SETTINGS, _Given(at))
    for question in questions[-20:]:
        search(store, question, SETTINGS)
    began = time.perf_counter()
    found = [search(store, question, SETTINGS).seconds for question in questions[:QUESTIONS]]
    wall = time.perf_counter() - began
    result: dict[str, Any] = {"search": size, "questions": len(found), "per_s": round(len(found) / wall, 1)}
    found = [one | {"without embed": sum(one.values()) - one["embed"]} for one in found]
    for stage in found[0]:
        p50, p95 = np.percentile([one[stage] * 1000 for one in found], [50, 95])
        result[f"{stage}_ms"] = {"p50": round(float(p50), 2), "p95": round(float(p95), 2)}
    result["peak_mib"] = _peak_mib()  # before the exact vectors are read
    exact, ids = np.load(at / "exact.npy"), json.loads((at / "ids.json").read_text())
    hits = 0
    for vector in store.embedder.encode(questions[:100], "query"):
        nearest = {ids[i] for i in np.argpartition(-(exact @ vector), 10)[:10]}
        hits += len(nearest & {id for id, _ in store.nearest(vector, 10)})
    return result | {"recall_of_exact_10": round(hits / 1000, 3)}


def _peak_mib() -> int:
    """The most memory of this process; getrusage would count what the process had that started it."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) >> 10


def _apart(*words: str) -> None:
    """This module's measurement in a process of its own; its JSON line goes to stdout."""
    subprocess.run([sys.executable, "-m", "benchmarks.knowledge", *words], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--texts", type=int, default=96)
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--sizes", type=int, nargs="*", default=[5000, 100_000])
    parser.add_argument("--only", choices=[*WAYS, "build", "search"], help=argparse.SUPPRESS)
    parser.add_argument("--at", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only in WAYS:
        print(json.dumps(measure_index(given.folder, given.only, given.documents)), flush=True)
    elif given.only:
        measure = {"build": lambda *a: build(a[0], a[1], a[2]), "search": measure_search}[given.only]
        print(json.dumps(measure(given.folder, given.sizes[0], given.at)))
    else:
        for result in measure_precision(given.folder, given.texts):
            print(json.dumps(result), flush=True)
        for _ in range(given.rounds):
            for way in WAYS:
                _apart(str(given.folder), "--only", way, "--documents", str(given.documents))
        for size in given.sizes:
            with tempfile.TemporaryDirectory() as at:
                for step in ("build", "search"):
                    _apart(str(given.folder), "--only", step, "--sizes", str(size), "--at", at)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    main()
