"""An advice as `brogue advise` writes it, made up: for what shows advice."""

from typing import Any, NamedTuple

from adapters.exam_types import Interval, Measured
from assistant.advice_types import (
    Advice,
    Arm,
    Comparison,
    Confusion,
    Figures,
    Growth,
    Point,
    Ready,
    Recommendation,
    Result,
    Task,
    Wrong,
)
from assistant.definitions import Assistant

LABELS = tuple(
    f"{verb}_{what}" for what in ("card", "transfer", "top_up", "refund", "exchange_rate", "direct_debit")
    for verb in ("cancelled", "declined_by_the_bank", "delayed", "lost_or_stolen", "pending", "question_about")
)  # fmt: skip
LETTER = (
    "Dear team,\n\nI ordered two pairs of shears on the 3rd, and then nothing was heard of them. <b>Where</b> are "
    "they? The courier's page has been saying 'in transit' for nine days.\n\nYours, R. Moss"
)


class _Made(NamedTuple):
    """An arm of the sample: (name, family, title, upkeep), its figure, what it takes."""

    name: str
    family: Any
    title: str
    upkeep: int
    value: float
    minutes: float
    prompt_tokens: float
    p50: float
    memory: int = 0
    learns: bool = False


_MADE = (
    _Made("prompt", "prompt", "the question alone, with an instruction", 0, 0.312, 0.4, 96, 0.41),
    _Made("prompt-constrained", "prompt", "the instruction; only labels can be answered", 0, 0.402, 0.4, 512, 0.62),
    _Made("few-shot-fixed", "few-shot", "the same eight examples in every prompt", 1, 0.448, 0.6, 690, 0.84),
    _Made("few-shot-nearest", "few-shot", "the five nearest examples in the prompt", 2, 0.806, 0.3, 334, 0.55,
          3_100_000, learns=True),
    _Made("rag", "rag", "passages of the documents in the prompt", 2, 0.471, 1.2, 1210, 1.32, 9_000_000),
    _Made("word-lr", "specialist", "words counted, and a logistic regression", 2, 0.821, 0.1, 0, 0.001, 900_000,
          learns=True),
    _Made("embedding-lr", "specialist", "a small model of its own on sentence embeddings", 2, 0.872, 0.3, 0, 0.006,
          1_200_000, learns=True),
    _Made("sft-lora", "fine-tuned", "the base model fine-tuned (LoRA)", 3, 0.861, 7.8, 41, 0.36, 19_000_000,
          learns=True),
    _Made("lora+few-shot", "fine-tuned", "fine-tuned, with the nearest examples", 3, 0.884, 8.1, 301, 0.59,
          22_000_000, learns=True),
)  # fmt: skip


def interval(value: float, half: float = 0.032) -> Interval:
    return Interval(value=value, low=value - half, high=value + half)


def advice(kind: Any = "labels", result: Any = "use", **more: Any) -> Advice:
    """An advice on 400 test records; `kind`: "labels" or "words"; `result`: the recommendation's."""
    metric = "accuracy" if kind == "labels" else "rouge_l"
    labels = LABELS if kind == "labels" else ()
    task = Task(dataset="bank-questions", digest="0a1b", kind=kind, metric=metric, floor=0.02, labels=labels,
                system_prompt="You sort what customers of a bank write.")  # fmt: skip
    whole = {
        "id": "0a1b2c3d", "task": task, "counts": {"train": 3200, "validation": 400, "test": 400},
        "budget_minutes": 30, "target": 0.9, "seed": 0, "created": "2026-11-21T09:41:00+00:00", "minutes": 27.4,
        "results": tuple(_measured(task, made, place) for place, made in enumerate(_MADE)) + _others(),
        "recommendation": recommendation(result), "base_model": "starter-135m",
        "left_out": ("lora+rag: no time left: it takes about 9 minutes", "groundedness: no knowledge was given"),
    } | more  # fmt: skip
    return Advice.model_validate(whole)


def recommendation(result: Any = "use", **more: Any) -> Recommendation:
    said = {
        "use": ("Use 'embedding-lr', a small model on sentence embeddings: 87.2% are right (84.0% to 90.4%).",
                "The best is 'lora+few-shot' with 88.4%; that is not significantly more (p = 0.41).",
                "Fine-tuning is not worth it: it brings +1.2 points (−0.9 to +3.3) for eight minutes of training."),
        "nothing works": ("Nothing does better than always to answer the commonest label: look at the data.",),
        "not enough evidence": ("With 30 test records the arms cannot be told apart; about 1,240 would do.",),
    }[result]  # fmt: skip
    whole = {
        "result": result, "arm": None if result == "nothing works" else "embedding-lr", "best": "lora+few-shot",
        "fine_tune": {"use": "not worth it"}.get(result, "cannot be told"), "words": said,
        "changes": ("A target of at least 90%: no arm meets it yet.", "Answers in words: a specialist gives labels."),
        "comparisons": tuple(_comparison(made) for made in _MADE if made.name != "lora+few-shot"),
        "growth": (Growth(arm="embedding-lr", rows=3200, twice=interval(0.013, 0.01),
                          told="Twice the records (6,400) would bring about +1.3 (+0.3 to +2.3)."),),
        "needed": 1240 if result == "not enough evidence" else None,
    } | more  # fmt: skip
    return Recommendation.model_validate(whole)


