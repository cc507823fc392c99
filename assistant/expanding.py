"""A dataset grown by rewordings of its questions, which a served model writes: asked for over HTTP, then chosen.

In: a dataset, a client of the gateway. Out: rows that are marked with the row they were made of and stand in train
only. The model's answers are kept in a file under `<home>/runs/` until the dataset is written, so that what was
stopped goes on where it was; data/variations.py says which of them are refused.
"""

import fcntl
import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TextIO

from assistant.client import Answer, Client, GatewayError
from data.dataset import DatasetCard, Row, Step, iter_rows, rewrite
from data.duplicates import words
from data.errors import BrogueError, DataError, unknown
from data.home import Home
from data.records import LabelledRecord, question, record_id
from data.settings import Frozen
from data.variations import MAX_WORDS, Question, Variation, choose, fault, request, tidy, with_question

IN_FLIGHT = 8  # requests at once: the engine answers them in one batch
TEMPERATURE = 0.7  # of 0.7 and 1.0 the one of which more could be used
_ABOUT_ONE_ROW = (400, 413, 422)  # such as a question that is too long for the engine: the next row may do

Tell = Callable[[str], None]
Answers = dict[str, list[Answer]]  # a row's id → what the model answered


class Plan(Frozen):
    """What is to be made."""

    model: str  # as the gateway names it
    per_record: int  # rewordings wanted of a question, at most
    likeness: float  # 0 to 1: what has less in common with its question is refused
    only: int | None = None  # so many questions; none: all


class Work(NamedTuple):
    """The rows whose questions are to be reworded, and all questions that are there, in every split."""

    rows: list[Row]
    places: list[int]  # of each of these rows' questions among `questions`
    questions: list[Question]


def base_model(client: Client) -> str:
    """The base model's name at the gateway."""
    return str(next(entry["id"] for entry in client.models() if entry.get("kind", "").startswith("base")))


def check_model(client: Client, name: str) -> str:
    """`name` if the gateway has it, else an error that lists what there is."""
    known = [str(entry["id"]) for entry in client.models()]
    if name not in known:
        raise unknown("model", name, known, "See: brogue status")
    return name


def gather(home: Home, card: DatasetCard, only: int | None) -> Work:
    """The training rows that people wrote, each question once, in an order that more of them only continue."""
    rows, questions, seen = list[tuple[int, Row]](), list[Question](), set[str]()
    for place, row in enumerate(iter_rows(home, card.name)):
        if isinstance(row.record, LabelledRecord) and row.record.tokens:
            raise DataError(f"'{card.name}' holds tokens and their tags, which a reworded sentence would not fit")
        text = question(row.record)
        questions.append(Question(text, row.record.label if isinstance(row.record, LabelledRecord) else None))
        fit = row.split == "train" and row.synthetic_of is None and len(words(text)) <= MAX_WORDS
        if fit and text not in seen:
            seen.add(text)
            rows.append((place, row))
    if not rows:
        raise DataError(f"'{card.name}' has no question of up to {MAX_WORDS} words in its train split to reword")
    rows = sorted(rows, key=lambda one: one[1].id)[:only]  # by content, so that a part is a sample
    return Work([row for _, row in rows], [place for place, _ in rows], questions)


def ask(client: Client, plan: Plan, rows: Sequence[Row], answers: Answers, keep: Callable[[Row, list[Answer]], None],
        tell: Tell, stopping: Callable[[], None] = lambda: None) -> None:  # fmt: skip
    """Ask for the rows that `answers` lacks, several at once, and put into it what comes; `keep` is told of each.

    Ends early only by an error or Ctrl-C, after the requests on their way have been answered; `stopping` is called
    when it begins to wait for them.
    """
    lacking = [row for row in rows if row.id not in answers]
    todo, before = iter(lacking), len(answers)
    lock, stop = threading.Lock(), threading.Event()

    def work() -> None:
        while not stop.is_set():
            with lock:
                row = next(todo, None)
            if row is None:
                return
            try:
                found = _reworded(client, plan, row)
            except BaseException:
                stop.set()
                raise
            with lock:
                answers[row.id] = found
                keep(row, found)
                tell(f"{len(answers) - before:,} of {len(lacking):,} questions asked")

    pool = ThreadPoolExecutor(IN_FLIGHT)
    try:
        for worker in [pool.submit(work) for _ in range(IN_FLIGHT)]:
            worker.result()
    except BaseException:
        stop.set()
        stopping()
        raise
    finally:
        pool.shutdown()


