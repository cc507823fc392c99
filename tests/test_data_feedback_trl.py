"""TRL's trainers take what `brogue feedback export` writes, unchanged."""

import json
from pathlib import Path

import pytest

from data.home import Home
from data.judgements import Comparison, Correction, Ranking, Rating, Response
from data.store_home import open_store
from tests.inside import brogue_inside
from tests.trl_steps import train_two_steps


@pytest.fixture
def exports(home: Home, tmp_path: Path) -> dict[str, str]:
    """A file of each format, from a few judgements of every kind."""
    store = open_store(home)
    for number in range(4):
        asked = ({"role": "user", "content": f"What is item {number}?"},)
        for version in "abc":
            store.add_response(Response(id=f"{number}{version}", version=version, messages=asked,
                                        text=f"Item {number} is in aisle {version}."))  # fmt: skip
        shown = (f"{number}a", f"{number}b")
        store.judge(Rating(rater="ann", response=shown[0], thumb="up"))
        store.judge(Rating(rater="ann", response=shown[1], thumb="down"))
        store.judge(Correction(rater="ann", response=f"{number}c", text="Item 1 is in aisle 3."))
        store.judge(Comparison(rater="bob", shown=shown, verdict="first"))
        store.judge(Ranking(rater="bob", shown=(*shown, f"{number}c"), ranks=(0, 1, 2)))
    store.close()
    found = {}
    for kind in ("sft", "dpo", "reward", "kto"):
        found[kind] = str(tmp_path / f"{kind}.jsonl")
        done = brogue_inside("feedback", "export", "--as", kind, "--to", found[kind])
        assert done.returncode == 0, done.stderr
        assert "weight" in json.loads(Path(found[kind]).read_text().splitlines()[0])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sft", "dpo", "reward", "kto"])
def test_trls_trainers_run_two_steps_on_the_exports_unchanged(
    exports: dict[str, str], tmp_path: Path, kind: str
) -> None:
    done = train_two_steps(kind, Path(exports[kind]), tmp_path)
    assert done.global_step == 2 and done.training_loss > 0
