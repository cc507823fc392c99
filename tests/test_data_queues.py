"""Raters' queues in the store, on SQLite and on PostgreSQL alike: who gets what, and that nothing said is lost."""

import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from data import store_queue_claims, store_queues
from data.dataset import make_rows, save_dataset
from data.errors import BrogueError, DataError, UnknownName
from data.home import Home
from data.judgements import Comparison, Ranking, Response, StoredJudgement, Wanted
from data.queue_prompts import gather
from data.queues import Arm, NewQueue, Prompt, Queue, QueueRules, Said, Turn
from data.records import AnyRecord, ChatRecord, InstructionRecord, LabelledRecord, Message, PreferenceRecord
from data.store import NotYours, Store
from data.store_queues import Queues
from data.store_schema import AnswerRow, TaskRow

pytest_plugins = ["tests.databases"]


@pytest.fixture
def queues(store: Store) -> Queues:
    return Queues(store)


def prompt(text: str, **fields: Any) -> Prompt:
    return Prompt(messages=({"role": "user", "content": text},), **fields)


def make(queues: Queues, count: int, arms: int = 3, **rules: Any) -> Queue:
    """The queue `q` of so many prompts: no overlap and no repeats unless it is said."""
    given: dict[str, Any] = {"overlap": 0, "repeat": 0, **rules}
    new = QueueRules(name="q", arms=tuple(Arm(model=f"arm{number}") for number in range(arms)), **given)
    return queues.create(new, [prompt(f"question {number}") for number in range(count)])


def answer(queues: Queues, store: Store, turn: Turn, rater: str) -> Turn:
    """The turn with all its answers there."""
    task = queues.task(turn.id, rater)
    for slot in task.slots:
        if slot.response_id is None:
            id = f"{task.id}-{slot.number}"
            store.add_response(Response(id=id, version=slot.arm.model, text=f"by {slot.number}", subject=task.subject))
            queues.set_answers(task.id, {slot.number: id})
    return queues.turn(turn.id, rater)


def taken(queues: Queues, rater: str) -> Turn:
    turn = queues.next("q", rater)
    assert turn is not None
    return turn


def judge(queues: Queues, store: Store, rater: str, **said: Any) -> tuple[Turn, StoredJudgement]:
    """The rater's next turn, answered and judged."""
    turn = answer(queues, store, taken(queues, rater), rater)
    return turn, queues.judge(turn.id, rater, Said(**said or {"ranks": (0, 1, 2)}))


def asked(turn: Turn | None) -> str:
    return "" if turn is None else str(turn.messages[-1]["content"])


def all_of(queues: Queues, store: Store, rater: str) -> list[str]:
    """The questions of all turns that the rater gets, each judged."""
    questions = []
    while queues.next("q", rater) is not None:
        questions.append(asked(judge(queues, store, rater)[0]))
    return questions


def test_a_turn_tells_nothing_of_its_arms_and_comes_back_until_it_is_ended(queues: Queues, store: Store) -> None:
    make(queues, 2)
    turn = taken(queues, "ann")
    assert (turn.queue, turn.kind, asked(turn)) == ("q", "ranking", "question 0")
    assert [(shown.position, shown.response_id, shown.text) for shown in turn.answers] == [
        (0, None, None), (1, None, None), (2, None, None),
    ]  # fmt: skip
    assert queues.next("q", "ann") == queues.turn(turn.id, "ann") == turn
    answered = answer(queues, store, turn, "ann")
    assert queues.next("q", "ann") == answered
    by_number = [slot.number for slot in queues.task(turn.id, "ann").slots]
    assert [shown.text for shown in answered.answers] == [f"by {number}" for number in by_number]
    assert "arm" not in answered.model_dump_json()
    queues.judge(turn.id, "ann", Said(ranks=(0, 1, 1)))
    assert asked(queues.next("q", "ann")) == "question 1"


def test_arms_are_shown_in_an_order_of_each_turns_own(queues: Queues) -> None:
    make(queues, 12, arms=4, overlap=1, raters=2)
    orders = set()
    for rater in ("ann", "bob"):
        for _ in range(12):
            turn = taken(queues, rater)
            orders.add(tuple(slot.number for slot in queues.task(turn.id, rater).slots))
            queues.skip(turn.id, rater)
    assert len(orders) > 6
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders)


