"""A file's format is recognised by its first row, said, and can be overridden."""

import json
from pathlib import Path
from typing import Any

import pytest

from data.errors import DataError
from data.importing import Imported, read_file
from data.records import ChatRecord, InstructionRecord, LabelledRecord, PreferenceRecord, RankingRecord

USER = {"role": "user", "content": "Hi"}
BOT = {"role": "assistant", "content": "Hello"}
TRANSCRIPT = "\n\nHuman: Hi\n\nAssistant: Hello"
CHAT = {"messages": (USER, BOT)}
PAIR = {"messages": (USER,), "chosen": "Hello", "rejected": "No", "tie": False}
ALPACA = {"instruction": "Translate", "input": "Hallo", "output": "Hello"}


def read(tmp_path: Path, *rows: Any, name: str = "a.jsonl", **options: Any) -> Imported:
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read_file(path, options.pop("kind", None), options.pop("columns", {}), **options)


def dump(record: Any) -> dict[str, Any]:
    return {k: v for k, v in record.model_dump().items() if k != "kind" and v is not None}


@pytest.mark.parametrize(
    ("row", "name", "record"),
    [
        ({"messages": [USER, BOT]}, "openai-chat", CHAT),
        ({"messages": [{**USER, "content": [{"type": "text", "text": "Hi"}]}, BOT]}, "openai-chat", CHAT),
        ({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}, "sharegpt", CHAT),
        ({"text": TRANSCRIPT}, "anthropic", CHAT),
        ({"prompt": "\n\nHuman: Hi\n\nAssistant:", "completion": " Hello"}, "anthropic", CHAT),
        ({"chosen": TRANSCRIPT, "rejected": TRANSCRIPT.replace("Hello", "No")}, "anthropic-pairs", PAIR),
        (
            {"input": {"messages": [USER]}, "preferred_output": [BOT],
             "non_preferred_output": [{**BOT, "content": "No"}]}, "openai-dpo", PAIR,
        ),
        ({"prompt": "Hi", "chosen": "Hello", "rejected": "No"}, "columns", PAIR),
        ({"prompt": [USER], "chosen": [BOT], "rejected": [{**BOT, "content": "No"}]}, "columns", PAIR),
        ({"chosen": [USER, BOT], "rejected": [USER, {**BOT, "content": "No"}]}, "columns", PAIR),
        ({"input": "Hi", "output_1": "No", "output_2": "Hello", "label": 2}, "voted-pairs", PAIR),
        (ALPACA, "alpaca", {"prompt": "Translate\n\nHallo", "response": "Hello"}),
        ({**ALPACA, "input": ""}, "alpaca", {"prompt": "Translate", "response": "Hello"}),
        (
            {"instruction": "Add", "instances": [{"input": "1 2", "output": "3"}]}, "self-instruct",
            {"prompt": "Add\n\n1 2", "response": "3"},
        ),
        (
            {"paragraphs": [{"context": "C.", "qas": [{"question": "Q?", "answers": [{"text": "A"}]}]}]}, "squad",
            {"prompt": "C.\n\nQ?", "response": "A"},
        ),
        ({"prompt": "Hi", "completion": "Hello"}, "columns", {"prompt": "Hi", "response": "Hello"}),
        ({"text": "Hi", "label": 3}, "columns", {"text": "Hi", "label": "3"}),
        ({"tokens": ["Jo", "sings"], "ner_tags": ["B-person", "O"]}, "columns",
         {"tokens": ("Jo", "sings"), "tags": ("B-person", "O")}),
        (
            {"prompt": "Hi", "replies": ["No", "Hello", "Yes"], "ranks": [3, 1, 1]}, "columns",
            {"messages": (USER,), "replies": ("No", "Hello", "Yes"), "ranks": (1, 0, 0)},
        ),
    ],
)  # fmt: skip
def test_a_row_is_recognised_without_options(tmp_path: Path, row: Any, name: str, record: Any) -> None:
    imported = read(tmp_path, row)
    assert imported.faults == []
    assert imported.format == f"jsonl, {name}"
    assert [dump(r) for r in imported.records] == [record]


