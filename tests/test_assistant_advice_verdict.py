"""The advisor's verdict: it recommends what is cheapest and good enough, and says so when the records do not tell."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assistant.advice_types import Family, Point, Recommendation, Result, Task
from assistant.advice_verdict import recommend
from tests.sample_arms import figures, tried, untried

FAMILIES: tuple[Family, ...] = ("prompt", "few-shot", "rag", "specialist", "fine-tuned", "fine-tuned")


def task(**more: Any) -> Task:
    return Task.model_validate(
        {"dataset": "tickets", "digest": "0", "kind": "labels", "metric": "accuracy", "floor": 0.25} | more
    )


def right(count: int, n: int, seed: int = 0) -> NDArray[np.float64]:
    """So many of n are right. Arms share their easy records: the better one's wrong ones are wrong for both, nearly."""
    easy = np.random.default_rng(99).permutation(n)
    own = np.random.default_rng(seed).permutation(n)
    rank = np.argsort(np.argsort(0.8 * easy + 0.2 * own))
    return (rank < count).astype(float)


def simulated(random: np.random.Generator, n: int, chances: Sequence[float]) -> list[Result]:
    """One arm of each family with its chance to be right; six in ten records are easy or hard for all alike."""
    luck = random.random(n)
    return [
        tried(f"arm-{number}", family, np.where(random.random(n) < 0.6, luck, random.random(n)) < chance)
        for number, (family, chance) in enumerate(zip(FAMILIES, chances, strict=True))
    ]


def said(found: Recommendation) -> str:
    return "\n".join((*found.words, *found.changes))


# --- the rules ---


def test_the_cheapest_arm_that_is_not_significantly_worse_than_the_best_is_recommended() -> None:
    found = recommend(task(), [
        tried("sft-lora", "fine-tuned", right(342, 400, 1)),
        tried("specialist", "specialist", right(340, 400, 2)),
        tried("prompt", "prompt", right(240, 400, 3)),
    ])  # fmt: skip
    assert (found.result, found.arm, found.best) == ("use", "specialist", "sft-lora")
    assert found.fine_tune == "not worth it"
    assert [one.worse for one in found.comparisons] == [True, False]
    assert found.words[0] == (
        "Use 'specialist' (the way specialist): accuracy 85.0% (81.2% to 88.2%; 400 records)."
    )  # fmt: skip
    assert "costs least of the 2 ways that may be the best" in found.words[1]
    assert "'prompt' does, which costs less: --target accuracy=0.55" in said(found)


def test_fine_tuning_is_worth_it_where_all_else_is_significantly_worse() -> None:
    found = recommend(task(), [
        tried("prompt", "prompt", right(100, 200, 1)), tried("nearest", "few-shot", right(130, 200, 2)),
        tried("sft-lora", "fine-tuned", right(180, 200, 3)),
    ])  # fmt: skip
    assert (found.result, found.arm, found.fine_tune) == ("use", "sft-lora", "worth it")
    assert "Nothing else has a higher figure, and all that costs less (2) is significantly worse." in found.words
    assert any(line.startswith("Fine-tuning is worth it here: the best such way") for line in found.words)
    assert "a gain of +25.0 percentage points" in said(found)


def test_upkeep_comes_before_tokens_and_tokens_before_minutes() -> None:
    same = right(190, 200)
    arms = [
        tried("few-shot", "few-shot", same), tried("long", "prompt", same, minutes=0.3, prompt_tokens=900),
        tried("slow", "prompt", same, minutes=3), tried("short", "prompt", same, minutes=0.4),
    ]  # fmt: skip
    for some, wanted in ((arms, "short"), (arms[:3], "slow"), (arms[:2], "long"), (arms[:1], "few-shot")):
        assert recommend(task(), some).arm == wanted


def test_of_what_has_to_be_kept_in_step_with_records_a_small_model_costs_less_than_passages_in_every_prompt() -> None:
    same = right(190, 200)
    found = recommend(task(), [
        tried("rag", "rag", same, prompt_tokens=900),
        tried("word-lr", "specialist", same, minutes=0.6, prompt_tokens=0, answer_tokens=0),
    ])  # fmt: skip
    assert found.arm == "word-lr"


def test_a_target_that_is_far_below_the_recommended_way_is_not_offered() -> None:
    found = recommend(task(floor=0.02), [
        tried("prompt", "prompt", right(60, 400, 3)), tried("sft-lora", "fine-tuned", right(342, 400, 1)),
    ])  # fmt: skip
    assert found.arm == "sft-lora"
    assert "is enough" not in said(found)


def test_a_target_is_met_by_the_cheapest_arm_whose_whole_interval_is_there() -> None:
    arms = [
        tried("prompt", "prompt", right(162, 200, 1)), tried("nearest", "few-shot", right(176, 200, 2)),
        tried("sft-lora", "fine-tuned", right(196, 200, 3)),
    ]  # fmt: skip
    found = recommend(task(), arms, target=0.8)
    assert (found.result, found.arm, found.best) == ("use", "nearest", "sft-lora")  # prompt: 81%, but 75% to 86%
    assert found.fine_tune == "not worth it"
    assert "surely meets the target of 80.0%" in found.words[1]
    assert "A higher target: 'sft-lora' is better by +10.0 percentage points" in said(found)


