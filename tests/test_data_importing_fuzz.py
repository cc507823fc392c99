"""Whatever a file holds, the answer is records or one clear line; nothing half imported, no file fills the memory."""

import json
import random
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from data.errors import DataError
from data.home import Home
from data.importing import read_file
from tests.conftest import Run

GOOD = '{"prompt": "a", "response": "b"}\n'
DEEP = "[" * 1000 + "]" * 1000


def parquet_bomb(path: Path) -> None:
    """20,000 repeats of one value of 100 kB: 4 GB out of a small file."""
    import pyarrow
    from pyarrow import parquet

    value = pyarrow.array(["x" * 100_000])
    column = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 20_000, pyarrow.int32()), value)
    parquet.write_table(pyarrow.table({"prompt": column, "response": column}), path, compression="zstd")
    assert path.stat().st_size < 100_000


def truncated_parquet(path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"prompt": ["a"] * 100, "response": ["b"] * 100}), path)
    path.write_bytes(path.read_bytes()[:-10])


def holding(content: str | bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content.encode()) and None


HOSTILE: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "truncated JSONL": ("a.jsonl", holding(GOOD + GOOD[:17]), "a.jsonl:2: not valid JSON"),
    "truncated JSON": ("a.json", holding("[" + GOOD + "," + GOOD[:17]), "a.json:2: not valid JSON"),
    "truncated object": ("a.json", holding('{"a": ' + GOOD), "a.json:2: not valid JSON"),
    "truncated CSV": ("a.csv", holding('prompt,response\na,b\nc,"d'), "a.csv:3: broken CSV"),
    "truncated Parquet": ("a.parquet", truncated_parquet, "not a whole Parquet file"),
    "no Parquet": ("a.parquet", holding(GOOD), "not a whole Parquet file"),
    "Latin-1": ("a.jsonl", holding((GOOD + GOOD.replace("b", "ü")).encode("latin-1")), "a.jsonl:2: not UTF-8"),
    "UTF-16": ("a.csv", holding("prompt,response\na,b\n".encode("utf-16")), "a.csv:1: UTF-16 text, wanted UTF-8"),
    "UTF-16 JSON": ("a.json", holding(f"[{GOOD}]".encode("utf-16")), "a.json:1: UTF-16 text, wanted UTF-8"),
    "NUL bytes": ("a.csv", holding("prompt,response\na,b\0\n"), "a.csv:2: a NUL byte"),
    "NUL bytes in JSON": ("a.json", holding(f"[\n{GOOD}\0]"), "a.json:3: a NUL byte"),
    "binary": ("a.jsonl", holding(b"\x89PNG\r\n\x1a\n\0\0"), "a NUL byte|not UTF-8"),
    "10 MB line": ("a.jsonl", holding(GOOD + json.dumps({"prompt": "x" * 10**7, "response": "b"})), "a.jsonl:2: a l"),
    "10 MB cell": ("a.csv", holding("prompt,response\n" + "x\n" * 10 + '"' + "y\n" * 5_000_000), "a.csv:\\d+: "),
    "10 MB object": ("a.json", holding(json.dumps([{"prompt": "x" * 10**7, "response": "b"}])), "a.json:1: a record"),
    "deep JSONL": ("a.jsonl", holding(GOOD + '{"prompt": ' + DEEP + "}"), "a.jsonl:2: nested too deeply"),
    "deep JSON": ("a.json", holding(DEEP), "a.json:1: nested too deeply"),
    "duplicated keys": ("a.jsonl", holding(GOOD + '{"prompt": "a", "prompt": "c", "response": "b"}'),
                        "a.jsonl:2: key 'prompt' stands twice"),
    "duplicated keys in JSON": ("a.json", holding('[\n{"prompt": "a", "prompt": "c"}]'), "a.json:2: key 'prompt'"),
    "duplicated columns": ("a.csv", holding("prompt,prompt,response\na,b,c\n"), "two columns are called 'prompt'"),
    "Parquet bomb": ("a.parquet", parquet_bomb, "unpacks to over 256 MiB"),
    "empty": ("a.parquet", holding(""), "the file is empty"),
    "blank": ("a.conll", holding("\n \n"), "no records in it"),
    "endless sentence": ("a.conll", holding("a\tO\n" * 20_000), "no empty line for 10,000 tokens"),
    "text in place of records": ("a.jsonl", holding('"just text"\n'), "wanted an object, found str"),
    "missing": ("a.csv", lambda _: None, "no such file"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_one_clear_line(tmp_path: Path, case: str) -> None:
    name, write, message = HOSTILE[case]
    write(tmp_path / name)
    with pytest.raises(DataError, match=message) as error:
        read_file(tmp_path / name, None, {}).raise_if_faulty()
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("case", ["truncated JSONL", "deep JSONL", "Parquet bomb", "Latin-1"])
def test_nothing_of_a_hostile_file_is_imported(brogue: Run, tmp_path: Path, home: Home, case: str) -> None:
    name, write, message = HOSTILE[case]
    write(tmp_path / name)
    done: subprocess.CompletedProcess[str] = brogue("data", "import", str(tmp_path / name), "--into", "x")
    assert done.returncode == 1
    assert done.stdout == ""
    [line] = done.stderr.strip().splitlines()
    assert line.startswith("brogue: ")
    assert not list(home.datasets.glob("*"))


def test_a_parquet_bomb_does_not_fill_the_memory(tmp_path: Path) -> None:
    parquet_bomb(tmp_path / "a.parquet")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError):
        read_file(tmp_path / "a.parquet", None, {})
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_500_000  # KiB; it would be 4 GB


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    for name, text in (("a.csv", "prompt,response\na,b\n"), ("a.jsonl", GOOD), ("a.json", f"[{GOOD}]")):
        (tmp_path / name).write_text(text, encoding="utf-8-sig")
        assert len(read_file(tmp_path / name, None, {}).records) == 1