def test_shared_tasks_go_to_several_raters_and_the_others_to_one(queues: Queues, store: Store) -> None:
    assert make(queues, 6, overlap=0.5, raters=2).open == 6
    first, second, third = (all_of(queues, store, rater) for rater in ("ann", "bob", "eve"))
    assert len(first) == len(set(first)) == 6 and len(second) == 3 and third == []
    assert set(second) < set(first)
    done = queues.get("q")
    assert (done.tasks, done.done, done.open, done.by_rater) == (6, 6, 0, {"ann": 6, "bob": 3})
    assert len(store.responses()) == 6 * 3  # each arm was asked once


def test_a_task_that_is_left_alone_goes_to_others_after_half_an_hour(
    queues: Queues, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(queues, 1)
    anns = answer(queues, store, taken(queues, "ann"), "ann")
    assert queues.next("q", "bob") is None
    later = datetime.now(UTC) + timedelta(minutes=31)
    for module in (store_queues, store_queue_claims):
        monkeypatch.setattr(module, "now", lambda: later)
    assert asked(queues.next("q", "bob")) == "question 0"
    queues.judge(anns.id, "ann", Said(ranks=(0, 1, 2)))  # and the first one may still end it
    assert judge(queues, store, "bob")[0].id != anns.id
    assert len(store.judgements()) == 2


def test_some_tasks_come_back_once_after_five_others_or_at_the_end(queues: Queues, store: Store) -> None:
    made = make(queues, 8, repeat=0.25)
    assert queues.progress("q", "ann").of == 10 and made.tasks == 8
    questions = all_of(queues, store, "ann")
    twice = [question for question, count in Counter(questions).items() if count == 2]
    assert len(questions) == 10 and len(twice) == 2
    for question in twice:
        first, second = (place for place, asked in enumerate(questions) if asked == question)
        assert second - first > 5 or set(questions[second:]) <= set(twice)
    assert queues.get("q").by_rater == {"ann": 10}
    assert all_of(queues, store, "bob") == []


def test_a_rater_is_told_how_far_they_are(queues: Queues, store: Store) -> None:
    make(queues, 4)
    assert queues.progress("q", "ann").model_dump() == {"done": 0, "of": 4, "seconds_left": None}
    judge(queues, store, "ann", ranks=(0, 1, 2), seconds=10)
    assert queues.progress("q", "ann").model_dump() == {"done": 1, "of": 4, "seconds_left": 30}
    queues.skip(taken(queues, "ann").id, "ann", "two\nlines")
    taken(queues, "ann")
    assert queues.progress("q", "ann").model_dump() == {"done": 2, "of": 4, "seconds_left": 20}
    assert queues.progress("q", "bob").model_dump() == {"done": 0, "of": 2, "seconds_left": None}  # ann has one open


def test_what_is_said_becomes_a_judgement_by_the_positions_shown(queues: Queues, store: Store) -> None:
    make(queues, 1)
    turn, kept = judge(
        queues, store, "ann", ranks=(1, 0, 1), all_bad=True, reasons=("wrong",), comment="<b>", seconds=4
    )
    shown = tuple(answer.response_id for answer in turn.answers)
    assert kept.judgement == Ranking(
        id=kept.judgement.id, rater="ann", shown=shown, ranks=(1, 0, 1), all_bad=True, reasons=("wrong",),
        comment="<b>", seconds=4,
    )  # fmt: skip
    assert store.judgements() == [kept]


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ({"verdict": "second"}, "second"),
        ({"verdict": "both-bad", "all_bad": True}, "both-bad"),
        ({"verdict": "tie", "all_bad": True}, "both-bad"),
        ({"ranks": (0, 1)}, "first"),
        ({"ranks": (1, 0)}, "second"),
        ({"ranks": (0, 0)}, "tie"),
        ({"ranks": (0, 0), "all_bad": True}, "both-bad"),
    ],
)
def test_two_answers_are_compared(home: Home, said: dict[str, Any], verdict: str) -> None:
    store = Store.open(home)
    queues = Queues(store)
    make(queues, 1, arms=2)
    turn, kept = judge(queues, store, "ann", **said)
    assert turn.kind == "comparison"
    assert isinstance(kept.judgement, Comparison) and kept.judgement.verdict == verdict
    store.close()


