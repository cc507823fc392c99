"""What the benchmarks of preferences and PPO make of records, answers and figures; what they measure is not run."""

from benchmarks.ppo import has_comma
from benchmarks.preferences import best, ranking, table
from data.exporting_shapes import pairs
from data.records import Message, PreferenceRecord, RankingRecord

WHY = (Message(role="user", content="Why?"),)


def test_a_preference_is_a_ranking_of_two_answers_and_a_tie_stays_one() -> None:
    told = PreferenceRecord(messages=WHY, chosen="So.", rejected="What?")
    made = RankingRecord.model_validate(ranking(told))
    assert list(pairs(made)) == list(pairs(told))
    tie = RankingRecord.model_validate(ranking(told.model_copy(update={"tie": True})))
    assert not list(pairs(tie))
    assert RankingRecord.model_validate(ranking(made)) == made


def test_the_best_answer_of_a_judged_record_is_what_a_version_is_trained_on_first() -> None:
    ranked = RankingRecord(messages=WHY, replies=("No.", "So.", "Who?"), ranks=(1, 0, 1))
    assert best(ranked)[-2:] == [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]


def test_the_reward_with_a_known_optimum_is_a_comma_behind_a_word() -> None:
    assert has_comma([], ["Tea, hot", "Tea", ", tea", ""]) == [1, 0, 0, 0]


def test_the_table_has_a_row_for_each_set() -> None:
    line = {
        "recipe": "reward", "set": "oasst", "pairs": 40, "records": 19.0, "accuracy": 0.6, "accuracy_low": 0.4,
        "accuracy_high": 0.8, "longer_accuracy": 0.7, "calibration_error": 0.05,
    }  # fmt: skip
    last = table([line]).splitlines()[-1]
    assert last == "| `reward` | oasst | 19 | 40 | 60.0% (40.0% to 80.0%) | 70.0% | 0.050 |"
