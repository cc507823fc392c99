"""Files become records, and every fault is named by file and line."""

import json
from pathlib import Path

import pytest

from data.errors import DataError
from data.importing import read_file

NO_COLUMNS: dict[str, str | None] = {}


def write(tmp_path: Path, name: str, text: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_csv_with_usual_columns_needs_no_column_options(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'topic,question,answer\nx,Open?,Yes.\ny,Late?,"Until 6,\nthen no."\n')
    imported = read_file(path, "instruction", NO_COLUMNS)
    assert [r.messages[-1].content for r in imported.records] == ["Yes.", "Until 6,\nthen no."]
    assert imported.columns == {"prompt": "question", "response": "answer"}
    assert imported.unused == ["topic"]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_a_spreadsheets_other_delimiters_are_recognised(tmp_path: Path, delimiter: str) -> None:
    path = write(tmp_path, "a.csv", f"prompt{delimiter}response\nHi, you{delimiter}Hello, me\n")
    assert read_file(path, "instruction", NO_COLUMNS).records[0].messages[0].content == "Hi, you"


def test_a_fault_is_named_by_the_line_where_its_row_begins(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'prompt,response\n"two\nlines",ok\nempty,\n')
    assert read_file(path, "instruction", NO_COLUMNS).faults == [f"{path}:4: response is empty"]


def test_a_row_with_too_few_cells_is_a_fault_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "prompt,response\na,b\nlonely\n")
    assert read_file(path, "instruction", NO_COLUMNS).faults[0].startswith(f"{path}:3: 1 cells, but the header has 2")


def test_an_unclosed_quote_is_one_clear_error(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'prompt,response\na,"b\nc,d\n')
    with pytest.raises(DataError, match=r"a\.csv:2: broken CSV"):
        read_file(path, "instruction", NO_COLUMNS)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "the file is empty"),
        ("a.csv", "prompt,response\n", "no records in it"),
        ("a.csv", b"prompt,response\ncaf\xe9,x\n", ":2: not UTF-8 text"),
        ("a.xlsx", "x", "cannot read '.xlsx' files"),
        ("a.json", '{"prompt": 1}', "wanted a JSON array"),
        ("a.json", '[{"prompt": "a", "response": "b"},\n{]', ":2: not valid JSON"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message.replace("[", r"\[").replace(".", r"\.")):
        read_file(write(tmp_path, name, content), "instruction", NO_COLUMNS)


def test_a_column_that_does_not_exist_is_answered_with_those_that_do(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "q,a\nx,y\n")
    with pytest.raises(DataError, match="no column 'question'; the columns are: q, a"):
        read_file(path, "instruction", {"prompt": "question"})
    with pytest.raises(DataError, match="Name it with --prompt-column"):
        read_file(path, "instruction", NO_COLUMNS)


def test_jsonl_faults_name_their_lines_and_the_rest_is_read(tmp_path: Path) -> None:
    lines = ['{"prompt": "a", "response": "b"}', "{broken", "[]", '{"prompt": "c"}', '{"prompt": 3, "response": "d"}']
    imported = read_file(write(tmp_path, "a.jsonl", "\n".join(lines)), "instruction", NO_COLUMNS)
    assert len(imported.records) == 1
    assert [fault.split(":")[1] for fault in imported.faults] == ["2", "3", "4", "5"]


def test_a_json_array_is_read_with_line_numbers(tmp_path: Path) -> None:
    text = json.dumps([{"prompt": "a", "response": "b"}, {"prompt": "c", "response": " "}], indent=1)
    imported = read_file(write(tmp_path, "a.json", text), "instruction", NO_COLUMNS)
    assert len(imported.records) == 1
    assert imported.faults[0].endswith("a.json:6: response is empty")


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        ([], "conversation is empty"),
        ([{"role": "user", "content": "hi"}], "the last turn is not by 'assistant'"),
        ([{"role": "assistant", "content": "hi"}], "turn 1 is by 'assistant', wanted 'user'"),
        ([{"role": "user", "content": "hi"}, {"role": "assistant", "content": " "}], "turn 2 is empty"),
        ([{"role": "bot", "content": "hi"}], "messages.0.role"),
    ],
)
def test_a_conversation_that_is_not_one_says_which_turn(tmp_path: Path, messages: object, fault: str) -> None:
    path = write(tmp_path, "a.jsonl", json.dumps({"messages": messages}))
    assert fault in read_file(path, "chat", NO_COLUMNS).faults[0]


def test_the_error_counts_further_faults(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "prompt,response\na,\nb,\nc,\n")
    with pytest.raises(DataError, match=r"a\.csv:2: response is empty \(and 2 more like it\); nothing was imported"):
        read_file(path, "instruction", NO_COLUMNS).raise_if_faulty()
