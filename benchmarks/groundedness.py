"""How well the check of an answer agrees with people: `python -m benchmarks.groundedness --data FOLDER`.

FOLDER holds begin_groundedness/ (BEGIN, Wizard of Wikipedia: replies called fully attributable to a passage or not) and
mtrag_human_eval/ (MTRAG: answers whose faithfulness three people rated 1–4). Measured are balanced accuracy and AUROC,
and Spearman's correlation with the mean rating; 95% intervals by bootstrap over passages or questions. JSON lines.

`always` calls everything supported; `overlap` is the share of the answer's words that stand in the passages;
`check` is assistant/grounding.py. Thresholds are chosen on one half of BEGIN's passages and reported on the other.
An answer that claims nothing is not attributable in BEGIN, and has the median score of the others in MTRAG.
"""

import argparse
import csv
import json
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import spearmanr
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from assistant.claims import words
from assistant.grounding import SUPPORTED, Grounding, Similarity, ground

RESAMPLES = 2000
THRESHOLDS = [round(float(t), 2) for t in np.arange(0.4, 0.96, 0.05)]


class Answer(NamedTuple):
    """An answer and what people said of it."""

    text: str
    passages: list[str]
    question: str
    known: str  # the turns before
    human: float  # BEGIN: 1 or 0; MTRAG: the mean rating, 1–4
    cluster: str  # answers of one cluster are drawn together


def begin(folder: Path) -> list[Answer]:
    """All replies of the BEGIN files there are."""
    answers = []
    for path in sorted((folder / "begin_groundedness").glob("*.tsv")):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                human = float(row["begin_label"] == "Fully attributable")
                answers.append(Answer(row["response"], [row["knowledge"]], row["message"], "", human, row["knowledge"]))
    return answers


def mtrag(folder: Path) -> list[Answer]:
    """All rated answers of the MTRAG files there are."""
    answers = []
    for path in sorted((folder / "mtrag_human_eval").glob("*.json")):
        whole = json.loads(path.read_text(encoding="utf-8"))
        documents = {d["document_id"]: d["text"] for d in whole["documents"]}
        tasks = {t["task_id"]: t for t in whole["tasks"]}
        for rated in whole["evaluations"]:
            task = tasks[rated["task_id"]]
            human = mean(float(vote["value"]) for vote in rated["annotations"]["faithfulness"].values())
            passages = [documents[context["document_id"]] for context in task["contexts"]]
            *before, question = [turn["text"] for turn in task["input"]]
            known = " ".join(before)
            answers.append(Answer(rated["model_response"], passages, question, known, human, rated["task_id"]))
    return answers


def overlap(answer: Answer) -> float:
    """The share of the answer's words that stand in any passage."""
    spoken = words(answer.text)
    known = {word for passage in answer.passages for word in words(passage)}
    return mean(word in known for word in spoken) if spoken else 1.0


def check(answer: Answer, similarity: Similarity | None, threshold: float = SUPPORTED) -> Grounding:
    return ground(
        answer.text, answer.passages, answer.question, answer.known, similarity=similarity, threshold=threshold
    )


def attributable(answer: Answer, threshold: float, similarity: Similarity | None) -> bool:
    """Our verdict on a whole reply: it claims something, and no sentence is unsupported."""
    checked = check(answer, similarity, threshold)
    return checked.score is not None and checked.unsupported == 0


def interval(answers: Sequence[Answer], statistic: Callable[[list[int]], float]) -> list[float]:
    """A 95% interval of `statistic` (of positions in `answers`), whole clusters drawn with replacement."""
    members: dict[str, list[int]] = {}
    for position, answer in enumerate(answers):
        members.setdefault(answer.cluster, []).append(position)
    clusters = list(members.values())
    chance = np.random.default_rng(0)
    drawn = [
        statistic([i for c in chance.integers(0, len(clusters), len(clusters)) for i in clusters[c]])
        for _ in range(RESAMPLES)
    ]
    return [round(float(q), 3) for q in np.nanpercentile(drawn, [2.5, 97.5])]


