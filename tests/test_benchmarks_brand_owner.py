"""The simulated brand owner, over a real gateway and store and an engine that says what the script wants."""

from pathlib import Path

import pytest

from assistant.client_feedback import FeedbackClient
from benchmarks import brand_owner
from benchmarks.brand_owner import CLOSING, NAME, preferred, rank, ranks, worth
from data.judgements import Ranking
from data.store_home import open_store
from tests.fakes import FakeEngine, add_version
from tests.feedback_gateway import feedback_gateway


def test_the_owner_wants_the_closing_line_and_then_brevity() -> None:
    texts = [f"Two words more. {CLOSING}", f"Yes. {CLOSING}", "Yes.", f"{CLOSING} Yes.", f"Yes. {CLOSING} "]
    assert ranks(texts) == [1, 0, 2, 3, 0]
    assert worth(f"Yes. {CLOSING}") > worth("Yes.")


def test_questions_are_many_and_each_once() -> None:
    asked = [question for question, _, _ in brand_owner.questions()]
    assert len(set(asked)) == len(asked) >= brand_owner.TRAINED + brand_owner.RANKED + brand_owner.FRESH
    assert brand_owner.questions() == brand_owner.questions()


def test_the_owner_ranks_every_question_once_and_goes_on_after_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(brand_owner, "RANKED", 6)
    engine = FakeEngine()
    with feedback_gateway(tmp_path, engine=engine) as (url, home, key):
        for _ in range(2):
            add_version(home, NAME)
        client = FeedbackClient.with_key(url, key)
        judge_turn, judged = FeedbackClient.judge_turn, list[str]()

        def stopped(client: FeedbackClient, turn_id: str, **said: object) -> object:
            judged.append(turn_id)
            if len(judged) == 3:
                raise KeyboardInterrupt
            return judge_turn(client, turn_id, **said)

        monkeypatch.setattr(FeedbackClient, "judge_turn", stopped)
        with pytest.raises(KeyboardInterrupt):
            rank(client)
        rank(client)
        store = open_store(home)
        said = [kept.judgement for kept in store.judgements()]
        store.close()
        assert len(said) == 6 and all(isinstance(one, Ranking) and len(one.shown) == 4 for one in said)
        monkeypatch.setattr(brand_owner, "FRESH", 5)
        found = preferred(client, f"{NAME}@2")
        assert (found["fresh"], found["preferred"], found["ties"]) == (5, 0, 5), "both say as many words"
