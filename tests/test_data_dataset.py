"""Datasets are split by their questions, written whole, and refused rather than overwritten."""

import pytest

from data.dataset import Step, list_datasets, load_card, load_rows, make_rows, rewrite, save_dataset
from data.errors import BrogueError, DataError, UnknownName
from data.home import Home
from data.records import ChatRecord, InstructionRecord, Message, assign_split

SHARES = (80, 10, 10)


def records(count: int) -> list[InstructionRecord]:
    return [InstructionRecord(prompt=f"question {n}", response=f"answer {n}") for n in range(count)]


def save(home: Home, name: str, count: int = 10, replace: bool = False) -> str:
    rows = make_rows(records(count), SHARES)
    return save_dataset(home, name, rows, "a.csv", "0" * 64, {"prompt": "q"}, SHARES, replace).digest


def test_what_was_saved_is_loaded_again(home: Home) -> None:
    save(home, "one", 30)
    rows = load_rows(home, "one")
    assert [row.record for row in rows] == records(30)
    assert sum(load_card(home, "one").records.values()) == 30


def test_the_same_question_is_in_the_same_split_whatever_its_case_and_answer() -> None:
    for n in range(200):
        one = InstructionRecord(prompt=f"Where is  order {n}", response="a")
        other = ChatRecord(
            messages=(
                Message(role="system", content="s"),
                Message(role="user", content=f"where is order {n} "),
                Message(role="assistant", content="b"),
            )
        )
        assert assign_split(one, SHARES) == assign_split(other, SHARES)


def test_the_split_comes_near_the_shares() -> None:
    """2,000 hashes: the share of train is within four standard deviations (0.9 percentage points each) of 80%."""
    splits = [assign_split(r, SHARES) for r in records(2000)]
    assert 0.764 < splits.count("train") / 2000 < 0.836
    assert splits.count("test") > 120


def test_importing_equal_content_again_gives_the_same_digest(home: Home) -> None:
    assert save(home, "one") == save(home, "two")


def test_an_existing_name_is_refused_unless_replaced(home: Home) -> None:
    save(home, "one", 10)
    with pytest.raises(BrogueError, match="exists already"):
        save(home, "one", 20)
    assert len(load_rows(home, "one")) == 10
    save(home, "one", 20, replace=True)
    assert len(load_rows(home, "one")) == 20
    assert [card.name for card in list_datasets(home)] == ["one"]


def test_an_unknown_dataset_is_answered_with_those_there_are(home: Home) -> None:
    save(home, "one")
    with pytest.raises(UnknownName, match="no dataset 'two'; have: one"):
        load_rows(home, "two")


@pytest.mark.parametrize("name", ["../x", "A", "", "a b", ".hidden"])
def test_a_name_that_cannot_be_a_folder_is_refused(home: Home, name: str) -> None:
    with pytest.raises(BrogueError, match="cannot name a dataset"):
        save(home, name)


def test_a_step_is_written_into_the_card_and_the_digest_follows_the_rows(home: Home) -> None:
    first = save(home, "one", 10)
    step = Step(name="dedupe", options={"near": True}, counts={"removed": 4})
    card = rewrite(home, load_card(home, "one"), load_rows(home, "one")[:6], step, "two")
    assert card == load_card(home, "two")
    assert card.steps == (step,)
    assert card.digest != first
    assert len(load_rows(home, "one")) == 10
    again = rewrite(home, card, load_rows(home, "two"), Step(name="split"))
    assert [s.name for s in again.steps] == ["dedupe", "split"]
    assert again.digest == card.digest


def test_a_step_that_leaves_no_rows_is_refused(home: Home) -> None:
    save(home, "one", 10)
    with pytest.raises(DataError, match="no rows are left"):
        rewrite(home, load_card(home, "one"), [], Step(name="dedupe"))
    assert len(load_rows(home, "one")) == 10
