"""Which texts say the same: equal words in any order, case and punctuation, or all but one word in ten.

Texts come in as tuples of parts (a question and its answer), and two are near duplicates when every part is: the same
answer to another question is none. MinHash (numpy) proposes the pairs to look at, an exact count of the words decides.
Words are kept as numbers, so that a hundred thousand conversations take a tenth of the memory that their words would.
Source: Broder (1997), On the resemblance and containment of documents; Leskovec et al., Mining of Massive Datasets 3.4.
"""

import hashlib
import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from data.dataset import Row
from data.records import AnyRecord, LabelledRecord, PreferenceRecord, RankingRecord, RatedRecord, Split, question

if TYPE_CHECKING:
    import numpy as np

# Chinese and Japanese are written without blanks: every sign counts as a word there.
_SIGNS = "\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_SIGNS}]|(?:(?![{_SIGNS}])\w)+")
_APOSTROPHES = str.maketrans("", "", "'’`´")

MIN_WORDS = 4  # below that one changed word is another text
WORDS_PER_CHANGE = 10
# With 32 bands of 4, a pair with one of five words changed (Jaccard 0.67) is proposed with a probability of 0.999.
_BANDS, _ROWS = 32, 4
# Long texts share their common words, and so a band by chance. Near duplicates have over half of their words in common;
# of pairs that have 0.6, fewer than one in a billion has so few of the hashes in common.
_SHARED = 0.3
_PAIRS_AT_ONCE = 50_000
# Of a crowd that looks alike, each is compared with the first and with so many that follow it: a dataset made from one
# template would else take the square of its size.
_CROWD = 100
# Of two duplicates the one that a version is examined on stays, so that the exam's sets keep their size.
_STAYS: tuple[Split, ...] = ("test", "validation", "train")
Words = tuple[str, ...]
Tell = Callable[[str], None]


class Near(NamedTuple):
    """What `find_near` found, as positions in its input."""

    first: list[int]  # for each text, the first one that has the same words in every part (itself, if none)
    pairs: list[tuple[int, int]]  # near duplicates among these first ones, the earlier position first


def words(text: str) -> Words:
    """The words of `text` in sorted order, without case, punctuation and spacing; a text without any is one word."""
    folded = unicodedata.normalize("NFKC", text).casefold().translate(_APOSTROPHES)
    return tuple(sorted(_WORD.findall(folded))) or (text.strip(),)


