"""How many planted duplicates are found, and how many pairs are found that are none.

Run `python -m benchmarks.duplicates FILE` with a CSV that has columns text and category (banking77's train.csv). Of
1,000 texts a copy is planted for each way of changing it. A found pair is false when people gave its two texts
different categories; the pairs that the file holds by itself are counted apart from the planted ones. JSON lines.
"""

import argparse
import csv
import json
import random
import time
from collections.abc import Callable
from pathlib import Path

from data.duplicates import find_near

Change = Callable[[list[str], random.Random, list[str]], str]


def case(words: list[str], _chance: random.Random, _vocabulary: list[str]) -> str:
    return " ".join(words).swapcase()


def punctuation(words: list[str], chance: random.Random, _vocabulary: list[str]) -> str:
    return " ".join(word.strip("?!.,") + chance.choice(("", "", ",", "!", " -")) for word in words) + "..."


def word_order(words: list[str], chance: random.Random, _vocabulary: list[str]) -> str:
    return " ".join(chance.sample(words, len(words)))


def one_word(words: list[str], chance: random.Random, vocabulary: list[str]) -> str:
    changed = list(words)
    changed[chance.randrange(len(words))] = chance.choice(vocabulary)
    return " ".join(changed)


CHANGES: tuple[Change, ...] = (case, punctuation, word_order, one_word)


def measure(path: Path, count: int = 1000, seed: int = 0, label: bool = True) -> list[dict[str, object]]:
    """One result for each way of changing a text, and one for the pairs that the file holds by itself.

    With `label` a text's category is compared too, as the command does with what a record has for an answer.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = [(row["text"], row["category"]) for row in csv.DictReader(file)]
    chance = random.Random(seed)
    vocabulary = sorted({word for text, _ in rows for word in text.split()})
    originals = chance.sample(range(len(rows)), count)
    planted = [(c, i, c(rows[i][0].split(), chance, vocabulary)) for c in CHANGES for i in originals]
    texts = rows + [(text, rows[i][1]) for _, i, text in planted]
    began = time.perf_counter()
    near = find_near(texts if label else [(text,) for text, _ in texts])
    seconds = time.perf_counter() - began
    found = set(near.pairs)
    compared = "text and category" if label else "text alone"
    results: list[dict[str, object]] = []
    for change in CHANGES:
        places = [(i, len(rows) + n) for n, (c, i, _) in enumerate(planted) if c is change]
        hits = sum(_are_together(near.first[a], near.first[b], found) for a, b in places)
        results.append({"compared": compared, "planted": change.__name__, "recall": hits / count})
    pairs = near.pairs + [(a, b) for b, a in enumerate(near.first) if a != b]
    own = [(a, b) for a, b in pairs if b < len(rows)]
    false = sum(rows[a][1] != rows[b][1] for a, b in own)
    return [*results, {"compared": compared, "planted": None, "texts": len(rows), "pairs": len(own),
                       "pairs_of_two_categories": false, "seconds": round(seconds, 1)}]  # fmt: skip


def _are_together(a: int, b: int, pairs: set[tuple[int, int]]) -> bool:
    return a == b or (min(a, b), max(a, b)) in pairs


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    arguments = parser.parse_args()
    for with_label in (True, False):
        for result in measure(arguments.file, label=with_label):
            print(json.dumps(result))
