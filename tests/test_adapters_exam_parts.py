"""The pieces of an exam that need no gateway: which prompts moved, what is left out, what is kept, rewards."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters import exam_files, measures
from adapters.exam import reckoned, sit
from adapters.exam_asking import Gateway, Unreachable
from adapters.exam_kept import Kept, key_of
from adapters.exam_moved import most_moved
from adapters.exam_room import ExamRoom
from adapters.exam_statistics import measured
from adapters.exam_types import Arm, Item, Part, Room, Scores, Suite
from adapters.registry import Registry
from data.dataset import Row, save_dataset
from data.errors import BrogueError, DataError
from data.home import Home, write_text
from data.records import InstructionRecord, record_id
from tests import sample_exams
from tests.conftest import Run
from tests.exam_room import ScriptedRoom, card
from tests.fakes import add_version
from tests.test_adapters_exam_statistics import scores


def moved_items(count: int) -> list[Item]:
    return [Item(f"q{n}", {"version": f"new {n}", "against": f"old {n}", "base": "?"}) for n in range(count)]


def test_the_prompts_that_moved_most_are_named_each_way_once() -> None:
    before = np.zeros(30)
    after = np.arange(-15.0, 15.0)
    tokens = scores({"version": after * 9, "against": before}).parts
    longer = Scores("m.tokens", "tokens", "lower", tokens, moved_items(30))
    quality = scores({"version": after, "against": before, "base": before}, moved_items(30))
    better, worse = most_moved([longer, quality, quality._replace(name="m.twin")], "against")
    assert [one.prompt for one in better] == [f"q{n}" for n in range(29, 19, -1)]
    assert [one.prompt for one in worse] == [f"q{n}" for n in range(10)]
    assert better[0].scores == {"version": 14.0, "against": 0.0, "base": 0.0}
    assert better[0].answers["against"] == "old 29"
    turned, _ = most_moved([quality._replace(better="lower")], "against")
    assert turned[0].prompt == "q0"


def test_answers_that_are_the_same_did_not_move() -> None:
    items = [Item("q", {"version": "same", "against": "same"})] * 3
    assert most_moved([scores({"version": [1, 0, 1], "against": [0, 1, 0]}, items)], "against") == ((), ())


def test_what_a_part_cannot_measure_is_left_out_by_default_and_an_error_in_a_suite_of_ones_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(measures.MEASURES, "sound", "tests.test_adapters_exam_parts:sound")
    monkeypatch.setitem(measures.MEASURES, "faulty", "tests.test_adapters_exam_parts:faulty")
    monkeypatch.setitem(measures.MEASURES, "away", "tests.test_adapters_exam_parts:away")
    parts = (Part(measure="faulty"), Part(measure="sound"))
    found, left = sit(ScriptedRoom(), Suite(name="default", parts=parts), lambda _: None, lenient=True)
    assert ([one.name for one in found], left) == (["sound.x"], ["faulty: it holds no answers"])
    with pytest.raises(BrogueError, match=r"^part 'faulty' of suite 'mine': it holds no answers$"):
        sit(ScriptedRoom(), Suite(name="mine", parts=parts), lambda _: None)
    with pytest.raises(Unreachable, match="nobody there"):
        sit(ScriptedRoom(), Suite(name="default", parts=(Part(measure="away"),)), lambda _: None, lenient=True)


def sound(_room: Room, part: Part) -> list[Scores]:
    return [scores({"version": [1, 0]})._replace(name=f"{part.prefix}.x")]


def faulty(_room: Room, _part: Part) -> list[Scores]:
    raise DataError("it holds no answers")


def away(_room: Room, _part: Part) -> list[Scores]:
    raise Unreachable("nobody there")


def test_a_figure_that_is_none_is_told_from_one() -> None:
    nothing = scores({"version": [[0, 0], [0, 0]]}, [Item("a", slice="s"), Item("b", slice="s")])
    nothing = nothing._replace(value=lambda sums: np.full(len(sums), np.nan))
    found = measured(nothing, ("version",))
    assert not reckoned(found)
    assert found.slices == {}
    assert reckoned(measured(scores({"version": [1, 0]}), ("version",)))


def test_what_is_kept_survives_torn_lines_and_other_writers(home: Home) -> None:
    first, second = Kept(home), Kept(home)
    first.put("acme@1-0a", "one", {"text": "½ \ud83c"})
    with (home.root / "exams" / "kept" / "acme@1-0a.jsonl").open("ab") as file:
        file.write(b'["two", {"te')
    second.put("acme@1-0a", "three", [1.5])
    found = Kept(home)
    assert found.get("acme@1-0a", "one") == {"text": "½ \ud83c"}
    assert (found.get("acme@1-0a", "two"), found.get("acme@1-0a", "three")) == (None, [1.5])
    assert key_of("a", [1, {"b": 2, "a": 1}]) == key_of("a", [1, {"a": 1, "b": 2}])


def test_rewards_are_the_judges_and_are_asked_for_once(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Scorer:
        def score(self, _prompts: Sequence[Any], texts: Sequence[str]) -> list[float]:
            asked.extend(texts)
            return [float(len(text)) for text in texts]

    prompts = [[{"role": "user", "content": "Hello?"}]] * 3
    for _ in range(2):
        room = exam_room(home, {"version": add_version(home, "acme")}, card("judge@1", recipe="reward"))
        monkeypatch.setattr(room, "_scores", Scorer)
        assert room.rewards(prompts, ["a", "bb", "a"]) == [1.0, 2.0, 1.0]
    assert asked == ["a", "bb"]
    assert exam_room(home, {"version": Registry(home).card("acme", 1)}, None).rewards(prompts, ["a"] * 3) is None


def test_a_file_gives_lines_and_records_always_the_same_first(home: Home, tmp_path: Path) -> None:
    room = exam_room(home, {"version": card()}, None)
    lines = [f'{{"prompt": "Q{n}?", "response": "A{n}"}}\n' for n in range(20)]
    write_text(tmp_path / "there.jsonl", "".join(lines))
    write_text(tmp_path / "back.jsonl", "".join(reversed(lines)))
    there, back = (Part(measure="task", data=str(tmp_path / name), limit=5) for name in ("there.jsonl", "back.jsonl"))
    assert room.lines(there) == room.lines(back)
    assert [row.id for row in room.rows(there)] == [row.id for row in room.rows(back)]
    write_text(tmp_path / "there.jsonl", "[1]\n")
    with pytest.raises(DataError, match=r"there\.jsonl:1: wanted an object"):
        room.lines(there)
    with pytest.raises(BrogueError, match="the part 'task' wants a file of JSON lines; found answers"):
        room.lines(Part(measure="task", data="answers"))


def test_forgetting_a_person_removes_the_exams_that_quote_them_and_what_is_kept(home: Home, brogue: Run) -> None:
    for name, who in (("hers", "ann-4711"), ("others", None)):
        record = InstructionRecord(prompt=f"A question of {name}", response="Yes.")
        row = Row(id=record_id(record), split="test", record=record, subject=who)
        save_dataset(home, name, [row], f"{name}.csv", "0", {}, (0, 0, 100))
        suite = Suite(name="s", parts=(Part(measure="task", data=name),))
        exam_files.save(home, sample_exams.exam(id=f"reed-voice-2-{name}", suite=suite))
        Kept(home).put("reed-voice@2-0a", key_of(name), {"text": "An answer"})
    told = json.loads(brogue("data", "forget", "--subject", "ann-4711", "--json").stdout)
    assert told["exams"] == ["reed-voice-2-hers"]
    done = brogue("data", "forget", "--subject", "ann-4711", "--yes")
    assert done.returncode == 0, done.stderr
    assert "an exam that quotes a dataset with their records: reed-voice-2-hers" in done.stdout
    assert exam_files.ids(home) == ["reed-voice-2-others"]
    assert Kept(home).get("reed-voice@2-0a", key_of("others")) is None, "whose a kept answer is cannot be told"


def exam_room(home: Home, cards: dict[Arm, Any], judge: Any) -> ExamRoom:
    base: Any = None  # neither answers nor likelihoods are asked for
    return ExamRoom(home, base, cards, Gateway("http://nowhere", "key"), judge, 0, lambda _: None)