@pytest.mark.parametrize(
    ("arms", "said", "line"),
    [
        (3, {"ranks": (0, 1)}, "3 answers, but 2 ranks"),
        (3, {"ranks": (0, 2, 3)}, "wanted 0 for the best and no gaps"),
        (3, {"verdict": "tie"}, "3 answers want ranks, 0 for the best; found verdict 'tie'"),
        (2, {"ranks": (0, 1, 2)}, "2 answers, but 3 ranks"),
        (2, {"verdict": "first", "all_bad": True}, "either one is better or both are bad"),
        (3, {"ranks": (0, 1, 2), "comment": "x" * 1_000_000}, "the comment has 1,000,000 characters"),
    ],
)
def test_what_makes_no_sense_is_refused_and_the_turn_stays_open(
    home: Home, arms: int, said: dict[str, Any], line: str
) -> None:
    store = Store.open(home)
    queues = Queues(store)
    make(queues, 1, arms)
    turn = answer(queues, store, taken(queues, "ann"), "ann")
    with pytest.raises(BrogueError, match=line) as caught:
        queues.judge(turn.id, "ann", Said(**said))
    assert "\n" not in str(caught.value)
    assert store.judgements() == [] and queues.next("q", "ann") == turn
    store.close()


def test_either_ranks_or_a_verdict_is_said() -> None:
    with pytest.raises(ValidationError, match="wanted either ranks or a verdict; found none"):
        Said()
    with pytest.raises(ValidationError, match="wanted either ranks or a verdict; found both"):
        Said(ranks=(0, 1), verdict="tie")


def test_the_same_sent_again_is_acknowledged_and_something_else_refused(queues: Queues, store: Store) -> None:
    make(queues, 1)
    turn, kept = judge(queues, store, "ann", ranks=(0, 1, 2), seconds=3)
    assert queues.judge(turn.id, "ann", Said(ranks=(0, 1, 2), seconds=5)) == kept
    with pytest.raises(BrogueError, match="this turn is judged already, in another way; undo that first"):
        queues.judge(turn.id, "ann", Said(ranks=(1, 0, 2)))
    with pytest.raises(BrogueError, match="this turn is judged already; undo that first"):
        queues.skip(turn.id, "ann")
    assert store.judgements() == [kept]


def test_a_judgement_is_undone_and_the_turn_comes_first_again(queues: Queues, store: Store) -> None:
    make(queues, 3)
    turn, kept = judge(queues, store, "ann")
    taken(queues, "ann")
    assert queues.undo(turn.id, "ann") == queues.next("q", "ann") == turn
    assert store.judgements() == [] and queues.get("q").done == 0
    again = queues.judge(turn.id, "ann", Said(ranks=(2, 1, 0)))
    assert again.judgement.id != kept.judgement.id
    assert asked(queues.next("q", "ann")) == "question 1"
    assert len(store.judgements(Wanted(taken_back=True))) == 2


def test_a_skipped_turn_goes_to_others_and_can_be_undone(queues: Queues, store: Store) -> None:
    make(queues, 1)
    turn = answer(queues, store, taken(queues, "ann"), "ann")
    queues.skip(turn.id, "ann", "I do not know the shop")
    queues.skip(turn.id, "ann")
    assert queues.next("q", "ann") is None
    with pytest.raises(BrogueError, match="this turn was skipped or taken back; undo that first"):
        queues.judge(turn.id, "ann", Said(ranks=(0, 1, 2)))
    assert queues.undo(turn.id, "ann") == turn == queues.next("q", "ann")
    assert queues.next("q", "bob") is None
    queues.skip(turn.id, "ann")
    assert asked(queues.next("q", "bob")) == "question 0"


def test_a_judgement_that_is_taken_back_by_its_id_leaves_the_task_to_others(queues: Queues, store: Store) -> None:
    make(queues, 1)
    turn, kept = judge(queues, store, "ann")
    store.take_back(kept.judgement.id, "ann")
    assert queues.next("q", "ann") is None and queues.get("q").done == 0
    assert asked(queues.next("q", "bob")) == "question 0"
    queues.undo(turn.id, "ann")
    queues.judge(turn.id, "ann", Said(ranks=(0, 1, 2)))