def test_a_target_that_no_arm_surely_meets_is_said_to_be_missed() -> None:
    arms = [tried("prompt", "prompt", right(100, 200, 1)), tried("sft-lora", "fine-tuned", right(180, 200, 2))]
    above, near, far = (recommend(task(), arms, target=target) for target in (0.87, 0.9, 0.97))
    assert (above.arm, near.arm, far.arm) == ("sft-lora", "sft-lora", "sft-lora")
    assert "No way surely meets the target of 87.0%; 'sft-lora' may: about 550 test records would probably tell." in (
        above.words
    )
    assert "No way surely meets the target of 90.0%; 'sft-lora' may." in near.words
    assert "No way meets the target of 97.0%: 'sft-lora' comes nearest." in far.words


def test_a_figure_of_which_less_is_better_is_turned_round() -> None:
    arms = [tried("prompt", "prompt", right(120, 200, 1)), tried("sft-lora", "fine-tuned", right(10, 200, 2))]
    found = recommend(task(better="lower", floor=0.9), arms, target=0.1)
    assert (found.arm, found.best, found.fine_tune) == ("sft-lora", "sft-lora", "worth it")
    assert found.comparisons[0].difference.value > 0  # as measured
    assert "a gain of +55.0 percentage points" in said(found)


def test_arms_that_were_not_measured_are_named_and_a_stopped_one_counts_against_fine_tuning() -> None:
    best = tried("prompt", "prompt", right(190, 200))
    stopped = untried("sft-lora", "fine-tuned", "stopped", "it could not win")
    left = untried("soft-prompt", "fine-tuned", "left out", "no time")
    failed = untried("rag", "rag", "failed", "no documents")
    found = recommend(task(), [best, stopped])
    assert found.fine_tune == "not worth it"
    assert "stopped, as it could not win" in said(found)
    found = recommend(task(), [best, left, failed])
    assert found.fine_tune == "cannot be told"
    assert "More time (--budget): 'soft-prompt' was not tried." in found.changes
    assert "'rag' failed: the report says why." in found.changes


def test_without_any_figure_nothing_is_recommended() -> None:
    found = recommend(task(), [untried("prompt", "prompt", "failed", "no engine")])
    assert (found.result, found.arm, found.best, found.fine_tune) == ("not enough evidence", None, None,
                                                                      "cannot be told")  # fmt: skip
    assert recommend(task(), []).arm is None


def test_an_arm_with_fewer_records_is_not_compared_and_is_named() -> None:
    found = recommend(task(), [tried("prompt", "prompt", right(190, 200)), tried("rag", "rag", right(190, 190))])
    assert (found.arm, found.comparisons) == ("prompt", ())
    assert "Fewer test records have 'rag': not compared." in found.words


def test_more_data_is_named_where_an_arm_that_learns_might_overtake() -> None:
    curve = tuple(
        Point(rows=rows, found=figures(right(count, 400)).main, minutes=1)
        for rows, count in ((50, 120), (100, 190), (200, 250), (400, 300))
    )
    learner = tried("sft-lora", "fine-tuned", right(300, 400, 1)).model_copy(update={"curve": curve})
    found = recommend(task(), [learner, tried("nearest", "few-shot", right(305, 400, 2))])
    assert [one.arm for one in found.growth] == ["sft-lora"]
    assert found.growth[0].twice.low > 0
    assert "With twice the training records 'sft-lora'" in said(found)


def test_the_same_figures_get_the_same_verdict() -> None:
    random = np.random.default_rng(1)
    arms = [tried(name, "prompt", random.beta(4, 2, 60)) for name in ("one", "two", "three")]
    assert recommend(task(), arms) == recommend(task(), list(reversed(arms)))


# --- honesty: what is simulated is known, and the verdict must not say more ---


def test_of_a_set_whose_labels_were_shuffled_it_says_that_nothing_works() -> None:
    random, verdicts = np.random.default_rng(2), Counter[str]()
    for _ in range(20):
        labels = random.choice(8, 120, p=[0.23, *[0.11] * 7])
        guesses = [np.zeros(120), *(random.permutation(labels) for _ in range(5))]
        arms = [
            tried(f"arm-{number}", family, guess == labels)
            for number, (family, guess) in enumerate(zip(FAMILIES, guesses, strict=True))
        ]
        found = recommend(task(floor=float(np.mean(labels == 0))), arms)
        verdicts[found.result] += 1
        if found.result == "nothing works":
            assert (found.arm, found.fine_tune) == (None, "not worth it")
            assert found.words[0] == "Nothing works: look at the data."
            assert "brogue data check tickets" in said(found)
    assert verdicts["nothing works"] >= 18, verdicts  # one in twenty may pass by chance


