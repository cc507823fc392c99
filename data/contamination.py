"""Which records ask what an exam asks: with the same words, nearly so, or by sharing a passage with it.

`brogue data check --exam` tells of them, `brogue data dedupe --against` drops them: both by what stands here.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from data.dataset import DatasetCard, Row, iter_rows, load_card
from data.duplicates import Tell, find_near, parts, words
from data.errors import BrogueError, DataError
from data.home import Home
from data.records import AnyRecord

NGRAM = 13  # words in a row that two texts hardly share by chance; source: Brown et al. (2020), appendix C
Overlap = Literal["same", "near", "passage"]  # of a question; a record is of the first of them that holds


class Hit(NamedTuple):
    """A record that overlaps with an exam."""

    position: int  # in the order in which the records were added
    exam: int  # of the exam's record, in its order


class Exam:
    """The records of one or more exams, and what of the records added overlaps with them."""

    def __init__(self, exams: Iterable[tuple[str, AnyRecord]]) -> None:
        """`exams`: each record with where it stands, such as "final/1a2b3c". DataError if there is none."""
        self.places: list[str] = []
        self._questions: list[str] = []
        self._ngrams: dict[int, int] = {}
        for place, record in exams:
            self.places.append(place)
            self._questions.append(parts(record)[0])
            for key in _ngrams(record):
                self._ngrams.setdefault(key, len(self.places) - 1)
        if not self._questions:
            raise DataError("the exam datasets hold no records; name others")
        self._same = {words(text): i for i, text in reversed(list(enumerate(self._questions)))}
        self._hits: list[Hit] = []
        self._asked: list[tuple[int, str, int | None]] = []  # not the same: position, question, exam's shared passage
        self._count = 0

    def add(self, record: AnyRecord) -> None:
        """Look at one record, in order."""
        asked, position = parts(record)[0], self._count
        self._count += 1
        same = self._same.get(words(asked))
        if same is not None:
            self._hits.append(Hit(position, same))
        else:
            shared = next((self._ngrams[key] for key in _ngrams(record) if key in self._ngrams), None)
            self._asked.append((position, asked, shared))

    def hits(self, tell: Tell) -> dict[Overlap, list[Hit]]:
        """What overlaps of all that was added, each in its order."""
        number = len(self._questions)
        found = find_near([(text,) for text in (*self._questions, *(asked for _, asked, _ in self._asked))], tell)
        exam_of = {b: a for a, b in reversed(found.pairs) if a < number <= b}
        near, passage = [], []
        for (position, _, shared), first in zip(self._asked, found.first[number:], strict=True):
            if first in exam_of:
                near.append(Hit(position, exam_of[first]))
            elif shared is not None:
                passage.append(Hit(position, shared))
        return {"same": self._hits, "near": near, "passage": passage}


def exam_cards(home: Home, name: str, exams: Sequence[str]) -> list[DatasetCard]:
    """The exams' cards. A dataset is no exam of its own, and an unknown name is refused."""
    if name in exams:
        raise BrogueError(f"'{name}' cannot be its own exam; its splits are compared with one another anyway")
    return [load_card(home, exam) for exam in dict.fromkeys(exams)]


def exam_records(home: Home, cards: Iterable[DatasetCard]) -> Iterator[tuple[str, AnyRecord]]:
    """All records of the exams, of every split, with where each stands."""
    return ((f"{card.name}/{row.id}", row.record) for card in cards for row in iter_rows(home, card.name))


def drop_contaminated(rows: Sequence[Row], exam: Exam, tell: Tell) -> tuple[list[Row], dict[str, int]]:
    """The rows without those of train that ask an exam's question, or nearly do, or that a model made of such a row.

    The other splits stay: nothing is learnt from them. Counts: what was dropped and why, and how many rows of train
    share a passage with an exam and stay.
    """
    train = [i for i, row in enumerate(rows) if row.split == "train"]
    for i in train:
        exam.add(rows[i].record)
    hits = exam.hits(tell)
    gone = {train[hit.position] for kind in ("same", "near") for hit in hits[kind]}
    left = {row.id for i, row in enumerate(rows) if i not in gone}
    sources = {rows[i].id for i in gone} - left
    made = {i for i in train if i not in gone and rows[i].synthetic_of in sources}
    stay = [row for i, row in enumerate(rows) if i not in gone and i not in made]
    counts = {"exam_questions": len(hits["same"]), "near_exam_questions": len(hits["near"]),
              "made_of_them": len(made), "exam_passages_kept": len(hits["passage"])}  # fmt: skip
    return stay, counts


def _ngrams(record: AnyRecord) -> Iterator[int]:
    tokens = re.findall(r"\w+", "\n".join(parts(record)).casefold())
    return (hash(tuple(tokens[i : i + NGRAM])) for i in range(len(tokens) - NGRAM + 1))