def tree() -> dict[str, Any]:
    """A question with three answers, two of them ranked; the best one has a further question with one answer."""
    last = {"role": "assistant", "text": "Bye", "replies": []}
    further = {"role": "prompter", "text": "Thanks", "replies": [last]}
    replies = [
        {"role": "assistant", "text": "No", "rank": 1, "replies": []},
        {"role": "assistant", "text": "Hello", "rank": 0, "replies": [further]},
        {"role": "assistant", "text": "?", "rank": None, "replies": []},
    ]
    return {"message_tree_id": "t", "prompt": {"role": "prompter", "text": "Hi", "replies": replies}}


def test_a_tree_gives_its_ranked_answers_or_its_best_conversation(tmp_path: Path) -> None:
    [ranking] = read(tmp_path, tree()).records
    assert isinstance(ranking, RankingRecord)
    assert (ranking.replies, ranking.ranks) == (("Hello", "No"), (0, 1))
    [chat] = read(tmp_path, tree(), kind="chat").records
    assert isinstance(chat, ChatRecord)
    assert [m.content for m in chat.messages] == ["Hi", "Hello", "Thanks", "Bye"]


def test_a_tree_without_ranked_answers_is_counted_and_no_fault(tmp_path: Path) -> None:
    bare = {"prompt": {"role": "prompter", "text": "Hi", "replies": []}}
    imported = read(tmp_path, tree(), bare)
    assert (imported.rows, len(imported.records), imported.without, imported.faults) == (2, 1, 1, [])


@pytest.mark.parametrize(("votes", "chosen", "tie"), [((1, 1, 0), "A", False), ((2, 0, 2), "B", False),
                                                      ((0, 0, 1), "A", True), ((0, 1, 2), "A", True)])  # fmt: skip
def test_several_votes_give_the_most_frequent_verdict(tmp_path: Path, votes: Any, chosen: str, tie: bool) -> None:
    row = {"prompt": "Q", "response1": "A", "response2": "B"} | {f"annotator{n}": v for n, v in enumerate(votes)}
    [record] = read(tmp_path, row).records
    assert isinstance(record, PreferenceRecord)
    assert (record.chosen, record.tie) == (chosen, tie)


def test_json_of_splits_and_json_of_objects_are_read(tmp_path: Path) -> None:
    splits = {"train": [["a", "x"], ["b", "y"]], "val": [["c", "x"]]}
    imported = read(tmp_path, splits, name="a.json")
    assert [(r.text, r.label) for r in imported.records if isinstance(r, LabelledRecord)] == [
        ("a", "x"), ("b", "y"), ("c", "x"),
    ]  # fmt: skip
    by_id = {"one": {"prompt": "a", "response": "b"}, "two": {"prompt": "c", "response": "d"}}
    assert len(read(tmp_path, by_id, name="b.json").records) == 2


def test_jsonl_called_json_is_read_line_by_line(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "response": "b"}, {"prompt": "c", "response": ""}]
    assert read(tmp_path, *rows, name="a.json").faults[0].endswith("a.json:2: response is empty")


def test_conll_sentences_keep_their_tags_and_a_token_without_one_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text("-DOCSTART- -X- O\n\nJo NN B-person\nsings VB O\n\n#\tO\n\nlonely\n\t\nend\tO")
    imported = read_file(path, None, {})
    assert [r.tokens for r in imported.records if isinstance(r, LabelledRecord)] == [("Jo", "sings"), ("#",), ("end",)]
    assert imported.records[0].model_dump()["tags"] == ("B-person", "O")
    assert imported.faults == [f"{path}:8: line 8 has no tag; wanted a token, a tab and its tag"]