def figures(task: Task, made: _Made) -> Figures:
    """What was measured of an arm; every third label is confused with its neighbours."""
    kept = LABELS[:: 1 if made.value < 0.5 else 3]
    confusions = tuple(
        Confusion(wanted=label, given=LABELS[(LABELS.index(label) + step) % len(LABELS)], times=9 - place // 3 - step)
        for place, label in enumerate(kept) for step in (1, 6) if place < 21 and 9 - place // 3 - step > 0
    )  # fmt: skip
    by_label = {label: {"version": interval(min(0.95, made.value + place % 7 / 50), 0.05)}
                for place, label in enumerate(LABELS)}  # fmt: skip
    names = {"accuracy": {}, "f1_macro": {}, "precision_micro": by_label, "recall_micro": by_label,
             "f1_micro": by_label} if task.kind == "labels" else {"rouge_l": {}, "token_f1": {}}  # fmt: skip
    return Figures(
        n=400, main=interval(made.value), parts=((made.value, 1.0),),
        measures=tuple(
            Measured.model_validate({"name": f"task.{name}", "unit": "share", "better": "higher", "n": 400,
                                     "arms": {"version": interval(made.value)}, "slices": slices})
            for name, slices in names.items()
        ),
        prompt_tokens=made.prompt_tokens, answer_tokens=4.2 if made.family != "specialist" else 0, seconds_p50=made.p50,
        seconds_p95=made.p50 * 2.1, wrong=tuple(_wrong(task, made, number) for number in range(10)),
        confusions=confusions if task.kind == "labels" else (),
    )  # fmt: skip


def _wrong(task: Task, made: _Made, number: int) -> Wrong:
    if task.kind == "labels":
        return Wrong(question=f"Why was payment {number} of mine <i>taken back</i>?", score=0.0,
                     wanted=LABELS[number], given=LABELS[number + 1])  # fmt: skip
    given = f"{made.title}: I do not know.\nCan I help with something else?"
    return Wrong(question=f"{number}. {LETTER}", wanted="We are sorry. They come on Monday.", given=given, score=0.1)


def _measured(task: Task, made: _Made, place: int) -> Result:
    rows = 3200 if made.learns else 8 if made.name == "few-shot-fixed" else 0
    curve = tuple(
        Point(rows=rows // part, found=interval(made.value - 0.09 * step, 0.04), minutes=made.minutes / part)
        for step, part in ((3, 8), (2, 4), (1, 2), (0, 1))
    )  # fmt: skip
    ready = Ready(
        arm=made.name, rows=rows, minutes=made.minutes, bytes=made.memory,
        trained=460_800 if made.family == "fine-tuned" else 0,
        definition=Assistant(name=f"advice-0a1b2c3d-{made.name.replace('+', '-')}", system_prompt=task.system_prompt),
        notes=("the short instruction was chosen on the validation records: 30.5% against 27.0%",) * (not place),
    )  # fmt: skip
    return Result(
        arm=_arm(made), state="measured", ready=ready, test=figures(task, made), memory=made.memory,
        consistency=interval(0.93, 0.02) if made.family != "specialist" else interval(1.0, 0.0), price_per_1000=None,
        curve=curve if made.learns else (),
    )  # fmt: skip


def _others() -> tuple[Result, ...]:
    """Arms that were not measured."""
    points = tuple(Point(rows=rows, found=interval(value, 0.05), minutes=rows / 300)
                   for rows, value in ((400, 0.41), (800, 0.48), (1600, 0.53)))  # fmt: skip
    soft = Arm(name="soft-prompt", family="fine-tuned", title="twenty trained words before the question", learns=True)
    ia3 = Arm(name="ia3", family="fine-tuned", title="the base model fine-tuned (IA3)", learns=True)
    both = Arm(name="lora+rag", family="fine-tuned", title="fine-tuned, with passages", needs=("sft-lora", "rag"))
    return (
        Result(arm=soft, state="stopped", why="53.0% at 1,600 rows: more data cannot bring it to 87.2%", curve=points),
        Result(arm=ia3, state="failed", why="the training ended with exit code 1; see runs/ia3-0a1b/log.txt"),
        Result(arm=both, state="left out", why="no time left: it takes about 9 minutes"),
    )  # fmt: skip


def _arm(made: _Made) -> Arm:
    return Arm(name=made.name, family=made.family, title=made.title, upkeep=made.upkeep, learns=made.learns)


def _comparison(made: _Made) -> Comparison:
    worse = made.value < 0.85
    p = 0.0004 if worse else 0.41
    return Comparison(arm=made.name, difference=interval(made.value - 0.884, 0.02), p=p, p_holm=min(1.0, 2 * p),
                      worse=worse)  # fmt: skip
