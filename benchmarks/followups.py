"""Does it help to search for a follow-up together with the question before it?

Run `python -m benchmarks.followups --data FOLDER` with mtrag_human_eval/ in it: questions from the second turn on, of
conversations with people, and the passages that answer them; 138 passages in all. Ways to search: the last question
alone; the last two always; the last two where the question leans on the one before (assistant/questions.py); and what
assistants do: alone, and where that finds nothing above the threshold and the question leans, both in turn.

`hit@3`, `hit@5`: a right passage is among the first; `answered`: answerable questions above the threshold, of which
`answered_wrongly` is the share of the unanswerable ones. JSON lines.
"""

import argparse
import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from assistant.chunking import Passage
from assistant.embeddings import open_embedder
from assistant.knowledge import confidence
from assistant.knowledge_answer import interleaved
from assistant.knowledge_store import KnowledgeStore
from assistant.questions import last_question, stand_alone
from assistant.retrieval import Found, search
from data.home import Home
from data.settings_knowledge import KnowledgeSettings

LIMIT, BELOW = 5, 0.3  # an assistant's defaults
Messages = list[dict[str, str]]
Look = Callable[[str], Found]
Way = Callable[[Messages, Look], tuple[Found, float]]  # what is found, and the confidence


def _sure(question: str, look: Look) -> tuple[Found, float]:
    found = look(question)
    return found, confidence(question, found, "cosine")


def _last_two(messages: Messages, look: Look) -> tuple[Found, float]:
    asked = [m["content"] for m in messages if m["role"] == "user"]
    return _sure("\n".join(asked[-2:]), look)


def _as_assistants_do(messages: Messages, look: Look) -> tuple[Found, float]:
    alone, sure = _sure(last_question(messages), look)
    whole = stand_alone(messages)
    if sure >= BELOW or whole == last_question(messages):
        return alone, sure
    found = interleaved(alone, look(whole), LIMIT)
    return found, confidence(whole, found, "cosine")


WAYS: dict[str, Way] = {
    "alone": lambda messages, look: _sure(last_question(messages), look),
    "both, always": _last_two,
    "both, where it leans": lambda messages, look: _sure(stand_alone(messages), look),
    "as assistants do": _as_assistants_do,
}


def measure(way: Way, turns: Sequence[tuple[Messages, set[str]]], look: Look) -> dict[str, Any]:
    """The figures of one way."""
    ranks: list[int] = []
    above: dict[bool, list[bool]] = {True: [], False: []}
    for messages, wanted in turns:
        found, sure = way(messages, look)
        above[bool(wanted)].append(sure >= BELOW)
        sources = [{p.source for p in (hit.passage, *hit.same)} for hit in found.hits]
        if wanted:
            ranks.append(next((rank for rank, some in enumerate(sources, 1) if some & wanted), LIMIT + 1))
    return {
        "hit@3": round(sum(rank <= 3 for rank in ranks) / len(ranks), 3),
        "hit@5": round(sum(rank <= 5 for rank in ranks) / len(ranks), 3),
        "answered": round(sum(above[True]) / len(above[True]), 3),
        "answered_wrongly": round(sum(above[False]) / len(above[False]), 3),
        "answerable": len(above[True]), "unanswerable": len(above[False]),
    }  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    file = next((parser.parse_args().data / "mtrag_human_eval").glob("*.json"))
    whole = json.loads(file.read_text(encoding="utf-8"))
    turns = []
    for task in whole["tasks"]:
        said = [
            {"role": "user" if m["speaker"] == "user" else "assistant", "content": m["text"]} for m in task["input"]
        ]
        if len(said) > 1:
            turns.append((said, {context["document_id"] for context in task["contexts"]}))
    with tempfile.TemporaryDirectory() as folder:
        home, settings = Home(Path(folder)), KnowledgeSettings()
        home.create()
        store = KnowledgeStore(home.root / "index", "followups", settings, open_embedder(settings, home, many=False))
        store.upsert(
            list({d["document_id"]: _passage(d["document_id"], d["text"]) for d in whole["documents"]}.values())
        )
        for name, way in WAYS.items():
            figures = measure(way, turns, lambda question: search(store, question, settings, LIMIT))
            print(json.dumps({"searched for": name, **figures}), flush=True)
        store.close()


def _passage(name: str, text: str) -> Passage:
    digest = hashlib.sha256(f"{name}\0{text}".encode()).hexdigest()
    return Passage(id=digest[:32], source=name, title="", start=0, end=len(text), text=text, sha256=digest)


if __name__ == "__main__":
    main()