def are_near(a: Sequence[Hashable], b: Sequence[Hashable]) -> bool:
    """Whether all but one word in ten are the same (one word at least, from four words on)."""
    longest = max(len(a), len(b))
    allowed = max(1, longest // WORDS_PER_CHANGE) if longest >= MIN_WORDS else 0
    if abs(len(a) - len(b)) > allowed:
        return False
    one, other = set(a), set(b)
    common = len(one & other)
    if longest - common > allowed and len(one) < len(a) and len(other) < len(b):  # words that stand twice in both
        common = (Counter(a) & Counter(b)).total()
    return longest - common <= allowed


class _Texts:
    """Texts as the numbers of their words, one text after another; of texts with the same words the first one."""

    def __init__(self) -> None:
        self.vocabulary: dict[str, int] = {}
        self.numbers = array("i")
        self.bounds: list[tuple[int, ...]] = []  # where each text's parts begin in `numbers`, and where the last ends
        self.positions: list[int] = []  # of each text in the input
        self._seen: dict[bytes, int] = {}

    def add(self, position: int, parts: tuple[str, ...]) -> int:
        """The position of the first text with these words: this one's, if it is new."""
        numbers, bounds = array("i"), [0]
        for part in parts:
            numbers.extend(self.vocabulary.setdefault(word, len(self.vocabulary)) for word in words(part))
            bounds.append(len(numbers))
        key = hashlib.blake2b(numbers.tobytes() + repr(bounds).encode(), digest_size=16).digest()
        first = self._seen.setdefault(key, position)
        if first == position:
            start = len(self.numbers)
            self.numbers.extend(numbers)
            self.bounds.append(tuple(start + bound for bound in bounds))
            self.positions.append(position)
        return first

    def are_near(self, a: int, b: int) -> bool:
        """Whether every part of the one is near the other's."""
        one, other = ([self.numbers[i:j] for i, j in pairwise(self.bounds[text])] for text in (a, b))
        return len(one) == len(other) and all(map(are_near, one, other))


def find_near(texts: Iterable[tuple[str, ...]], tell: Tell = lambda _: None) -> Near:
    """The near duplicates among `texts`; `tell` is told how far it is."""
    distinct = _Texts()
    first = [distinct.add(position, parts) for position, parts in enumerate(texts)]
    candidates = _candidates(distinct, tell)
    tell(f"comparing {len(candidates)} pairs")
    at = distinct.positions
    return Near(first, [(at[a], at[b]) for a, b in candidates if distinct.are_near(a, b)])


def keep(near: Near) -> list[int]:
    """The positions that stay when of near duplicates only the earliest is kept."""
    earlier: dict[int, list[int]] = {}
    for a, b in near.pairs:
        earlier.setdefault(b, []).append(a)
    kept: set[int] = set()
    for position, first in enumerate(near.first):
        if first == position and kept.isdisjoint(earlier.get(position, ())):
            kept.add(position)
    return sorted(kept)


def drop_duplicates(rows: Sequence[Row], near: bool, tell: Tell = lambda _: None) -> tuple[list[Row], dict[str, int]]:
    """The rows that stay, in their order, and how many went: exact repeats, and if `near` near duplicates and leaks.

    A leak is a row whose question stands with the same words, whatever its answer, in a split that outranks its own.
    """
    order = sorted(range(len(rows)), key=lambda i: (_STAYS.index(rows[i].split), i))
    once = {rows[i].id: i for i in reversed(order)}
    stay = [i for i in order if once[rows[i].id] == i]
    counts = {"exact": len(rows) - len(stay)}
    if near:
        before = len(stay)
        stay = [stay[place] for place in keep(find_near((parts(rows[i].record) for i in stay), tell))]
        counts["near"] = before - len(stay)
        leaks = find_leaks([rows[i] for i in stay])
        counts["leaks"] = len(leaks)
        stay = [i for place, i in enumerate(stay) if place not in leaks]
    return [rows[i] for i in sorted(stay)], counts


def find_leaks(rows: Sequence[Row]) -> dict[int, int]:
    """Rows whose question has the same words as one in a split that outranks theirs: their positions → that one's."""
    best: dict[Words, int] = {}
    asked = [words(question(row.record)) for row in rows]
    for position in sorted(range(len(rows)), key=lambda i: (_STAYS.index(rows[i].split), i)):
        best.setdefault(asked[position], position)
    return {i: best[asked[i]] for i, row in enumerate(rows) if rows[best[asked[i]]].split != row.split}


def parts(record: AnyRecord) -> tuple[str, ...]:
    """What must be near in each part for two records to be near duplicates: what is asked, and what is learnt from it.

    Labels and ranks are single words, so that they must be equal.
    """
    if isinstance(record, LabelledRecord):
        return question(record), "_".join((record.label or " ".join(record.tags or ())).split())
    said = [m.content for m in record.messages if m.role != "system"]
    if isinstance(record, PreferenceRecord):
        return "\n".join(said), record.chosen, record.rejected, str(record.tie)
    if isinstance(record, RankingRecord):
        ranked = sorted(zip(record.ranks, record.replies, strict=True))
        return ("\n".join(said), *(reply for _, reply in ranked), "_".join(str(rank) for rank, _ in ranked))
    if isinstance(record, RatedRecord):
        return "\n".join(said[:-1]), said[-1], str(record.good)
    return "\n".join(said[:-1]), said[-1]


def _candidates(texts: _Texts, tell: Tell) -> list[tuple[int, int]]:
    """Pairs whose MinHash signatures agree in one band at least, and not in that alone."""
    import numpy as np

    count = len(texts.bounds)
    if count < 2:
        return []
    lengths = np.array([bounds[-1] - bounds[0] for bounds in texts.bounds])
    most_parts = max(len(bounds) for bounds in texts.bounds)
    signatures = _signatures(texts, tell)
    found = np.empty(0, dtype=np.int64)
    for band in range(_BANDS):
        key = np.zeros(count, dtype=np.uint64)
        for row in range(_ROWS):
            # Odd multiplier: the rows of a band are mixed into one number.
            key = key * np.uint64(0x9E3779B97F4A7C15) + signatures[:, band * _ROWS + row]
        pairs = np.setdiff1d(_alike(key), found, assume_unique=True)
        a, b = np.divmod(pairs, count)
        longest = np.maximum(lengths[a], lengths[b])
        pairs = pairs[np.abs(lengths[a] - lengths[b]) <= longest // WORDS_PER_CHANGE + most_parts]
        found = np.concatenate((found, pairs[_share(signatures, pairs) >= _SHARED]))
    first, second = np.divmod(np.sort(found), count)
    return list(zip(first.tolist(), second.tolist(), strict=True))


def _signatures(texts: _Texts, tell: Tell) -> "np.ndarray[Any, Any]":
    """For each text the smallest hash of its words, for each of the hash functions."""
    import numpy as np

    numbers = np.frombuffer(texts.numbers, dtype=np.intc)
    starts = np.array([bounds[0] for bounds in texts.bounds])
    random = np.random.default_rng(0)  # the same texts in the same order always give the same pairs
    signatures = np.empty((len(starts), _BANDS * _ROWS), dtype=np.uint32)
    for column in range(_BANDS * _ROWS):
        if column % 32 == 0:
            tell(f"{column * 100 // (_BANDS * _ROWS)}%")
        hashes = random.integers(1 << 32, size=len(texts.vocabulary), dtype=np.uint32)
        signatures[:, column] = np.minimum.reduceat(hashes[numbers], starts)
    return signatures


def _share(signatures: "np.ndarray[Any, Any]", pairs: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """The share of equal hashes for each of the pairs a · texts + b."""
    import numpy as np

    shares = [np.empty(0)]
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        a, b = np.divmod(pairs[start : start + _PAIRS_AT_ONCE], len(signatures))
        shares.append((signatures[a] == signatures[b]).mean(axis=1))
    return np.concatenate(shares)


def _alike(key: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """The pairs a < b of equal keys, each as the number a · len(key) + b."""
    import numpy as np

    order = np.argsort(key, kind="stable")
    edges = [0, *(np.flatnonzero(np.diff(key[order])) + 1).tolist(), len(key)]
    found = array("q")
    for begin, end in pairwise(edges):
        crowd = order[begin:end].tolist()
        for offset, a in enumerate(crowd[:-1]):
            found.extend(a * len(key) + b for b in crowd[offset + 1 : offset + 1 + _CROWD])
        found.extend(crowd[0] * len(key) + b for b in crowd[_CROWD + 1 :])
    return np.array(found, dtype=np.int64)