def test_line_separators_inside_a_text_survive_storing(tmp_path: Path, brogue: Run) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": "a\u2028b\x85c", "response": "\x1cd"}), encoding="utf-8")
    assert brogue("data", "import", str(tmp_path / "a.jsonl"), "--into", "x").returncode == 0
    done = brogue("data", "check", "x")
    assert done.returncode == 0, done.stderr
    assert "records: 1" in done.stdout


def test_a_byte_changed_anywhere_gives_records_or_one_line(tmp_path: Path) -> None:
    """400 random cuts and changed bytes in each kind of text file, with a fixed seed."""
    chance = random.Random(5)
    files = {
        "a.csv": 'prompt,response\n"a ""b""",c\nd,"e\nf"\n',
        "a.jsonl": GOOD * 3 + '{"messages": [{"role": "user", "content": "x"}]}\n',
        "a.json": json.dumps(
            {"data": [{"paragraphs": [{"context": "c", "qas": [{"question": "q", "answers": [{}]}]}]}]}
        ),
        "b.jsonl": json.dumps({"prompt": {"role": "prompter", "text": "t", "replies": [{"text": "r", "rank": 0}]}}),
        "c.jsonl": json.dumps({"text": "\n\nHuman: a\n\nAssistant: b"}),
        "a.conll": "a\tO\nb\tB-x\n\nc\tO\n",
    }
    for name, text in files.items():
        for _ in range(400):
            raw = bytearray(text.encode())
            for _ in range(chance.randint(0, 3)):
                raw[chance.randrange(len(raw))] = chance.choice(b'{}[]",:\n\0\xff 0x')
            (tmp_path / name).write_bytes(raw[: chance.randint(1, len(raw))])
            try:
                read_file(tmp_path / name, None, {})
            except DataError as error:
                assert "\n" not in str(error)
