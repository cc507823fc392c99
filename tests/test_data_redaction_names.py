"""Names of people are redacted where the user names a model that finds them: end to end, with a model trained here."""

import json
import re
import shutil
from pathlib import Path

import pytest

from assistant.name_model import Label, _join, _person_labels
from data.dataset import Row, load_card, load_rows, make_rows, save_dataset
from data.errors import BrogueError
from data.home import Home
from data.records import InstructionRecord, record_id
from data.redaction import NOT_RECOGNISED, NOT_RECOGNISED_WITH_NAMES, Redactor, redact
from tests.conftest import Run
from tests.tiny_names import Sentence, sentences, train_name_model

SHARES = (80, 10, 10)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_name_model(tmp_path_factory.mktemp("models") / "tiny-names")


def store(home: Home, texts: list[str]) -> None:
    records = [InstructionRecord(prompt=text, response="We look at it.") for text in texts]
    save_dataset(home, "chats", make_rows(records, SHARES), "a.csv", "0" * 64, {}, SHARES)


def recall(made: list[Sentence], redacted: list[str]) -> float:
    found = sum(name not in text for (_, names), text in zip(made, redacted, strict=True) for name in names)
    return found / sum(len(names) for _, names in made)


@pytest.mark.slow
def test_names_of_unseen_sentences_are_replaced_by_command_in_short_and_in_long_texts(
    brogue: Run, home: Home, model: Path
) -> None:
    made = sentences(200, seed=10**7)
    long = [Sentence(" ".join(s.text for s in made), [name for s in made for name in s.names])]
    store(home, [s.text for s in (*made, *long)])
    done = brogue("data", "redact", "chats", "--names", str(model), "--into", "clean")
    assert done.returncode == 0, done.stderr
    assert "NAME replaced in" in done.stdout
    assert NOT_RECOGNISED_WITH_NAMES in done.stderr
    assert NOT_RECOGNISED not in done.stderr
    assert "looking for names in text" in done.stderr
    redacted = [row.record.prompt for row in load_rows(home, "clean")]  # type: ignore[union-attr]
    assert len(redacted) == len(made) + 1
    assert recall(made, redacted[:-1]) >= 0.95
    assert recall(long, redacted[-1:]) >= 0.95  # some 2,000 tokens, in windows of 40
    end = redacted[-1][-len(long[0].text) // 4 :]
    assert re.search(r"\[NAME_\d+\]", end), "the end of a long text is looked at as well"
    kept = sum(len(re.findall(r"\[NAME_\d+\]", text)) for text in redacted[:-1])
    assert kept <= 1.05 * sum(len(names) for _, names in made), "what is no name stays"


@pytest.mark.slow
def test_the_step_names_the_model_and_its_hash_and_the_digest_comes_again(
    brogue: Run, home: Home, model: Path, tmp_path: Path
) -> None:
    store(home, [s.text for s in sentences(20, seed=5)])
    words = ("data", "redact", "chats", "--json", "--names")
    one = json.loads(brogue(*words, str(model), "--into", "one").stdout)
    copy = shutil.copytree(model, tmp_path / "tiny-names")
    two = json.loads(brogue(*words, str(copy), "--into", "two").stdout)
    assert one["digest"] == two["digest"] != load_card(home, "chats").digest
    assert one["steps"] == two["steps"]
    options = one["steps"][0]["options"]
    assert options["names"] == "tiny-names"
    assert re.fullmatch("[0-9a-f]{64}", options["names_sha256"])
    preview = json.loads(brogue(*words, str(model), "--preview").stdout)
    assert preview["not_recognised"] == NOT_RECOGNISED_WITH_NAMES
    assert preview["counts"]["NAME"] == one["steps"][0]["counts"]["NAME"] > 0


def config(folder: Path, **content: object) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(content))
    return str(folder)


def test_a_model_that_finds_no_names_is_refused_in_one_line(brogue: Run, home: Home, tmp_path: Path) -> None:
    store(home, ["Who is it?"])
    tags = ["BertForTokenClassification"]
    wrong = {
        config(tmp_path / "a", architectures=["BertForMaskedLM"]): "says BertForMaskedLM",
        config(tmp_path / "b", architectures=tags, id2label={"0": "O", "1": "B-LOC"}): "its labels: O, B-LOC",
        config(tmp_path / "c", architectures=tags, id2label={"0": "O", "1": "PER"}): "no weights as *.safetensors",
        "no such folder": "is neither a folder nor a Hugging Face id",
        str(tmp_path): "no config.json that can be read",
    }
    for model, line in wrong.items():
        done = brogue("data", "redact", "chats", "--names", model, "--into", "clean")
        assert done.returncode == 1
        [said] = [text for text in done.stderr.splitlines() if text.startswith("brogue: ")]
        assert line in said
        assert "Traceback" not in done.stderr
    assert [path.name for path in home.datasets.iterdir()] == ["chats"]


@pytest.mark.parametrize(
    "label", ["PER", "B-PER", "I-PER", "person", "B-PERSON", "S-PER", "U-PERSON", "I_per", "GIVENNAME", "B-LAST_NAME"]
)
def test_a_persons_label_is_known_in_its_usual_spellings(label: str) -> None:
    tags = {"architectures": ["XForTokenClassification"], "id2label": {"0": "O", "1": label, "2": "B-PERCENT"}}
    assert list(_person_labels("m", tags)) == [1]
    with pytest.raises(BrogueError, match="no label for a person"):
        _person_labels("m", tags | {"id2label": {"0": "O", "1": "B-LOC"}})


def test_tokens_are_joined_to_whole_names() -> None:
    first, more = Label(True, "per"), Label(False, "per")

    def names(text: str, *tokens: tuple[str, Label]) -> list[str]:
        places = [(text.index(token), text.index(token) + len(token), label) for token, label in tokens]
        return [text[start:end] for start, end in _join(text, places)]

    assert names("ask Jo Miller now", ("Jo", first), ("Mil", more)) == ["Jo Miller"]
    assert names("Jo Bob", ("Jo", first), ("Bob", first)) == ["Jo", "Bob"]
    assert names("Jo, Bob", ("Jo", more), ("Bob", more)) == ["Jo", "Bob"]
    assert names("Anne-Marie O'Neil's", ("Anne", first), ("Marie", more), ("O", more), ("Neil", more)) == [
        "Anne-Marie O'Neil"
    ]
    assert names("我是王小明先生", ("王", first), ("小", more), ("明", more)) == ["王小明"]
    assert names("Jo Miller", ("Jo", Label(True, "givenname")), ("Miller", Label(True, "surname"))) == ["Jo Miller"]


def test_the_same_name_has_the_same_number_case_and_spacing_aside() -> None:
    text = "Jo Miller, JO  MILLER and Jo"
    redactor = Redactor({text: [(0, 9), (11, 21), (26, 28)]})
    assert redactor.text(text) == "[NAME_1], [NAME_1] and [NAME_2]"


def test_a_name_gives_way_to_other_findings_and_to_placeholders() -> None:
    record = InstructionRecord(prompt="Jo Doe jo@x.org [NAME_7]", response="No.")
    row = Row(id=record_id(record), split="train", record=record)
    done = redact([row], lambda texts: [[(0, len(text))] if text != "No." else [] for text in texts])
    assert done.rows[0].record.prompt == "[NAME_8] [EMAIL_1] [NAME_7]"  # type: ignore[union-attr]
    assert (done.counts["NAME"], done.counts["EMAIL"]) == (1, 1)