def test_of_two_answers_of_an_arm_the_first_one_counts_and_all_must_be_there(queues: Queues, store: Store) -> None:
    make(queues, 1)
    turn = taken(queues, "ann")
    task = queues.task(turn.id, "ann")
    for id in ("r1", "r2", "r3"):
        store.add_response(Response(id=id, version="base", text=f"says {id}"))
    queues.set_answers(task.id, {0: "r1"})
    queues.set_answers(task.id, {0: "r2", 2: "r3"})
    there = {slot.number: slot.response_id for slot in queues.task(turn.id, "ann").slots}
    assert there == {0: "r1", 1: None, 2: "r3"}
    missing = next(slot.position for slot in task.slots if slot.number == 1) + 1
    with pytest.raises(BrogueError, match=f"answer {missing} of 3 is not there yet; ask for the answers again"):
        queues.judge(turn.id, "ann", Said(ranks=(0, 1, 2)))
    with pytest.raises(UnknownName, match="no response 'r\ufffd' in the store"):
        queues.set_answers(task.id, {1: "r\x00"})
    with pytest.raises(UnknownName, match="no response 'r9' in the store"):
        queues.set_answers(task.id, {1: "r9"})
    with pytest.raises(BrogueError, match="queue 'q' has arms 0 to 2; found an answer of arm 3"):
        queues.set_answers(task.id, {3: "r2"})


def test_another_raters_turn_is_nobody_elses_and_what_is_not_there_is_named(queues: Queues) -> None:
    make(queues, 1)
    turn = taken(queues, "ann")
    said = Said(ranks=(0, 1, 2))
    tries: list[Callable[[str], Any]] = [
        lambda id: queues.turn(id, "bob"), lambda id: queues.task(id, "bob"), lambda id: queues.judge(id, "bob", said),
        lambda id: queues.skip(id, "bob"), lambda id: queues.undo(id, "bob"),
    ]  # fmt: skip
    for attempt in tries:
        with pytest.raises(NotYours, match="is another rater's"):
            attempt(turn.id)
        with pytest.raises(UnknownName, match="no turn 'turn-\ufffd9'"):
            attempt("turn-\x009")
    for ask in (lambda: queues.next("r\x00", "ann"), lambda: queues.get("r"), lambda: queues.remove("r"),
                lambda: queues.progress("r", "ann")):  # fmt: skip
        with pytest.raises(UnknownName, match="no queue 'r.?'; have: q. Make one: brogue feedback queue"):
            ask()
    with pytest.raises(UnknownName, match="no task 'task-9'"):
        queues.set_answers("task-9", {})
    with pytest.raises(BrogueError, match="there is a queue 'q' already"):
        make(queues, 1)


def test_a_rater_may_see_what_a_turn_of_theirs_shows(queues: Queues, store: Store) -> None:
    make(queues, 2)
    response = answer(queues, store, taken(queues, "ann"), "ann").answers[0].response_id
    assert response is not None
    assert queues.may_see("ann", response) and not queues.may_see("bob", response)
    assert not queues.may_see("ann", "r\x00")


def test_a_queue_is_removed_and_its_judgements_stay(queues: Queues, store: Store) -> None:
    make(queues, 2)
    turn, kept = judge(queues, store, "ann")
    taken(queues, "bob")
    queues.remove("q")
    assert queues.all() == [] and store.judgements() == [kept]
    with pytest.raises(UnknownName, match="its queue may have been removed"):
        queues.turn(turn.id, "ann")
    make(queues, 1)
    assert [queue.name for queue in queues.all()] == ["q"]


