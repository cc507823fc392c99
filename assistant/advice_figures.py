"""What is measured of an arm: the exam's own figures, reckoned from an exam's room with one arm, "version".

A client of the arm asks plainly: whether answers are held to labels or to a schema is the arm's definition's business.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from adapters.exam_statistics import measured
from adapters.exam_types import Answer, Interval, Item, Measured, Part, Parts, Room, Scores
from adapters.measure_data import last_question, means
from adapters.measure_facts import agreement
from adapters.measure_pieces import messages
from adapters.measures import find
from assistant.advice_asked import AskedRoom
from assistant.advice_floor import by_chance
from assistant.advice_types import Figures, Task
from assistant.advice_wrong import confusions, worst
from data.dataset import Row
from data.errors import BrogueError
from data.exporting_shapes import pairs

AGAIN, TEMPERATURE, SAMPLES = 30, 0.7, 2  # questions that are asked again, how, and how often
COSTED = 10  # questions of pairs that are answered, for tokens and seconds: what decides there needs no answers


def measure(task: Task, room: Room, rows: Sequence[Row], seed: int = 0, plain: Room | None = None,
            brief: bool = False) -> Figures:  # fmt: skip
    """The figures of the arm in `room` on `rows`; the parts are in their order. Raises `BrogueError`.

    `plain`: the room of an arm without any training (the prompt alone) with the same rows: with it, answers in words
    are also told from that arm's (`voice.likeness`), which asks nothing that was not asked before.
    `brief`: the task's metric and the costs only, which is what a choice wants: all else takes seconds.
    """
    asked = AskedRoom(room, rows)
    main, others = _decides(task, asked)
    beside = [] if brief else [*others, *_beside(task, AskedRoom(room, rows, plain))]
    figures = [measured(one, ("version",), seed) for one in (main, *beside, *_costs(task, asked))]
    known = {one.name: one.arms["version"].value for one in figures if one.arms}
    found = Figures(
        n=len(rows),
        main=figures[0].arms["version"],
        parts=tuple(tuple(row) for row in np.asarray(main.parts["version"], dtype=float).tolist()),
        groups=tuple(row.group or row.id for row in rows) if any(row.group for row in rows) else (),
        measures=tuple(one for one in figures if _reckoned(one)),
        prompt_tokens=known["cost.prompt_tokens"],
        answer_tokens=known["cost.answer_tokens"],
        seconds_p50=known["cost.seconds_p50"],
        seconds_p95=known["cost.seconds_p95"],
    )
    return found if brief else found.model_copy(update=_looked_at(task, asked, main))


def _looked_at(task: Task, room: AskedRoom, main: Scores) -> dict[str, Any]:
    """What the answers themselves say."""
    texts = [""] * len(room.held) if task.kind == "pairs" else [one.text for one in _answers(task, room)]
    return {
        "by_chance": by_chance(task, room.held, texts),
        "wrong": worst(task, room.held, texts, main),
        "confusions": confusions(task, room.held, texts) if task.kind in ("labels", "tags") else (),
    }


def decides(task: Task, room: Room, rows: Sequence[Row]) -> float:
    """The task's metric alone, where two wordings of an arm are to be compared. Raises `BrogueError`."""
    main = _decides(task, AskedRoom(room, rows))[0]
    return float(main.value(np.asarray(main.parts["version"]).sum(0, keepdims=True))[0])


def consistency(task: Task, room: Room, rows: Sequence[Row], seed: int = 0) -> Interval:
    """How far the arm says the same when it is asked again at temperature 0.7, of the first 30 of `rows`.

    Labels and tags: the share of questions whose answers are all equal; words: how far their words agree, as the
    exam's `consistency` has it.
    """
    some = list(rows)[:AGAIN]
    asked = [messages(row.record) for row in some]
    draws = [
        room.answers("version", asked, temperature=TEMPERATURE, seed=seed + number, max_tokens=task.max_tokens)
        for number in range(SAMPLES)
    ]
    sets = [
        [answer.text.strip() for answer in texts]
        for texts in zip(_answers(task, AskedRoom(room, some)), *draws, strict=True)
    ]
    exact = task.kind in ("labels", "tags")
    scores = [float(len(set(texts)) == 1) if exact else agreement(texts) for texts in sets]
    items = [Item(last_question(prompt), group=row.group) for row, prompt in zip(some, asked, strict=True)]
    found = measured(means("consistency.samples_agree", "higher", items, {"version": scores}), ("version",), seed)
    return found.arms["version"]


