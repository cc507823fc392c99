"""What raters' judgements give: real people's agreement and ranking, and times at 100,000 judgements.

    python -m benchmarks.feedback --data FOLDER [--plot FILE.png]
    python -m benchmarks.feedback --judgements 100000 [--submits 2000]

The first reads pandalm_human_pairs/ (three annotators, five 7B models) in FOLDER: alpha of all and of each annotator,
Cohen's kappa of each two (scikit-learn) beside it, and the Bradley-Terry ranking; intervals by resampling instructions.
The second fills a store (SQLite, in a temporary folder) with comparisons and rankings by 50 simulated raters, 20,000
questions with 2 to 6 answers each, and measures single submits at that size, agreement, leaderboard and exports.
"""

import argparse
import json
import random
import resource
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from data.feedback_export import Format, export_feedback
from data.home import Home
from data.judgements import Comparison, Ranking, Response, StoredJudgement, Wanted
from data.leaderboard import leaderboard, looks
from data.memory import many_objects
from data.raters import agreement, weights
from data.store import Store
from data.store_home import open_store

VERSIONS = ("base", "support@1", "support@2", "support@3", "support@4", "support@5")
RATERS = 50
SAID = {0: "tie", 1: "first", 2: "second"}


def pandalm(folder: Path) -> tuple[list[StoredJudgement], dict[str, str], dict[str, str]]:
    """(judgements, answers' texts, response → instruction)."""
    found, texts, instruction = [], {}, {}
    for path in sorted((folder / "pandalm_human_pairs").glob("*.json")):
        for row in json.loads(path.read_text(encoding="utf-8")):
            shown = (f"{row['idx']}-1", f"{row['idx']}-2")
            texts |= {shown[0]: row["response1"], shown[1]: row["response2"]}
            instruction |= dict.fromkeys(shown, row["instruction"] + "\0" + row["input"])
            for number in (1, 2, 3):
                judgement = Comparison(rater=f"annotator{number}", shown=shown, verdict=SAID[row[f"annotator{number}"]])  # type: ignore[arg-type]
                versions = tuple(row["cmp_key"].split("_"))
                found.append(StoredJudgement(judgement=judgement, versions=versions, assistants=(None, None),
                                             created=datetime(2026, 1, 1, tzinfo=UTC)))  # fmt: skip
    return found, texts, instruction


def people(folder: Path, plot: Path | None) -> None:
    """The figures of PandaLM's annotators."""
    from sklearn.metrics import cohen_kappa_score

    found, texts, instruction = pandalm(folder)
    report = agreement(found, {})
    print(json.dumps({"comparisons": len(found), "alpha": report.comparisons.model_dump()}))
    said = [[k.judgement.verdict for k in found if k.judgement.rater == f"annotator{n}"] for n in (1, 2, 3)]  # type: ignore[union-attr]
    kappa = {f"{i + 1}-{j + 1}": cohen_kappa_score(said[i], said[j]) for i, j in ((0, 1), (0, 2), (1, 2))}
    print(json.dumps({"cohen_kappa": {pair: round(value, 3) for pair, value in kappa.items()}}))
    for rater in report.raters:
        print(json.dumps(rater.model_dump(exclude={"itself", "too_fast"})))
    styles = {id: looks(text) for id, text in texts.items()}
    for name, used in (("plain", None), ("equal style", styles)):
        board = leaderboard(found, {}, used, item=lambda kept: instruction[kept.judgement.shown[0]], resamples=1000)
        print(f"{name}: {board.matches} matches, {board.ties} ties")
        for s in board.standings:
            print(f"  {s.place}  {s.version:20} {s.points:7.1f}  {s.low:.0f} to {s.high:.0f}  won {s.won:.1%}")
        for effect in board.style:
            print(f"  twice the {effect.name}: odds × {effect.odds:.2f} ({effect.low:.2f} to {effect.high:.2f})")
        if plot and used is None:
            from assistant.feedback_plot import draw

            draw({"": board}, plot)


