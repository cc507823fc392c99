"""`brogue knowledge` as a person meets it, with the starter embedding model."""

import json
from pathlib import Path

import pytest

from data.home import Home, write_text
from tests.fakes import add_assistant
from tests.inside import brogue_inside

RETURNS = "# Returns\n\nPlants may be sent back within 30 days.\n\n## Damage\n\nSend us a photograph of the damage.\n"
HOURS = "# Opening hours\n\nThe shop in Leeds opens at nine on weekdays.\n"


@pytest.fixture
def documents(home: Home, tmp_path: Path) -> Path:
    add_assistant(home, "reed", "description: Reed.")
    folder = tmp_path / "policy"
    write_text(folder / "returns.md", RETURNS)
    write_text(folder / "hours.md", HOURS)
    return folder


def test_documents_are_added_found_listed_and_removed(documents: Path) -> None:
    done = brogue_inside("knowledge", "add", "reed", str(documents))
    assert (done.returncode, done.stdout) == (0, "reed: 2 new; 3 passages\n"), done.stderr
    again = brogue_inside("knowledge", "add", "reed", str(documents), "--json")
    assert json.loads(again.stdout)["files"] == {"unchanged": 2}
    found = brogue_inside("knowledge", "search", "reed", "Until when can I send a plant back?", "--limit", "2")
    assert "policy/returns.md" in found.stdout.splitlines()[1]
    assert "the assistant answers" in found.stdout
    assert "ms: embed" in found.stdout
    silent = brogue_inside("knowledge", "search", "reed", "Who won the 1966 football world cup?", "--json")
    assert json.loads(silent.stdout)["declined"] is True
    assert "reed  2          3         all-minilm-l6-v2  english" in brogue_inside("knowledge", "list").stdout
    listed = json.loads(brogue_inside("knowledge", "list", "reed", "--json").stdout)
    assert [(one["source"], one["passages"]) for one in listed] == [("policy/hours.md", 1), ("policy/returns.md", 2)]
    removed = brogue_inside("knowledge", "remove", "reed", "policy/hours.md")
    assert removed.stdout == "reed: 1 passages removed, 2 left\n"
    assert brogue_inside("knowledge", "reindex", "reed").stdout == "reed: 2 passages indexed with all-minilm-l6-v2\n"
    assert brogue_inside("knowledge", "remove", "reed", "--all").stdout == "reed: 2 passages removed, 0 left\n"
    assert json.loads(brogue_inside("knowledge", "list", "--json").stdout) == []


def test_what_is_gone_from_a_folder_goes_with_sync(documents: Path) -> None:
    brogue_inside("knowledge", "add", "reed", str(documents))
    (documents / "hours.md").unlink()
    kept = brogue_inside("knowledge", "add", "reed", str(documents))
    assert "to remove them add --sync" in kept.stderr
    gone = brogue_inside("knowledge", "add", "reed", str(documents), "--sync")
    assert gone.stdout == "reed: 1 unchanged, 1 gone; 2 passages\n"


def test_a_file_that_cannot_be_read_is_a_line_and_the_rest_goes_in(documents: Path) -> None:
    (documents / "empty 🌱.pdf").touch()
    done = brogue_inside("knowledge", "add", "reed", str(documents))
    assert (done.returncode, done.stdout) == (0, "reed: 3 new, 1 left out; 3 passages\n")
    assert sum("empty 🌱.pdf: " in line for line in done.stderr.splitlines()) == 1


def test_where_nothing_could_be_read_nothing_is_left_behind(documents: Path, home: Home) -> None:
    empty = documents / "nothing"
    empty.mkdir()
    done = brogue_inside("knowledge", "add", "reed", str(empty))
    assert done.returncode == 1
    assert "no documents in this folder (empty)" in done.stderr
    assert not (home.root / "knowledge" / "reed").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("add", "rede", "."), "no assistant 'rede'; have: fern, reed."),
        (("add", "fern", "."), "'fern' answers from the documents of 'reed'"),
        (("search", "reed", "Hello?"), "have: none yet. Add documents: brogue knowledge add reed PATH"),
        (("list", "reed"), "no knowledge 'reed'"),
        (("remove", "reed"), "wanted names of documents, or --all"),
        (("remove", "reed", "a.md"), "no knowledge 'reed'"),
        (("reindex", "reed"), "no knowledge 'reed'"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_says_what_to_type(home: Home, words: list[str], line: str) -> None:
    add_assistant(home, "reed", "description: Reed.")
    add_assistant(home, "fern", "knowledge: {use: reed}")
    done = brogue_inside("knowledge", *words)
    assert (done.returncode, done.stderr.count("brogue: ")) == (1, 1)
    assert line in done.stderr


def test_a_document_that_is_not_there_cannot_be_removed(documents: Path) -> None:
    brogue_inside("knowledge", "add", "reed", str(documents))
    done = brogue_inside("knowledge", "remove", "reed", "hours")
    assert done.returncode == 1
    assert "no document 'hours'; have: policy/hours.md, policy/returns.md" in done.stderr


def test_another_embedding_model_is_noticed_and_reindex_offered(documents: Path, home: Home) -> None:
    brogue_inside("knowledge", "add", "reed", str(documents))
    write_text(home.settings_file, '[knowledge]\nlanguage = "german"\n')
    done = brogue_inside("knowledge", "search", "reed", "How long?")
    assert "brogue knowledge reindex reed" in done.stderr
    assert brogue_inside("knowledge", "reindex", "reed").returncode == 0
    assert brogue_inside("knowledge", "search", "reed", "How long?").returncode == 0


def test_the_threshold_below_which_an_assistant_declines_is_found_from_questions(documents: Path) -> None:
    brogue_inside("knowledge", "add", "reed", str(documents))
    inside, outside = documents.parent / "inside.txt", documents.parent / "outside.txt"
    write_text(inside, "Until when can I send a plant back?\nWhen does the shop open?\n\nWhat if it is damaged?\n")
    write_text(outside, "Who won the 1966 world cup?\nWhat is the capital of France?\n")
    words = ("knowledge", "calibrate", "reed", "--inside", str(inside), "--outside", str(outside))
    done = brogue_inside(*words)
    assert done.stdout.startswith("100% of the inside questions are answered, 100% of the outside ones declined")
    assert "\nknowledge:\n  decline_by: cosine\n  decline_below: 0." in done.stdout
    assert json.loads(brogue_inside(*words, "--json").stdout)["answerable"] == 3
    write_text(outside, "\n")
    assert "no questions in it; wanted one a line" in brogue_inside(*words).stderr
    outside.unlink()
    assert "cannot be read" in brogue_inside(*words).stderr
