"""What it takes to read documents and cut them into passages, without embedding and storing them: one JSON line each.

    python -m benchmarks.ingest [--megabytes 3] [--files 10000]

Files of random words are made in a temporary folder; passages are measured in words.
"""

import argparse
import json
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

from assistant.chunking import Passage
from assistant.knowledge_add import Added, add

CHANCE = random.Random(0)
WORDS = [f"word{n}" for n in range(5000)]


class Nowhere:
    """A store that keeps nothing."""

    def upsert(self, passages: Sequence[Passage], tell: Callable[[str], None] = lambda _: None) -> None:
        """Nothing is stored."""

    def delete(self, ids: Sequence[str]) -> None:
        """Nothing is there."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=3, help="size of the one large file of each kind")
    parser.add_argument("--files", type=int, default=10_000, help="number of small Markdown files")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for suffix, parts in {"md": _markdown(), "txt": _text(), "csv": _csv(), "html": _html()}.items():
            path = root / f"large.{suffix}"
            _write(path, parts, options.megabytes * 1e6)
            _measure(path, f"one {suffix} file", megabytes=options.megabytes)
        many = root / "many"
        for number in range(options.files):
            path = many / f"{number // 100}" / f"{number}.md"
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, _markdown(), 2000)
        for title in ("small md files", "small md files again"):
            _measure(many, title, files=options.files)


def _measure(path: Path, title: str, **facts: float) -> None:
    began = time.perf_counter()
    done: Added = add([path], path.parent / f"{path.name}.json", Nowhere())
    seconds = round(time.perf_counter() - began, 2)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"what": title, **facts, "passages": done.passages, "seconds": seconds, "peak_mib": memory}))


def _write(path: Path, parts: Iterator[str], size: float) -> None:
    with path.open("w") as file:
        while file.tell() < size:
            file.write(next(parts))


def _sentence() -> str:
    return " ".join(CHANCE.choices(WORDS, k=14)).capitalize() + ". "


def _markdown() -> Iterator[str]:
    for n in count():
        yield f"## Section {n}\n\n{_sentence() * 6}\n\n- {_sentence()}\n- {_sentence()}\n\n"


def _text() -> Iterator[str]:
    while True:
        yield _sentence()


def _csv() -> Iterator[str]:
    yield "question,answer\n"
    while True:
        yield f"{_sentence()},{_sentence() * 2}\n"


def _html() -> Iterator[str]:
    table = "<table><tr><td>tea</td><td>milk</td></tr></table>"
    for n in count():
        yield f"<h2>Section {n}</h2><p>{_sentence()}<b>tea</b>{_sentence()}</p>{table}\n"


if __name__ == "__main__":
    main()
