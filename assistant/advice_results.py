"""What came of a run: a result for each arm, in words why it did not go further, and the verdict on all."""

from collections.abc import Sequence
from datetime import UTC, datetime

from adapters.base_model import BaseModel
from assistant.advice_cost import price
from assistant.advice_files import Asked, Tried
from assistant.advice_types import Advice, Arm, Records, Result, Task
from assistant.advice_verdict import recommend
from data.errors import BrogueError
from data.home import Home
from data.settings import PriceSettings, load_settings


def results(home: Home, tried: Sequence[tuple[Arm, Tried]]) -> list[Result]:
    """A result for each arm, in their order."""
    prices = load_settings(home.settings_file).prices
    return [_result(arm, known, prices) for arm, known in tried]


def advice(id: str, asked: Asked, task: Task, records: Records, base: BaseModel, found: Sequence[Result],
           minutes: float) -> Advice:  # fmt: skip
    """The whole. Raises `BrogueError` if not one arm was measured."""
    if all(one.test is None for one in found):
        first = next((one for one in found if one.state == "failed"), found[0])
        raise BrogueError(f"no arm could be measured; {first.arm.name}: {first.why}")
    return Advice(
        id=id,
        task=task,
        counts={name: len(rows) for name, rows in records._asdict().items()},
        budget_minutes=asked.budget_minutes or 0,
        target=asked.target,
        seed=asked.seed,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        minutes=round(minutes, 2),
        results=tuple(found),
        recommendation=recommend(task, found, target=asked.target, seed=asked.seed),
        base_model=base.name,
        left_out=_left_out(found),
    )


def _result(arm: Arm, known: Tried, prices: PriceSettings) -> Result:
    test = known.test if known.is_tested else None
    state, why = "measured", known.left  # for some there was time, but not for more of their records
    if known.stopped:
        state, why = "stopped", known.stopped
    elif test is None:
        state, why = ("failed", known.failed) if known.failed else ("left out", known.left or "no time to test it")
    return Result(
        arm=arm,
        state=state,
        why=why,
        ready=known.last,
        test=test,
        consistency=known.consistency if test is not None else None,
        price_per_1000=price(prices, test) if test is not None else None,
        memory=known.memory,
        curve=known.curve if arm.learns else (),
    )


def _left_out(found: Sequence[Result]) -> tuple[str, ...]:
    """What was not tried, and why: whole arms, and what arms did not get to."""
    lines = [
        f"{one.arm.name}: {one.why}" for one in found if one.why and one.state in ("left out", "failed", "measured")
    ]
    unsure = [one.arm.name for one in found if one.state == "measured" and one.consistency is None]
    if unsure:
        lines.append(f"asking again whether answers stay the same, for {', '.join(unsure)}: no time")
    return tuple(lines)