def test_forget_takes_a_persons_turns_and_the_prompts_with_their_words(queues: Queues, store: Store) -> None:
    rules = QueueRules(name="q", arms=(Arm(model="a"), Arm(model="b")), overlap=1, raters=2, repeat=0)
    queues.create(rules, [prompt("zelda's question", subject="zelda"), prompt("a question", topic="returns")])
    for rater in ("zelda", "eve"):
        for _ in range(2):
            judge(queues, store, rater, verdict="tie")
    there = store.of_person("zelda")
    assert (there.turns, there.tasks, len(there.responses), len(there.judgements)) == (3, 1, 2, 3)
    assert store.forget("zelda") == there
    assert (store.of_person("zelda").turns, store.of_person("zelda").tasks) == (0, 0)
    left = queues.get("q")
    assert (left.tasks, left.done, left.by_rater) == (1, 0, {"eve": 1})
    assert asked(queues.next("q", "bob")) == "a question"


def test_a_queue_keeps_words_as_the_logging_says(home: Home, url: str) -> None:
    shut = Store.open(home, url, "off")
    with pytest.raises(BrogueError, match="logging is 'off'; set it to 'full' or 'redacted'"):
        make(Queues(shut), 1)
    shut.close()
    store = Store.open(home, url, "redacted", lambda texts: [text.replace("question", "[WORD]") for text in texts])
    make(Queues(store), 1)
    assert asked(Queues(store).next("q", "ann")) == "[WORD] 0"
    store.close()


ARMS = (Arm(model="a"), Arm(model="b"))


def test_prompts_of_a_dataset_are_its_questions_each_once(home: Home) -> None:
    store = Store.open(home)
    hello, again = Message(role="user", content="Hello there"), Message(role="user", content=" hello  THERE")
    yes, system = Message(role="assistant", content="Yes."), Message(role="system", content="Be kind.")
    kinds: dict[str, list[AnyRecord]] = {
        "talk": [ChatRecord(messages=(system, hello, yes)), ChatRecord(messages=(again, yes)),
                 ChatRecord(messages=(hello, yes, again, yes))],
        "told": [InstructionRecord(prompt="Hello there", response="Yes.")],
        "pairs": [PreferenceRecord(messages=(hello,), chosen="Yes.", rejected="No.")],
        "words": [LabelledRecord(text="Hello there", label="greeting")],
    }  # fmt: skip
    for name, records in kinds.items():
        rows = [row.model_copy(update={"subject": "ann"}) for row in make_rows(records, (100, 0, 0))]
        save_dataset(home, name, rows, "made", "0", {}, None)

    def found(**source: Any) -> list[Prompt]:
        return gather(home, store, NewQueue.model_validate({"name": "q", "arms": ARMS, "dataset": source}))

    talk = found(name="talk")
    assert [[message["role"] for message in one.messages] for one in talk] == [
        ["system", "user"], ["user", "assistant", "user"],
    ]  # fmt: skip
    assert {one.subject for one in talk} == {"ann"}
    assert len(found(name="talk", split="train", limit=1)) == 1
    for name in ("told", "pairs", "words"):
        assert [one.messages for one in found(name=name)] == [({"role": "user", "content": "Hello there"},)]
    with pytest.raises(DataError, match="dataset 'talk' has no questions in its split test"):
        found(name="talk", split="test")
    with pytest.raises(UnknownName, match="no dataset 'other'; have: pairs, talk, told, words"):
        found(name="other")
    store.close()


