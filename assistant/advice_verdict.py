"""The verdict: which arm to use, by the rules in docs/advisor-verdict.md. Pure: no files, no network.

Use the cheapest arm that surely meets the target, or else the cheapest that is not significantly worse than the best.
That is a verdict only where no arm that may be the best can be better than it by more than a margin; else there is not
enough evidence.
"""

from collections.abc import Sequence

from assistant import advice_sentences as sentences
from assistant.advice_curves import growth
from assistant.advice_field import FEWEST, MARGIN, SHOWN, WORTH, Choice, Field, FineTune, field_of, figures
from assistant.advice_statistics import needed, rounded_up
from assistant.advice_types import Growth, Recommendation, Result, Task


def recommend(task: Task, results: Sequence[Result], *, target: float | None = None, seed: int = 0) -> Recommendation:
    """The recommendation from what was measured of the arms on the test records; always the same for the same seed.

    `target`: of the task's metric; an arm meets it with the worse end of its interval.
    """
    field = field_of(task, results, seed)
    grown = tuple(found for one in results if (found := growth(one, task, seed)))
    if field is None:
        return Recommendation(
            result="not enough evidence", arm=None, best=None, fine_tune="cannot be told",
            words=sentences.unmeasured(results), changes=sentences.untried(results), comparisons=(), growth=grown,
        )  # fmt: skip
    if not field.works:
        return _nothing(field, results, grown)
    choice = choose(field, target)
    told = choice.meets or not choice.rivals
    fine_tune = _fine_tune(field, results, choice)
    return Recommendation(
        result="use" if told else "not enough evidence",
        arm=choice.arm.arm.name,
        best=field.best.arm.name,
        fine_tune=fine_tune,
        words=sentences.recommended(field, choice, target, fine_tune),
        changes=sentences.changes(field, results, choice, target, grown),
        comparisons=field.comparisons,
        growth=grown,
        needed=None if told else choice.needed,
    )


def choose(field: Field, target: float | None) -> Choice:
    """The cheapest arm that surely meets the target; without one, that is not significantly worse than the best."""
    able = [one for one in field.arms if one.arm.name in field.works or one is field.best]
    even = tuple(one for one in able if one.arm.name not in field.worse)
    meeting = [one for one in able if target is not None and meets(field.task, one, target)]
    arm = meeting[0] if meeting else even[0]
    margin = MARGIN if field.n >= FEWEST else 0.0
    rivals = tuple(one for one in even if one is not arm and field.gain(one, arm).difference.high > margin)
    return Choice(arm, bool(meeting), even, rivals, _needed(field, arm, rivals))


def _needed(field: Field, arm: Result, rivals: Sequence[Result]) -> int | None:
    """Test records that would tell all rivals from the chosen arm; none if that takes too many."""
    gains = [field.gain(one, arm) for one in rivals]
    counts = [needed(gain.spread, gain.difference.value, MARGIN, len(field.pairs)) for gain in gains]
    known = [count for count in counts if count is not None]
    return max([FEWEST, *known]) if len(known) == len(counts) else None


def meets(task: Task, arm: Result, target: float) -> bool:
    """Surely: a target that is met by luck on these records is missed on the next."""
    found = figures(arm).main
    return found.low >= target if task.better == "higher" else found.high <= target


def _nothing(field: Field, results: Sequence[Result], grown: tuple[Growth, ...]) -> Recommendation:
    """No arm is surely above its bar: because none is, or because records or time were too short to say."""
    trained = any(one.arm.family == "fine-tuned" for one in field.arms)
    more = None if field.shows else rounded_up(field.n * (field.blur / SHOWN) ** 2)
    hasty = _hasty(results)
    told = field.shows and not hasty
    return Recommendation(
        result="nothing works" if told else "not enough evidence",
        arm=None if told else field.arms[0].arm.name,
        best=field.best.arm.name,
        fine_tune="not worth it" if told and trained else "cannot be told",
        words=sentences.nothing(field, more, hasty),
        changes=(*(sentences.look(field.task) if told else ()), *sentences.untried(results)),
        comparisons=field.comparisons,
        growth=grown,
        needed=more,
    )


def _hasty(results: Sequence[Result]) -> bool:
    """Was there no time to train anything on at least half of the records? Then these are not to blame."""
    made = [one.ready for one in results if one.ready is not None and one.state in ("measured", "stopped")]
    most = max((ready.rows for ready in made), default=0)
    learnt = any(ready.trained and 2 * ready.rows >= most for ready in made)
    return not learnt and any(one.state == "left out" for one in results)


def _fine_tune(field: Field, results: Sequence[Result], choice: Choice) -> FineTune:
    """Is the best trained arm worth its upkeep, beside the best of all that is not trained?"""
    tried = [one for one in results if one.arm.family == "fine-tuned" and (one.test or one.state == "stopped")]
    trained, plain = field.highest(trained=True), field.highest(trained=False)
    if not tried or plain is None:
        return "cannot be told"
    chosen = choice.arm.arm.family == "fine-tuned"
    if choice.meets or (chosen and not choice.rivals):
        return "worth it" if chosen else "not worth it"
    if {one.arm.name for one in field.arms if one.arm.family != "fine-tuned"} <= field.worse:
        return "worth it"
    if trained is None:
        return "not worth it"  # it was stopped: it could not win
    gain = field.gain(trained, plain).difference
    small = gain.high <= WORTH or (gain.value <= WORTH and not choice.rivals)
    return "not worth it" if small else "cannot be told"
