"""What 100,000 records take: wall time and memory of each `brogue data` command, and of `datasets` on the same file.

Run `python -m benchmarks.data_import`. It makes a file of chat records (OpenAI's format, 1 to 3 turns, a customer each,
some e-mail addresses, one near duplicate in a hundred), and runs every command in a process of its own on it and on
20 of its records. The second run's peak memory is what the libraries take; it is subtracted. JSON lines.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BROGUE = (sys.executable, "-m", "assistant.cli", "data")
DATASETS = "import sys, datasets; print(datasets.load_dataset('json', data_files=sys.argv[1], cache_dir=sys.argv[2]))"


def make(path: Path, count: int, seed: int = 0) -> None:
    """Write `count` chat records; always the same ones."""
    chance = random.Random(seed)
    vowels = ("a", "e", "i", "o", "u")
    vocabulary = [
        "".join(chance.choice("bdfgklmnprstvz") + chance.choice(vowels) for _ in range(chance.randint(1, 4)))
        for _ in range(20_000)
    ]
    frequent = [1 / rank for rank in range(1, len(vocabulary) + 1)]
    previous: list[dict[str, str]] = []
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            if number % 100 == 99:  # the record before, with one word changed
                messages = [*previous[:-1], {**previous[-1], "content": previous[-1]["content"] + " " + vocabulary[-1]}]
            else:
                words = iter(chance.choices(vocabulary, frequent, k=360))
                messages = [
                    {"role": role, "content": " ".join(next(words) for _ in range(chance.randint(8, size)))}
                    for _ in range(chance.randint(1, 3))
                    for role, size in (("user", 30), ("assistant", 80))
                ]
                if number % 20 == 0:
                    messages[0]["content"] += f" write to c{number}@example.org"
            file.write(json.dumps({"messages": messages, "customer": f"c{number % (count // 10 or 1)}"}) + "\n")
            previous = messages


def run(command: list[str], home: Path) -> tuple[float, float]:
    """Seconds and peak memory in MB of one command; only `check` may leave with 1, when it found something."""
    environment = os.environ | {"BROGUE_HOME": str(home), "HF_DATASETS_OFFLINE": "1"}
    began = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode and "check" not in command:
            output.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{output.read().decode()[-2000:]}")
    return seconds, usage.ru_maxrss / 1000


def commands(file: Path, folder: Path) -> dict[str, list[str]]:
    """Each by its name, in the order in which they build on one another."""
    return {
        "import": [*BROGUE, "import", str(file), "--into", "all", "--group-column", "customer"],
        "check": [*BROGUE, "check", "all", "--json"],
        "split by hash": [*BROGUE, "split", "all", "--into", "hashed"],
        "split by group": [*BROGUE, "split", "all", "--into", "grouped", "--by", "group"],
        "datasets.load_dataset": [sys.executable, "-c", DATASETS, str(file), str(folder / "cache")],
        "dedupe": [*BROGUE, "dedupe", "all", "--into", "once"],
        "dedupe --near": [*BROGUE, "dedupe", "all", "--into", "distinct", "--near"],
        "redact": [*BROGUE, "redact", "all", "--into", "redacted"],
    }


def measure(count: int, only: list[str], folder: Path) -> None:
    """Print one JSON line a command."""
    large, small = folder / "large.jsonl", folder / "small.jsonl"
    make(large, count)
    with large.open(encoding="utf-8") as file:
        small.write_text("".join(line for line, _ in zip(file, range(20), strict=False)), encoding="utf-8")
    show({"records": count, "file_mb": round(large.stat().st_size / 1e6, 1)})
    for (name, on_large), on_small in zip(
        commands(large, folder / "a").items(), commands(small, folder / "b").values(), strict=True
    ):
        if name == "import" or not only or name in only:
            _, libraries = run(on_small, folder / "b")
            seconds, peak = run(on_large, folder / "a")
            show({"command": name, "seconds": round(seconds, 1), "peak_mb": round(peak),
                  "above_libraries_mb": round(peak - libraries)})  # fmt: skip


def show(values: dict[str, Any]) -> None:
    """One JSON line, at once."""
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--only", nargs="+", default=[], help="such as check or 'dedupe --near'; all without it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        measure(arguments.records, arguments.only, Path(temporary))