def test_prompts_of_live_traffic_are_what_people_asked_with_whose_words_they_are(home: Home) -> None:
    store = Store.open(home)
    asked = ("Where is it?", "where  is it?", "Who are you?", "")
    for minute, text in enumerate(asked):
        store.add_response(Response(
            id=f"r{minute}", version="v@1", assistant="shop", messages=({"role": "user", "content": text},),
            subject=f"person-{minute}", topic="parcels", created=datetime(2026, 3, 1, 12, minute, tzinfo=UTC),
        ))  # fmt: skip
    store.add_response(Response(id="x", version="v@1", assistant="desk", messages=({"role": "user", "content": "?"},)))

    def found(**source: Any) -> list[tuple[str, str | None]]:
        new = NewQueue.model_validate({"name": "q", "arms": ARMS, "traffic": {"assistant": "shop", **source}})
        prompts = gather(home, store, new)
        assert {one.topic for one in prompts} == {"parcels"}
        return [(str(one.messages[0]["content"]), one.subject) for one in prompts]

    assert found() == [("Who are you?", "person-2"), ("where  is it?", "person-1")]
    assert found(limit=1) == [("Who are you?", "person-2")]
    assert found(since="2026-03-01T12:02:00Z") == [("Who are you?", "person-2")]
    with pytest.raises(DataError, match="nobody has asked 'shop' anything that was kept since 2027-01-01"):
        found(since="2027-01-01T00:00:00Z")
    store.close()


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({}, "wanted one of prompts, dataset and traffic; found none"),
        ({"prompts": [{"messages": [{"role": "user", "content": "?"}]}], "dataset": {"name": "d"}},
         "found prompts and dataset"),
        ({"prompts": [{"messages": [{"role": "assistant", "content": "?"}]}]}, "last message is the user's"),
        ({"dataset": {"name": "d"}, "arms": [{"model": "a"}]}, "at least 2 items"),
        ({"dataset": {"name": "d"}, "name": "../q"}, "should match pattern"),
    ],
)  # fmt: skip
def test_a_queue_that_cannot_be_is_refused(given: dict[str, Any], line: str) -> None:
    with pytest.raises(ValidationError, match=line):
        NewQueue.model_validate({"name": "q", "arms": ARMS, **given})


def _rate(home: Home, url: str, acknowledged: Path, rater: str) -> None:
    """One process: judges turns until there are none, and writes down each judgement once it was acknowledged."""
    store = Store.open(home, url)
    queues = Queues(store)
    log = os.open(acknowledged, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    while (turn := queues.next("q", rater)) is not None:
        ranks = ((0, 1, 2), (2, 1, 0), (0, 0, 1))[int(asked(turn).split()[-1]) % 3]
        kept = queues.judge(turn.id, rater, Said(ranks=ranks))
        os.write(log, f"{kept.judgement.id} {rater} {asked(turn).split()[-1]} {ranks}\n".encode())


@pytest.mark.slow
def test_raters_in_several_processes_share_a_queue_while_they_are_killed(home: Home, url: str, tmp_path: Path) -> None:
    store = Store.open(home, url)
    queues, tasks = Queues(store), 80
    for id in ("r1", "r2", "r3"):
        store.add_response(Response(id=id, version=id, text=id))
    make(queues, tasks, overlap=0.5, raters=3)
    with store.writing() as session:
        for task in session.query(TaskRow):
            session.add_all(AnswerRow(task_id=task.id, number=n, response_id=f"r{n + 1}") for n in range(3))
    store.close()
    fork, log = multiprocessing.get_context("fork"), tmp_path / "acknowledged"

    def start(number: int) -> Any:
        process = fork.Process(target=_rate, args=(home, url, log, f"rater-{number}"))
        process.start()
        return process

    writers, kills = [start(number) for number in range(5)], 0
    deadline = time.monotonic() + 120
    while any(writer.is_alive() for writer in writers) and time.monotonic() < deadline:
        time.sleep(0.1)
        if writers[kills % 5].is_alive():
            writers[kills % 5].kill()
            writers[kills % 5].join()
            writers[kills % 5] = start(kills % 5)
            kills += 1
        if kills == 6:
            for writer in writers:
                writer.join(deadline - time.monotonic())
    assert [writer.exitcode for writer in writers] == [0] * 5 and kills >= 5
    told = [line.split(" ", 3) for line in log.read_text().splitlines()]
    store = Store.open(home, url)
    found = {kept.judgement.id: kept.judgement for kept in store.judgements()}
    done = Queues(store).get("q")
    store.close()
    print(f"{len(told)} acknowledged, {len(found)} in the store, {kills} raters killed")
    # Every task was judged by as many raters as it wanted, and by no more: 40 by three and 40 by one.
    assert (done.done, done.open, sum(done.by_rater.values()), len(found)) == (tasks, 0, 160, 160)
    assert len({(rater, question) for _, rater, question, _ in told}) == len(told)
    for id, rater, _, ranks in told:
        judgement = found[id]
        assert isinstance(judgement, Ranking) and (judgement.rater, str(judgement.ranks)) == (rater, ranks)
        assert sorted(judgement.shown) == ["r1", "r2", "r3"]
    assert len(found) - kills <= len(told) <= len(found)  # killed between the write and the word at most once each
