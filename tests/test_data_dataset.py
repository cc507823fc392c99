"""Datasets are split by their questions, written whole, and refused rather than overwritten."""

from collections.abc import Iterable, Iterator

import pytest

from data.dataset import Row, Step, iter_rows, list_datasets, load_card, load_rows, make_rows, rewrite, save_dataset
from data.errors import BrogueError, DataError, UnknownName
from data.home import Home
from data.records import ChatRecord, InstructionRecord, Message, assign_split

SHARES = (80, 10, 10)


def records(count: int) -> list[InstructionRecord]:
    return [InstructionRecord(prompt=f"question {n}", response=f"answer {n}") for n in range(count)]


def save(home: Home, name: str, count: int = 10, replace: bool = False) -> str:
    return save_rows(home, name, make_rows(records(count), SHARES), replace)


def save_rows(home: Home, name: str, rows: Iterable[Row], replace: bool = False) -> str:
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


def test_rows_keep_whose_they_are_and_what_they_were_made_of(home: Home) -> None:
    [plain, other] = make_rows(records(2), (100, 0, 0))
    known = plain.model_copy(
        update={"group": "c-7", "subject": "ada", "response_ids": ("r1", "r2"), "synthetic_of": other.id}
    )
    save_rows(home, "one", [known, other])
    assert load_rows(home, "one") == [known, other]
    first, second = (home.datasets / "one" / "records.jsonl").read_text(encoding="utf-8").splitlines()
    assert '"subject":"ada"' in first
    assert "null" not in second


def test_a_row_that_a_model_made_is_refused_outside_train(home: Home) -> None:
    row = make_rows(records(1), SHARES)[0].model_copy(update={"split": "test", "synthetic_of": "a" * 12})
    with pytest.raises(DataError, match="may stand in train only, not in test"):
        save_rows(home, "one", [row])
    assert list(home.datasets.iterdir()) == []


def test_rows_are_written_as_they_come_and_a_fault_leaves_nothing(home: Home) -> None:
    def rows() -> Iterator[Row]:
        yield from make_rows(records(3), SHARES)
        raise DataError("line 4 is broken")

    save(home, "kept")
    for name, replace in (("new", False), ("kept", True)):
        with pytest.raises(DataError, match="line 4"):
            save_rows(home, name, rows(), replace)
    assert [path.name for path in home.datasets.iterdir()] == ["kept"]
    assert len(load_rows(home, "kept")) == 10


def test_a_dataset_can_be_rewritten_in_place_while_it_is_read(home: Home) -> None:
    save(home, "one", 30)
    counted: list[str] = []

    def half() -> Iterator[Row]:
        for n, row in enumerate(iter_rows(home, "one")):
            if n % 2:
                counted.append(row.id)
                yield row

    card = rewrite(home, load_card(home, "one"), half(), lambda: Step(name="half", counts={"kept": len(counted)}))
    assert card.steps[-1].counts == {"kept": 15}
    assert len(load_rows(home, "one")) == 15


def test_what_a_killed_writer_left_is_mended_by_the_next(home: Home) -> None:
    save(home, "one", 10)
    (home.datasets / "one").rename(home.datasets / ".old.one")  # killed between the two renames
    unfinished = home.datasets / ".new.two.abc"
    unfinished.mkdir()
    (unfinished / "records.jsonl").write_text("half a ro")
    assert [card.name for card in list_datasets(home)] == ["one"]
    assert len(load_rows(home, "one")) == 10
    assert [path.name for path in home.datasets.iterdir()] == ["one"]


def test_of_two_writers_of_one_name_the_later_is_refused_and_disturbs_nothing(home: Home) -> None:
    def slow() -> Iterator[Row]:
        yield from make_rows(records(5), SHARES)
        save(home, "one", 20)  # meanwhile
        yield from make_rows(records(6)[5:], SHARES)

    with pytest.raises(BrogueError, match="exists already"):
        save_rows(home, "one", slow())
    assert len(load_rows(home, "one")) == 20
    assert [path.name for path in home.datasets.iterdir()] == ["one"]