def test_a_wrong_guess_is_overridden(tmp_path: Path) -> None:
    assert isinstance(read(tmp_path, ALPACA).records[0], InstructionRecord)
    columns: dict[str, str | None] = {"text": "input", "label": "instruction"}
    [record] = read(tmp_path, ALPACA, columns=columns).records
    assert isinstance(record, LabelledRecord)
    pair = {"chosen": TRANSCRIPT, "rejected": TRANSCRIPT.replace("Hello", "No")}
    assert isinstance(read(tmp_path, pair, kind="chat").records[0], ChatRecord)
    assert "Human:" in read(tmp_path, {"prompt": "Q", **pair}, columns={"chosen": "chosen"}).records[0].chosen
    assert len(read(tmp_path, ALPACA, name="a.txt", format="jsonl").records) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "sharegpt"}, "no 'conversations' in this record"),
        ({"format": "alpacca"}, "no format 'alpacca'; have: .*alpaca"),
        ({"format": "sharegpt", "kind": "ranking"}, "the format sharegpt holds chat records, not ranking"),
        ({"kind": "ranking"}, "no column for the replies .*Rename it so"),
        ({"columns": {"label": "nope"}}, "no column 'nope'; the columns are: instruction, input, output"),
        ({"kind": "chat", "columns": {"label": "input"}}, "chat records have no label; drop --label-column"),
    ],
)
def test_a_wrong_override_is_one_line(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        read(tmp_path, ALPACA, **options).raise_if_faulty()
    assert "\n" not in str(error.value)


def test_columns_that_tell_nothing_are_answered_with_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot tell what its records are; the columns are: q, a. Say .* --as"):
        read(tmp_path, {"q": "x", "a": "y"})


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"prompt": "Hi", "chosen": "Same", "rejected": "Same"}, "chosen and rejected are the same text"),
        ({"prompt": "Hi", "replies": ["a"], "ranks": [0]}, "1 replies, wanted at least 2"),
        ({"prompt": "Hi", "replies": ["a", "b"], "ranks": [0]}, "2 replies, but 1 ranks"),
        ({"prompt": "Hi", "replies": ["a", "b"], "ranks": ["x", 1]}, "ranks: wanted a list of whole numbers"),
        ({"tokens": ["a", "b"], "tags": ["O"]}, "2 tokens, but 1 tags"),
        ({"text": " ", "label": "x"}, "text is empty"),
        ({"chosen": TRANSCRIPT, "rejected": TRANSCRIPT.replace("Hi", "Ho")}, "part before their last answers"),
        ({"input": "Hi", "output_1": "a", "output_2": "b", "label": 7}, "label is '7', wanted 1 or 2"),
        ({"conversations": [{"from": "human"}]}, "no 'value' in this record"),
        ({"messages": [{"role": "user", "content": "\ud800"}, BOT]}, "half a character"),
    ],
)
def test_a_record_that_is_none_says_why(tmp_path: Path, row: Any, fault: str) -> None:
    imported = read(tmp_path, row)
    assert fault in imported.faults[0]
    assert imported.refused.total() == 1


def test_one_faulty_reply_does_not_cost_the_rest_of_a_row(tmp_path: Path) -> None:
    row = {"instruction": "Add", "instances": [{"input": "1", "output": ""}, {"input": "2", "output": "3"}]}
    imported = read(tmp_path, row)
    assert (len(imported.records), imported.faults[0].split(": ")[1]) == (1, "response is empty")


def test_parquet_is_read_with_row_numbers(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    rows = [{"messages": [USER, BOT]}, {"messages": [USER]}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    imported = read_file(tmp_path / "a.parquet", None, {})
    assert (imported.format, len(imported.records)) == ("parquet, openai-chat", 1)
    assert imported.faults == [f"{tmp_path / 'a.parquet'}:2: the last turn is not by 'assistant'"]


def test_a_hugging_face_folder_gives_its_labels_names(tmp_path: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    names = datasets.ClassLabel(names=["bad", "good"])
    features = datasets.Features({"text": datasets.Value("string"), "label": names})
    table = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    table.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"train": table, "test": table}).save_to_disk(str(tmp_path / "two"))
    (tmp_path / "three").mkdir()
    table.to_parquet(str(tmp_path / "three" / "train.parquet"))
    for name, count in (("one", 2), ("two", 4), ("three", 2)):
        imported = read_file(tmp_path / name, None, {})
        labels = [r.label for r in imported.records if isinstance(r, LabelledRecord)]
        assert labels == ["good", "bad"] * (count // 2), name
        assert imported.format == "folder, columns"


def test_a_folder_that_is_no_dataset_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="not a dataset folder that can be read") as error:
        read_file(tmp_path / "empty", None, {})
    assert "\n" not in str(error.value)