def on_begin(answers: list[Answer], similarity: Similarity | None) -> list[dict[str, Any]]:
    """Each method's agreement on the second half, with what was chosen on the first."""
    first = [a for a in answers if zlib.crc32(a.cluster.encode()) % 2 == 0]
    second = [a for a in answers if zlib.crc32(a.cluster.encode()) % 2 == 1]
    methods: dict[str, Callable[[Answer, float], bool]] = {
        "always": lambda _, __: True,
        "overlap": lambda a, t: overlap(a) >= t,
        "check": lambda a, t: attributable(a, t, None),
    }
    if similarity is not None:
        methods["check with embeddings"] = lambda a, t: attributable(a, t, similarity)
    return [_begin_line(name, method, first, second) for name, method in methods.items()]


def _begin_line(
    name: str, method: Callable[[Answer, float], bool], first: list[Answer], second: list[Answer]
) -> dict[str, Any]:
    chosen = max(THRESHOLDS, key=lambda t: balanced(first, [method(a, t) for a in first]))
    said = [method(a, chosen) for a in second]
    return {
        "set": "BEGIN", "method": name, "answers": len(second), "threshold": chosen,
        "balanced_accuracy": round(balanced(second, said), 3),
        "interval": interval(second, lambda at: balanced([second[i] for i in at], [said[i] for i in at])),
        "unsupported_found": round(mean(not s for s, a in zip(said, second, strict=True) if not a.human), 3),
        "supported_kept": round(mean(s for s, a in zip(said, second, strict=True) if a.human), 3),
    }  # fmt: skip


def balanced(answers: Sequence[Answer], said: Sequence[bool]) -> float:
    return float(balanced_accuracy_score([bool(a.human) for a in answers], said))


def on_mtrag(answers: list[Answer], similarity: Similarity | None) -> list[dict[str, Any]]:
    """Each method's correlation with the mean rating; `always` has none, its score being the same for all."""
    scores: dict[str, list[float]] = {"always": [1.0] * len(answers), "overlap": [overlap(a) for a in answers]}
    scores["check"], nothing = check_scores(answers, None)
    if similarity is not None:
        scores["check with embeddings"], _ = check_scores(answers, similarity)
    human = [a.human for a in answers]
    faithful = [h >= 3.5 for h in human]  # for AUROC: at least half of the raters gave the highest mark

    def drawn(name: str, at: list[int]) -> float:
        return correlation([scores[name][i] for i in at], [human[i] for i in at]) or 0.0

    lines: list[dict[str, Any]] = [
        {
            "set": "MTRAG", "method": name, "answers": len(answers), "spearman": correlation(score, human),
            "interval": interval(answers, partial(drawn, name)),
            "auroc": round(float(roc_auc_score(faithful, score)), 3), "claims_nothing": nothing,
        }
        for name, score in scores.items()
    ]  # fmt: skip
    gain = interval(answers, lambda at: drawn("check", at) - drawn("overlap", at))
    return [*lines, {"set": "MTRAG", "method": "check minus overlap", "interval": gain}]


def check_scores(answers: list[Answer], similarity: Similarity | None) -> tuple[list[float], int]:
    """Our scores, and for how many answers there is none."""
    found = [check(answer, similarity).score for answer in answers]
    middle = median(score for score in found if score is not None)
    return [middle if score is None else score for score in found], found.count(None)


def correlation(score: Sequence[float], human: Sequence[float]) -> float | None:
    return round(float(spearmanr(score, human)[0]), 3) if len(set(score)) > 1 and len(set(human)) > 1 else None


def embedding(name: str) -> Similarity:
    """A sentence-transformers model (folder or hub id), each text embedded once."""
    from sentence_transformers import SentenceTransformer

    model, known = SentenceTransformer(name, device="cpu"), dict[str, Any]()

    def vectors(texts: list[str]) -> Any:
        if new := [text for text in dict.fromkeys(texts) if text not in known]:
            known.update(zip(new, model.encode(new, normalize_embeddings=True), strict=True))
        return np.array([known[text] for text in texts])

    return vectors


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--embedding", help="also measure with this sentence-transformers model")
    options = parser.parse_args()
    similarity = embedding(options.embedding) if options.embedding else None
    for line in [*on_begin(begin(options.data), similarity), *on_mtrag(mtrag(options.data), similarity)]:
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