def test_answers_that_fit_other_records_as_well_do_not_work_however_high_they_score() -> None:
    scores = np.random.default_rng(3).beta(4, 4, 150)
    fits, bland = (tried("prompt", "prompt", scores, by_chance=by_chance) for by_chance in (0.3, 0.5))
    assert recommend(task(kind="words", metric="rouge_l"), [fits]).result == "use"
    assert recommend(task(kind="words", metric="rouge_l"), [bland]).result == "nothing works"


def test_where_there_was_time_for_a_prompt_only_the_records_are_not_blamed() -> None:
    left = untried("few-shot-nearest", "few-shot", "left out", "no time")
    found = recommend(task(floor=0.02), [tried("prompt", "prompt", right(1, 200)), left])
    assert (found.result, found.fine_tune) == ("not enough evidence", "cannot be told")
    assert "no time to train anything on half of the records" in said(found)
    assert "look at the data" not in said(found)
    assert "More time (--budget): 'few-shot-nearest' was not tried." in found.changes
    assert recommend(task(floor=0.02), [tried("prompt", "prompt", right(1, 200))]).result == "nothing works"


def test_where_weights_were_trained_on_a_few_of_the_records_only_these_are_not_blamed() -> None:
    def found(rows: int) -> Recommendation:
        lora = tried("sft-lora", "fine-tuned", right(2, 200))
        assert lora.ready is not None
        lora = lora.model_copy(update={"ready": lora.ready.model_copy(update={"rows": rows, "trained": 1_000})})
        left = untried("soft-prompt", "fine-tuned", "left out", "no time")
        return recommend(task(floor=0.02), [tried("nearest-answer", "specialist", right(1, 200)), lora, left])

    assert (found(rows=20).result, found(rows=20).fine_tune) == ("not enough evidence", "cannot be told")
    assert (found(rows=50).result, found(rows=50).fine_tune) == ("nothing works", "not worth it")


def test_few_records_that_show_nothing_are_not_called_a_proof_of_it() -> None:
    found = recommend(task(floor=0.5), [tried("prompt", "prompt", right(16, 30)), tried("rag", "rag", right(18, 30))])
    assert found.result == "not enough evidence"
    assert "30 test records would hardly show it" in said(found)
    assert found.needed is not None
    assert found.needed > 30


def test_of_a_set_that_the_prompt_alone_solves_it_says_not_to_fine_tune() -> None:
    random, verdicts = np.random.default_rng(4), Counter[tuple[str, str | None, str]]()
    for _ in range(20):
        found = recommend(task(), simulated(random, 150, [0.97] * 6))
        verdicts[found.result, found.arm, found.fine_tune] += 1
    assert verdicts["use", "arm-0", "not worth it"] >= 17, verdicts


def test_thirty_test_examples_are_not_enough_evidence() -> None:
    random = np.random.default_rng(5)
    for chances in ([0.8] * 6, [0.95] * 6, [0.6, 0.65, 0.65, 0.75, 0.8, 0.8]):
        for _ in range(7):
            found = recommend(task(), simulated(random, 30, chances))
            assert found.result == "not enough evidence"
            assert found.needed is None or found.needed >= 50
            assert "Until then 'arm-" in said(found)
    everything_right = [tried("prompt", "prompt", right(30, 30)), tried("sft-lora", "fine-tuned", right(30, 30))]
    assert recommend(task(), everything_right).result == "not enough evidence"


def test_thirty_test_examples_are_enough_where_the_difference_is_overwhelming() -> None:
    arms = [tried("prompt", "prompt", right(3, 30, 1)), tried("sft-lora", "fine-tuned", right(29, 30, 2))]
    found = recommend(task(floor=0.1), arms)
    assert (found.result, found.arm, found.fine_tune) == ("use", "sft-lora", "worth it")


def test_of_equal_arms_a_dearer_one_is_hardly_ever_recommended() -> None:
    """Six arms of the same chance, 40 sets of 200: by the correction for all pairs, one set in twenty at the most."""
    random, dearer, marked, trained = np.random.default_rng(6), 0, 0, 0
    for _ in range(40):
        found = recommend(task(), simulated(random, 200, [0.8] * 6))
        dearer += found.result == "use" and found.arm != "arm-0"
        marked += any(one.worse for one in found.comparisons)
        trained += found.fine_tune == "worth it"
    assert (dearer <= 1, marked <= 5, trained <= 1) == (True, True, True), (dearer, marked, trained)


def test_a_small_real_gain_is_not_told_from_too_few_records_and_as_many_as_are_said_tell_it() -> None:
    random, told = np.random.default_rng(7), []
    few = recommend(
        task(), [tried("a", "prompt", random.random(100) < 0.8), tried("b", "rag", random.random(100) < 0.9)]
    )
    assert few.result == "not enough evidence"
    assert few.needed is not None
    for _ in range(20):
        luck, other, same = (random.random(few.needed) for _ in range(3))
        better = np.where(same < 0.5, luck, other) < 0.9
        found = recommend(task(), [tried("a", "prompt", luck < 0.8), tried("b", "rag", better)])
        told.append((found.result, found.arm) == ("use", "b"))
    assert sum(told) >= 13, (few.needed, sum(told))
