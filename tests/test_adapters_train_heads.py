"""`--recipe labelled --head` and `brogue classify`: what is learnt, measured and refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.held_out import label_scores, wilson
from adapters.tokens import IGNORED, with_labels, word_ids
from data.home import Home, write_text
from data.records import LabelledRecord
from tests.conftest import Run
from tests.fakes import CharTokenizer
from tests.tiny_models import tiny_llama


def test_accuracy_and_macro_f1_are_the_usual_ones() -> None:
    from sklearn.metrics import f1_score  # type: ignore[import-untyped]

    draw = np.random.default_rng(1)
    truth, given = draw.integers(0, 4, 60), draw.integers(0, 4, 60)
    given[:40] = truth[:40]
    found = label_scores("test", [[t] for t in truth.tolist()], [[g] for g in given.tolist()], 9)
    assert found["test_accuracy"] == pytest.approx(float((truth == given).mean()), abs=1e-4)
    assert found["test_f1"] == pytest.approx(f1_score(truth, given, average="macro"), abs=1e-4)
    assert (found["test_accuracy_low"], found["test_accuracy_high"]) == pytest.approx(
        wilson(int((truth == given).sum()), 60), abs=1e-4
    )
    assert found["test_f1_low"] < found["test_f1"] < found["test_f1_high"]


def test_words_of_one_record_are_not_counted_as_if_they_were_independent() -> None:
    one_word = label_scores("t", [[0]] * 200, [[int(n % 5 == 0)] for n in range(200)], 2)
    in_tens = label_scores("t", [[0] * 10] * 20, [[int(n % 5 == 0)] * 10 for n in range(20)], 2)
    assert one_word["t_accuracy"] == in_tens["t_accuracy"] == 0.8
    width = {name: found["t_accuracy_high"] - found["t_accuracy_low"] for name, found in
             (("one", one_word), ("ten", in_tens))}  # fmt: skip
    assert width["ten"] > 2 * width["one"]


def test_a_words_tag_stands_at_its_last_token() -> None:
    record = LabelledRecord(tokens=("ab", "c"), tags=("N", "O"))
    example: Any = with_labels(CharTokenizer(), record, ("N", "O"))
    assert "".join(map(chr, example["input_ids"])) == "ab c"
    assert example["labels"] == [IGNORED, 0, IGNORED, 1]
    assert [len(ids) for ids in word_ids(CharTokenizer(), ("ab", "c"))] == [2, 2]
    text: Any = with_labels(CharTokenizer(), LabelledRecord(text="Hi", label="O"), ("N", "O"))
    assert "".join(map(chr, text["input_ids"])) == "<u>Hi$\n<a>" and text["label"] == 1


def prepared(brogue: Run, home: Home, tmp_path: Path) -> None:
    home.create()
    write_text(home.settings_file, f'base_model = "{tiny_llama(tmp_path)}"')
    texts: list[dict[str, Any]] = [
        {"text": f"aisle aisle {n}", "label": "place"} if n % 3 else {"text": f"What is item {n}?", "label": "question"}
        for n in range(40)
    ]
    words: list[dict[str, Any]] = [
        {"tokens": ["item", str(n), "aisle", "3"], "tags": ["O", "N", "O", "N"]} for n in range(24)
    ]
    one: list[dict[str, Any]] = [{"text": f"What is {n}?", "label": "same"} for n in range(9)]
    for name, rows in {"texts": texts, "words": words, "one": one}.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        done = brogue("data", "import", str(tmp_path / f"{name}.jsonl"), "--as", "labelled", "--into", name)
        assert done.returncode == 0, done.stderr


HEAD = ("--recipe", "labelled", "--head", "--epochs", "4", "--learning-rate", "0.003")


@pytest.mark.slow
def test_a_classification_head_labels_texts_and_words_and_never_chats(brogue: Run, home: Home, tmp_path: Path) -> None:
    prepared(brogue, home, tmp_path)
    done = brogue("train", "sorter", "--data", "texts", *HEAD)
    assert done.returncode == 0, done.stderr
    assert "validation: the right label in 100.0% of" in done.stdout and "macro-F1 1.000 (95%: " in done.stdout
    assert done.stdout.splitlines()[-1] == "next: brogue classify sorter@1 TEXT"
    card = json.loads((home.adapters / "sorter" / "1" / "card.json").read_text())
    assert card["labels"] == ["place", "question"] and card["system_prompt"] is None
    assert {"usual_test_f1", "adapter_test_f1_low", "adapter_test_accuracy_high"} <= set(card["scores"])
    assert "base_test_accuracy" not in card["scores"], "an untrained head is random numbers"

    (tmp_path / "some.txt").write_text("What is item 7?\n\naisle aisle 8\n")
    done = brogue("classify", "sorter@1", "--file", str(tmp_path / "some.txt"))
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [(label, text) for label, _, text in lines] == [("question", "What is item 7?"), ("place", "aisle aisle 8")]
    assert all(0.5 < float(chance) <= 1 for _, chance, _ in lines)
    [row] = json.loads(brogue("classify", "sorter@1", "aisle aisle 1", "--json").stdout)
    assert row["text"] == "aisle aisle 1" and row["label"] == "place"
    assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-3)

    done = brogue("adapters", "promote", "sorter@1")
    assert done.returncode == 1 and "sorter@1 is a classifier: it labels texts and cannot chat" in done.stderr
    assert not (home.adapters / "sorter" / "aliases.json").exists(), "the first version of others becomes stable"
    done = brogue("train", "more", "--data", "texts", *HEAD, "--from", "sorter@1")
    assert done.returncode == 1 and "nothing starts from one; leave --from away" in done.stderr.splitlines()[-1]

    done = brogue("train", "tagger", "--data", "words", *HEAD)
    assert done.returncode == 0, done.stderr
    [row] = json.loads(brogue("classify", "tagger@1", "item 7 aisle 3", "--json").stdout)
    assert row["tokens"] == ["item", "7", "aisle", "3"] and [tag["label"] for tag in row["tags"]] == [
        "O",
        "N",
        "O",
        "N",
    ]
    assert brogue("classify", "tagger@1", "item 7").stdout.split("\n")[0].split("\t")[::2] == ["O", "item"]

    for words, wanted in (
        (("train", "x", "--data", "one", *HEAD), "wants at least 2 labels; dataset 'one' has 1"),
        (("train", "x", "--data", "texts", *HEAD, "--method", "miss"), "'labelled --head' takes lora only"),
        (("train", "x", "--data", "texts", "--head"), "dataset 'texts' holds labelled records"),
        (("classify", "sorter@1"), "wanted texts, or --file with one a line"),
        (("classify", "sorter@1", "--file", str(tmp_path / "none")), "wanted a text file in UTF-8"),
        (("classify", "sorter@2", "x"), "no version 'sorter@2'"),
    ):
        done = brogue(*words)
        assert done.returncode == 1 and wanted in done.stderr.splitlines()[-1], done.stderr
        assert "Traceback" not in done.stderr