def _reworded(client: Client, plan: Plan, row: Row) -> list[Answer]:
    text = question(row.record)
    # Whose words these are is sent along: what the gateway writes down of it can be forgotten with the person.
    options = {"user": row.subject} if row.subject else {}
    try:
        return client.answers(
            plan.model, request(text), n=wanted(plan), temperature=TEMPERATURE, top_p=0.95, seed=int(row.id[:7], 16),
            max_tokens=32 + 3 * len(words(text)), **options,
        )  # fmt: skip
    except GatewayError as error:
        if error.status in _ABOUT_ONE_ROW:
            return []
        raise


def wanted(plan: Plan) -> int:
    """How many rewordings are asked for of each question: some are refused."""
    return 2 * plan.per_record


def weigh(work: Work, plan: Plan, answers: Answers, tell: Tell) -> list[Variation]:
    """All rewordings with what is wrong with them; `of` is a position in `work.questions`."""
    found = []
    for row, place in zip(work.rows, work.places, strict=True):
        text = question(row.record)
        for answer in answers.get(row.id, []):
            reworded = tidy(answer.text, text)
            found.append(Variation(place, reworded, fault(reworded, text, answer.cut_off)))
    return choose(work.questions, found, plan.per_record, plan.likeness, tell)


def grow(home: Home, card: DatasetCard, plan: Plan, work: Work, variations: Sequence[Variation], into: str,
         replace: bool) -> DatasetCard:  # fmt: skip
    """Dataset `into`: all rows of `card`'s and the rewordings that stay, each marked with the row it was made of."""
    sources = dict(zip(work.places, work.rows, strict=True))
    made = [_row(sources[v.of], v.text) for v in variations if v.fault is None]
    counts = tally(work, variations)
    if not made:
        reasons = ", ".join(f"{count} {why}" for why, count in counts.items() if why not in ("asked", "kept"))
        raise DataError(
            f"none of the rewordings by '{plan.model}' can be used ({reasons or 'it gave none'}); nothing was written. "
            "Try a more capable model (--with), or a lower --likeness"
        )
    step = Step(name="expand", options=plan.model_dump(), counts=counts)
    return rewrite(home, card, chain(iter_rows(home, card.name), made), step, into, replace)


def tally(work: Work, variations: Sequence[Variation]) -> dict[str, int]:
    """Questions asked, rewordings kept, and how many were refused for each reason."""
    faults = Counter(v.fault for v in variations if v.fault is not None)
    kept = len(variations) - faults.total()
    return {"asked": len(work.rows), "kept": kept, **{why: count for why, count in faults.most_common() if why}}


def _row(source: Row, text: str) -> Row:
    record = with_question(source.record, text)
    return source.model_copy(update={"id": record_id(record), "record": record, "synthetic_of": source.id})


class Kept:
    """The file of answers that an expansion keeps until it is done: a line for each question, with its subject."""

    def __init__(self, file: TextIO, answers: Answers) -> None:
        self._file, self.answers = file, answers

    def add(self, row: Row, answers: list[Answer]) -> None:
        """Write one down, so that a kill loses none that came."""
        self._file.write(json.dumps({"id": row.id, "subject": row.subject, "answers": answers}) + "\n")
        self._file.flush()


@contextmanager
def kept_answers(home: Home, card: DatasetCard, plan: Plan) -> Iterator[Kept]:
    """The answers of an earlier try of the same, and where new ones are written. Only one process may be at it."""
    path = answers_file(home, card, plan)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8", newline="\n") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BrogueError(f"'{card.name}' is being expanded by another process; wait until it is done") from None
        file.seek(0)
        lines = file.read().split("\n")
        if lines[-1]:
            file.write("\n")  # a kill cut the last line
        yield Kept(file, dict(_parsed(lines)))


def answers_file(home: Home, card: DatasetCard, plan: Plan) -> Path:
    """Where the answers to the same questions by the same model are kept."""
    what = json.dumps([card.digest, plan.model, wanted(plan), TEMPERATURE, request("")])
    return home.runs / f"expand-{card.name}-{hashlib.sha256(what.encode()).hexdigest()[:8]}" / "answers.jsonl"


def _parsed(lines: list[str]) -> Iterator[tuple[str, list[Answer]]]:
    for line in lines:
        try:
            raw = json.loads(line)
            yield raw["id"], [Answer(text, bool(cut_off)) for text, cut_off in raw["answers"]]
        except (ValueError, KeyError, TypeError):
            continue  # a kill cut it: it is asked again
