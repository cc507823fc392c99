"""Adapters, datasets and models at s3:// addresses, on a real server that speaks S3."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from adapters.base_model import BaseModel, on_disk, prepare
from adapters.registry import Registry
from data.errors import BrogueError
from data.home import Home, write_text
from data.remote import fetch, here, send
from tests.conftest import Run
from tests.test_adapters_export import KINDS, WEIGHTS, train_with_peft
from tests.test_adapters_export import base as base
from tests.test_adapters_export import llama as llama

pytest_plugins = ["tests.s3"]
pytestmark = pytest.mark.slow

BUCKET = "voices"  # of tests/s3.py


@pytest.fixture
def guest(brogue: Run, llama: Path, base: BaseModel, tmp_path: Path) -> str:  # noqa: ARG001
    """An adapter with one version."""
    train_with_peft(llama, tmp_path / "made", **KINDS["plain"])
    done = brogue("adapters", "import", str(tmp_path / "made"), "--as", "guest")
    assert done.returncode == 0, done.stderr
    return "guest@1"


@pytest.mark.parametrize("name", ["guest", "guest.tar.gz"])
@pytest.mark.usefixtures("s3")
def test_a_version_goes_to_a_bucket_and_comes_back_byte_for_byte(
    brogue: Run, home: Home, guest: str, name: str
) -> None:
    where = f"s3://{BUCKET}/shared/{name}"
    done = brogue("adapters", "export", guest, "--to", where, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["path"] == where
    done = brogue("adapters", "import", where, "--as", "returned")
    assert done.returncode == 0, done.stderr
    registry = Registry(home)
    before, after = (registry.folder(adapter, 1) / WEIGHTS for adapter in ("guest", "returned"))
    assert after.read_bytes() == before.read_bytes()
    assert registry.card("returned", 1).base_sha256 == registry.card("guest", 1).base_sha256
    again = brogue("adapters", "export", guest, "--to", where)
    assert again.returncode == 1 and f"{where} exists already" in again.stderr


def test_an_object_that_was_changed_is_refused_and_nothing_of_it_stays(s3: Any, brogue: Run, home: Home,
                                                                      guest: str) -> None:  # fmt: skip
    assert brogue("adapters", "export", guest, "--to", f"s3://{BUCKET}/voice").returncode == 0
    key = f"voice/{WEIGHTS}"
    content = bytearray(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
    content[-1] ^= 1
    s3.put_object(Bucket=BUCKET, Key=key, Body=bytes(content))
    done = brogue("adapters", "import", f"s3://{BUCKET}/voice", "--as", "spoilt")
    assert done.returncode == 1
    assert WEIGHTS in done.stderr and "changed" in done.stderr
    assert "s3://voices/voice cannot be served" in done.stderr
    assert "spoilt" not in Registry(home).adapters() or not Registry(home).versions("spoilt")


def test_an_upload_that_was_cut_off_is_not_taken_for_a_version(s3: Any, brogue: Run, guest: str) -> None:
    assert brogue("adapters", "export", guest, "--to", f"s3://{BUCKET}/voice").returncode == 0
    for name in ("card.json", WEIGHTS):
        s3.delete_object(Bucket=BUCKET, Key=f"voice/{name}")
    done = brogue("adapters", "import", f"s3://{BUCKET}/voice", "--as", "half")
    assert done.returncode == 1
    assert f"{WEIGHTS}" in done.stderr


@pytest.mark.parametrize(
    ("where", "told"),
    [
        (f"s3://{BUCKET}/nothing", "nothing is there; check the address"),
        ("s3://no-such-bucket/nothing", "nothing is there; check the address"),
        ("gopher://somewhere/voice", "no file system 'gopher'"),
    ],
)
@pytest.mark.usefixtures("s3", "base")
def test_what_cannot_be_read_is_one_line(brogue: Run, where: str, told: str) -> None:
    done = brogue("adapters", "import", where, "--as", "guest")
    assert done.returncode == 1
    assert told in done.stderr.splitlines()[-1] and where in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("s3")
def test_a_server_that_is_away_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(BrogueError, match=f"cannot read s3://{BUCKET}/voice .*127.0.0.1:9"):
        fetch(f"s3://{BUCKET}/voice", tmp_path / "voice")


def test_a_dataset_is_imported_from_a_bucket(s3: Any, brogue: Run, home: Home) -> None:
    lines = [json.dumps({"prompt": f"Question {n}?", "response": f"Answer {n}."}) for n in range(20)]
    s3.put_object(Bucket=BUCKET, Key="chats/pairs.jsonl", Body="\n".join(lines).encode())
    done = brogue("data", "import", f"s3://{BUCKET}/chats/pairs.jsonl", "--into", "pairs", "--json")
    assert done.returncode == 0, done.stderr
    assert "pairs.jsonl" in done.stdout
    assert len((home.datasets / "pairs" / "records.jsonl").read_text().splitlines()) == 20


@pytest.mark.usefixtures("s3")
def test_a_base_model_is_fetched_from_a_bucket_once(home: Home, llama: Path) -> None:
    where = f"s3://{BUCKET}/models/tiny-llama"
    home.create()
    assert on_disk(where, home) is None
    send(llama, where, last="config.json")
    said: list[str] = []
    first = prepare(where, home, said.append)
    assert first.name == "tiny-llama" and any("fetching" in line for line in said)
    assert on_disk(where, home) == Path(first.path)
    said.clear()
    assert prepare(where, home, said.append) == first
    assert said == []


def test_a_path_of_this_machine_is_what_it_was(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "A")
    with here(str(tmp_path / "a.txt")) as path:
        assert path == tmp_path / "a.txt"
    send(tmp_path / "a.txt", f"file://{tmp_path}/there/b.txt")
    with here(f"file://{tmp_path}/there/b.txt") as path:
        assert path.read_text() == "A" and path.name == "b.txt"
    shutil.rmtree(tmp_path / "there")