def fill(home: Home, judgements: int) -> Store:
    """A store of that many comparisons and rankings; in bulk, through its own tables, for single ones take long."""
    from sqlalchemy import insert

    from data.store_schema import JudgedRow, JudgementRow

    store, chance = open_store(home), random.Random(0)
    questions: list[list[str]] = []
    strength = dict(zip(VERSIONS, (-1.0, -0.6, -0.2, 0.2, 0.6, 1.0), strict=True))
    for start in range(0, judgements // 5, 1000):
        batch = []
        for number in range(start, min(start + 1000, judgements // 5)):
            names = chance.sample(VERSIONS, chance.choice((2, 2, 2, 4, 6)))
            asked = ({"role": "user", "content": f"Question {number}: where is my parcel?"},)
            batch += [Response(id=f"{number}-{name}", version=name, assistant="support", messages=asked,
                               text=f"Answer {number}. " + "Your parcel is on its way. " * chance.randint(2, 20))
                      for name in names]  # fmt: skip
            questions.append([f"{number}-{name}" for name in names])
        store.add_responses(batch)
    for start in range(0, judgements, 1000):
        rows: list[dict[str, Any]] = []
        judged: list[dict[str, Any]] = []
        for number in range(start, min(start + 1000, judgements)):
            judgement = one(chance, chance.choice(questions), strength)
            said = judgement.model_dump(mode="json", exclude={"id", "kind", "rater", "seconds", "shown"})
            rows.append({"id": f"j{number}", "kind": judgement.kind, "rater": judgement.rater, "said": said,
                         "seconds": judgement.seconds, "created": datetime.now(UTC), "taken_back": None})  # fmt: skip
            judged += [{"judgement_id": f"j{number}", "position": p, "response_id": r}
                       for p, r in enumerate(judgement.shown)]  # fmt: skip
        with store._write.begin() as session:
            session.execute(insert(JudgementRow), rows)
            session.execute(insert(JudgedRow), judged)
    return store


def one(chance: random.Random, shown: list[str], strength: dict[str, float]) -> Comparison | Ranking:
    """A judgement by a simulated rater."""
    shown = chance.sample(shown, len(shown))
    liked = {id: strength[id.partition("-")[2]] + chance.gauss(0, 1.2) for id in shown}
    rater = f"rater{chance.randrange(RATERS)}"
    if len(shown) == 2:
        gap = liked[shown[0]] - liked[shown[1]]
        verdict = "tie" if abs(gap) < 0.2 else "first" if gap > 0 else "second"
        return Comparison(rater=rater, shown=(shown[0], shown[1]), verdict=verdict, seconds=chance.uniform(10, 60))  # type: ignore[arg-type]
    order = sorted(shown, key=lambda id: -liked[id])
    return Ranking(rater=rater, shown=tuple(shown), ranks=tuple(order.index(id) for id in shown), seconds=60.0)


def speed(judgements: int, submits: int) -> None:
    """Times at that size."""
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home")
        home.create()
        store, chance = fill(home, judgements), random.Random(1)
        strength = dict.fromkeys(VERSIONS, 0.0)
        shown = [list(kept.judgement.shown) for kept in store.judgements(Wanted(limit=submits))]
        took = []
        for ids in shown:
            judgement = one(chance, ids, strength)
            began = time.perf_counter()
            store.judge(judgement)
            took.append((time.perf_counter() - began) * 1000)
        p50, p95 = statistics.median(took), statistics.quantiles(took, n=20)[-1]
        print(json.dumps({"judgements": judgements, "submit_ms_p50": round(p50, 1), "submit_ms_p95": round(p95, 1)}))
        with many_objects():
            reading(store, Path(folder))
        store.close()


def reading(store: Store, folder: Path) -> None:
    """What the commands do with all judgements."""
    began = time.perf_counter()
    found = store.judgements()
    _told("read", began)
    began = time.perf_counter()
    lengths = store.judged_lengths()
    _told("lengths", began)
    began = time.perf_counter()
    agreement(found, lengths)
    _told("agreement", began)
    began = time.perf_counter()
    weight = weights(found, lengths)
    _told("weights", began)
    began = time.perf_counter()
    leaderboard(found, weight)
    _told("leaderboard", began)
    began = time.perf_counter()
    leaderboard(found, weight, {id: looks(text) for id, text in store.judged_texts()})
    _told("leaderboard --style", began)
    formats: tuple[Format, ...] = ("dpo", "reward", "ranking", "jsonl")
    for kind in formats:
        began = time.perf_counter()
        counts = export_feedback(found, store.responses_of, weight, kind, folder / f"{kind}.jsonl", True)
        _told(f"export {kind}", began, lines=counts["lines"])


def _told(what: str, began: float, **more: Any) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"what": what, "seconds": round(time.perf_counter() - began, 2), "peak_mib": round(peak)} | more),
          flush=True)  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--judgements", type=int, default=100_000)
    parser.add_argument("--submits", type=int, default=2000)
    options = parser.parse_args()
    if options.data:
        people(options.data, options.plot)
    else:
        speed(options.judgements, options.submits)


if __name__ == "__main__":
    main()
