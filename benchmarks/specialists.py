"""How good the specialists are on public data: `python -m benchmarks.specialists --data FOLDER [--only banking77,…]`.

FOLDER holds the public sets (docs/data.md). Each is imported as anybody would; the test records are held out by a hash
of their question, as the public parts at hand are training files. JSON lines: `few` is MTEB's protocol on banking77
(ten times eight texts of each label, logistic regression with C = 1 and at most 100 iterations, the mean accuracy on
all test records), `whole` each kind of specialist with all training records, choosing on the validation records; 95%
intervals by bootstrap over the test records.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from sklearn.metrics import recall_score  # type: ignore[import-untyped]

from adapters.measure_pieces import messages
from adapters.measure_task import exact_match, token_f1
from adapters.measure_task_labels import spans
from assistant.advice_task import read_records, read_task
from assistant.advice_types import Records
from assistant.specialist_logistic import fit
from assistant.specialist_types import Tools, asked, targets
from assistant.specialists import kinds_for, open_specialist, train_specialist
from benchmarks.advisor import import_set
from data.dataset import Row
from data.home import Home

SETS = ("banking77", "clinc150", "wnut17", "xquad", "bitext")
RUNS, EACH, ITERATIONS = 10, 8, 100  # MTEB's
RESAMPLES = 2000


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", default=",".join(SETS), help="sets, with commas between them")
    parser.add_argument(
        "--kinds", default="", help="kinds of specialists, with commas between them; empty: all that fit"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        for name in given.only.split(","):
            rows = read(home, name, given.data)
            kinds = given.kinds.split(",") if given.kinds else ("few", *kinds_for(read_task(home, name)))
            if name == "banking77" and "few" in kinds:
                print(json.dumps({"set": name, "what": "few", **mteb(home, rows)}), flush=True)
            for line in whole(home, name, rows, [kind for kind in kinds if kind != "few"]):
                print(json.dumps({"set": name, "what": "whole", **line}), flush=True)


def read(home: Home, name: str, data: Path) -> Records:
    """A public set's records, imported into `home` and split by a hash of the question."""

    def run(*words: str) -> str:
        environment = os.environ | {"BROGUE_HOME": str(home.root)}
        command = [sys.executable, "-m", "assistant.cli", *words]
        return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout

    import_set(home, name, data, run)
    return read_records(home, read_task(home, name), limit=None)


def few(rows: Sequence[Row], each: int, seed: int) -> list[Row]:
    """So many rows of each label, drawn at random."""
    counts: Counter[str] = Counter()
    found = []
    for row in random.Random(seed).sample(list(rows), len(rows)):
        label = targets(row)[0]
        counts[label] += 1
        found += [row] if counts[label] <= each else []
    return found


def mteb(home: Home, rows: Records) -> dict[str, Any]:
    """The mean accuracy over the runs, and how far these lie apart; also as if all labels were equally common.

    The published figure is of a test part that has 40 texts of each label; the part at hand has not.
    """
    tools = Tools(home)
    pool = [*rows.train, *rows.validation]
    labels = sorted({targets(row)[0] for row in pool})
    vectors = dict(zip((row.id for row in pool), tools.vectors([asked(row) for row in pool]), strict=True))
    test, wanted = tools.vectors([asked(row) for row in rows.test]), [targets(row)[0] for row in rows.test]
    found, balanced = [], []
    for seed in range(RUNS):
        some = few(pool, EACH, seed)
        numbers = [labels.index(targets(row)[0]) for row in some]
        linear = fit(np.stack([vectors[row.id] for row in some]), numbers, len(labels), [1.0] * len(some), 1.0,
                     iterations=ITERATIONS)  # fmt: skip
        said = [labels[n] for n in linear.scores(test).argmax(axis=1)]
        found.append(mean(float(a == b) for a, b in zip(said, wanted, strict=True)))
        balanced.append(float(recall_score(wanted, said, average="macro", zero_division=0)))
    return {"texts_of_each_label": EACH, "runs": RUNS, "test": len(test), "accuracy": round(mean(found), 4),
            "balanced_accuracy": round(mean(balanced), 4),
            "deviation_of_runs": round(stdev(found), 4)}  # fmt: skip


def whole(home: Home, name: str, rows: Records, kinds: Sequence[str]) -> Iterator[dict[str, Any]]:
    """A line for each kind of specialist that fits the set."""
    task = read_task(home, name)
    for kind in kinds:
        card = train_specialist(home, f"{name}-{kind}", kind, task, rows)
        specialist = open_specialist(home, card.name)
        specialist.answer(messages(rows.test[0].record))  # opens it
        began = time.perf_counter()
        given = specialist.answers([messages(row.record) for row in rows.test])
        took = time.perf_counter() - began
        yield {
            "kind": kind, "train": len(rows.train), "test": len(rows.test), **_figures(task.kind, rows.test, given),
            "train_s": card.seconds, "ms_an_answer": round(1000 * took / len(given), 2), "bytes": card.bytes,
            "notes": card.notes,
        }  # fmt: skip


def _figures(kind: str, rows: Sequence[Row], given: Sequence[str]) -> dict[str, Any]:
    if kind == "tags":
        said = [spans([line.rsplit(None, 1)[1] for line in text.splitlines()]) for text in given]
        wanted = [spans(targets(row)) for row in rows]
        both = [(2 * len(a & b), len(a) + len(b)) for a, b in zip(said, wanted, strict=True)]
        return {"entity_f1": _interval(both)}
    answers = [targets(row)[0] for row in rows]
    if kind == "labels":
        return {"accuracy": _interval([(float(a == b), 1) for a, b in zip(given, answers, strict=True)])}
    return {
        score.__name__: _interval([(score(a, b), 1) for a, b in zip(given, answers, strict=True)])
        for score in (exact_match, token_f1)
    }


def _interval(parts: Sequence[tuple[float, float]]) -> list[float]:
    """[value, low, high] of the first parts' sum over the second's."""
    sums, chance = np.array(parts), np.random.default_rng(0)
    drawn = [sums[chance.integers(len(sums), size=len(sums))].sum(axis=0) for _ in range(RESAMPLES)]
    low, high = np.percentile([top / max(under, 1e-9) for top, under in drawn], [2.5, 97.5])
    top, under = sums.sum(axis=0)
    return [round(float(value), 4) for value in (top / max(under, 1e-9), low, high)]


if __name__ == "__main__":
    main()