# --- the measures ---


def _decides(task: Task, room: AskedRoom) -> tuple[Scores, list[Scores]]:
    """(the task's metric, with parts for every row; the other figures of its measure)."""
    if task.kind == "pairs":
        return _preferences(task, room), []
    named = _task_scores(task, room)
    main = named.pop(f"task.{task.metric}")
    return main, list(named.values())


def _task_scores(task: Task, room: AskedRoom) -> dict[str, Scores]:
    options: dict[str, Any] = {"max_tokens": task.max_tokens}
    if task.kind == "words":
        options |= {"perplexity": False}  # it would ask the weights, and an arm is more than they
    else:
        options |= {"labels": task.labels, "constrained": False}
    part = Part(measure="task", data=task.dataset, limit=len(room.held), options=options)
    return {one.name: one for one in find("task")(room, part)}


def _preferences(task: Task, room: AskedRoom) -> Scores:
    """The share of people's choices that the arm finds likelier; without parts for rows that say nothing."""
    part = Part(measure="preference", data=task.dataset, limit=len(room.held), options={"own_answers": False})
    found = next((one for one in find("preference")(room, part) if one.name == f"preference.{task.metric}"), None)
    read = _read(room)
    if found is None or not any(read):
        raise BrogueError(f"no pair of {task.dataset} fits into the model's context; shorten the prompt")
    parts: Parts = np.zeros((len(room.held), 2))
    parts[read] = found.parts["version"]
    items = [Item(last_question(messages(row.record)), group=row.group) for row in room.held]
    return found._replace(parts={"version": parts}, items=items)


def _read(room: AskedRoom) -> list[bool]:
    """Of each row: whether it holds a choice, and all of its answers fit into the context. Asks nothing anew."""
    told = [[(messages(row.record), text) for pair in pairs(row.record) for text in pair[1:]] for row in room.held]
    flat = [one for some in told for one in some]
    tokens = iter(room.likelihoods("version", [asked for asked, _ in flat], [text for _, text in flat]))
    found = [[bool(next(tokens)) for _ in some] for some in told]
    return [bool(some) and all(some) for some in found]


def _beside(task: Task, room: AskedRoom) -> list[Scores]:
    """What else is worth knowing of answers in words."""
    if task.kind != "words":
        return []
    found: list[Scores] = []
    for name in ("voice", "repetition"):
        part = Part(measure=name, data=task.dataset, limit=len(room.held), options={"max_tokens": task.max_tokens})
        with suppress(BrogueError):  # too few answers to tell a voice by
            found += find(name)(room, part)
    return found + _grounded(task, room)


def _grounded(task: Task, room: AskedRoom) -> list[Scores]:
    """Of arms that look into documents: claims that the passages support, as the answers' own check found."""
    asked = [messages(row.record) for row in room.held]
    answers = _answers(task, room)
    if all(one.claims is None for one in answers):
        return []
    items = [Item(last_question(prompt), {"version": one.text}) for prompt, one in zip(asked, answers, strict=True)]
    supported = np.array([[one.supported or 0, one.claims or 0] for one in answers], dtype=np.float64)
    claiming = [None if one.claims is None else float(one.claims > 0) for one in answers]
    note = "By the words: see docs/grounding.md."
    return [
        Scores("grounded.supported", "share", "higher", {"version": supported}, items, note=note),
        means("grounded.claims", "neither", items, {"version": claiming}),
    ]


def _costs(task: Task, room: AskedRoom) -> list[Scores]:
    """The measure `cost`, of the answers that were given already; of pairs, of a few that are given for it."""
    options: dict[str, Any] = {"max_tokens": task.max_tokens}
    if task.kind in ("labels", "tags"):
        options |= {"labels": task.labels, "constrained": False}
    some = AskedRoom(room, room.held[:COSTED]) if task.kind == "pairs" else room
    return find("cost")(some, Part(measure="cost", data=task.dataset, limit=len(some.held), options=options))


def _answers(task: Task, room: AskedRoom) -> list[Answer]:
    """As the measures have asked: nothing is asked again."""
    return room.answers("version", [messages(row.record) for row in room.held], max_tokens=task.max_tokens)


def _reckoned(figure: Measured) -> bool:
    return bool(figure.arms) and bool(np.isfinite(figure.arms["version"].value))
