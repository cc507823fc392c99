"""Finding the passages that answer a question: vectors and words each propose, their ranks are fused.

Reciprocal rank fusion (Cormack et al. 2009, SIGIR, 758–759; k = 60) needs no scores that can be compared, so it holds
for any embedding model. Passages that say the same are folded into the best of them. A cross-encoder may have the
last word.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from assistant.chunking import Passage
from assistant.knowledge_store import KnowledgeStore
from assistant.lexical import Filters
from data.duplicates import Words, are_near, words
from data.errors import BrogueError, one_line
from data.settings import Frozen
from data.settings_knowledge import KnowledgeSettings

K = 60  # of the reciprocal ranks
_RERANKED = 20  # passages that the cross-encoder reads
_LONG = 30  # words
Rerank = Callable[[str, Sequence[str]], list[float]]


class Hit(Frozen):
    """One passage, and how it was found. Ranks count from 1; None: that search did not propose it."""

    passage: Passage
    score: float  # fused, from 0 to 1: 1 is first in both searches
    cosine: float | None
    cosine_rank: int | None
    bm25: float | None
    bm25_rank: int | None
    rerank: float | None = None  # the cross-encoder's, higher is better
    same: tuple[Passage, ...] = ()  # lower ones that say the same


class Found(Frozen):
    """What a search gave, the best first, and where its time went."""

    hits: tuple[Hit, ...]
    seconds: dict[str, float]  # embed, dense, lexical, fuse, rerank


def search(
    store: KnowledgeStore, question: str, settings: KnowledgeSettings, limit: int = 5, filters: Filters | None = None
) -> Found:
    """The `limit` best passages for `question`; `filters` name a source or meta values that they must have."""
    clock = _Clock()
    store.refresh()
    weight, most = settings.dense_weight, max(settings.candidates, limit)
    dense: list[tuple[str, float]] = []
    lexical: list[tuple[Passage, float]] = []
    if question.strip() and weight > 0:
        with clock("embed"):
            vector = store.embedder.encode([question], "query")[0]
        with clock("dense"):
            dense = store.nearest(vector, most, filters)
    if weight < 1:
        with clock("lexical"):
            lexical = store.with_words(question, most, filters)
    wanted = max(limit, _RERANKED) if settings.reranker else limit
    with clock("fuse"):
        hits = _passages(store, fuse(dense, lexical, weight), dense, lexical, wanted, settings.fold)
    if settings.reranker and hits:
        with clock("rerank"):
            hits = rerank(question, hits, cross_encoder(settings.reranker))
    return Found(hits=tuple(hits[:limit]), seconds=clock.seconds)


def fuse(
    dense: Sequence[tuple[str, float]], lexical: Sequence[tuple[Passage, float]], weight: float
) -> list[tuple[str, float]]:
    """Ids and fused scores, the best first: `weight` · 1/(K + rank) of the vectors, the rest of the words."""
    scores: dict[str, float] = {}
    for share, ids in ((weight, [id for id, _ in dense]), (1 - weight, [p.id for p, _ in lexical])):
        for rank, id in enumerate(ids, 1):
            scores[id] = scores.get(id, 0.0) + share * (K + 1) / (K + rank)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))


def rerank(question: str, hits: Sequence[Hit], score: Rerank) -> list[Hit]:
    """The hits in the order of the cross-encoder's scores."""
    scores = score(question, [hit.passage.searchable() for hit in hits])
    scored = [hit.model_copy(update={"rerank": s}) for hit, s in zip(hits, scores, strict=True)]
    return sorted(scored, key=lambda hit: -(hit.rerank or 0.0))


@lru_cache(maxsize=1)
def cross_encoder(name: str) -> Rerank:
    """Scores of a sentence-transformers cross-encoder: a folder or a hub id."""
    from sentence_transformers import CrossEncoder

    try:
        model = CrossEncoder(name)
    except Exception as error:  # a folder may be wrong in any way
        raise BrogueError(
            f"the reranker '{name}' cannot be loaded ({one_line(error, 120)}); mend knowledge.reranker in brogue.toml"
        ) from error

    def score(question: str, texts: Sequence[str]) -> list[float]:
        pairs = [(question, text) for text in texts]
        return [float(value) for value in model.predict(pairs, show_progress_bar=False)]

    return score


def _passages(
    store: KnowledgeStore, fused: Sequence[tuple[str, float]], dense: Sequence[tuple[str, float]],
    lexical: Sequence[tuple[Passage, float]], limit: int, fold: bool,
) -> list[Hit]:  # fmt: skip
    """The best `limit` of `fused` with their passages; those that say the same as a better one are put under it."""
    cosines = {id: (rank, score) for rank, (id, score) in enumerate(dense, 1)}
    bm25s = {p.id: (rank, score) for rank, (p, score) in enumerate(lexical, 1)}
    near = fused[: 3 * limit]  # what is folded makes room for so many more
    there = {p.id: p for p, _ in lexical}
    there |= store.get([id for id, _ in near if id not in there])
    hits: list[Hit] = []
    same: list[list[Passage]] = []
    seen: list[Words] = []
    for id, score in near:
        passage = there.get(id)
        if passage is None:  # removed since, by another process
            continue
        said = words(passage.text) if fold else ()
        twin = next((n for n, other in enumerate(seen) if fold and _say_the_same(said, other)), None)
        if twin is not None:
            same[twin].append(passage)
        elif len(hits) < limit:
            cosine_rank, cosine = cosines.get(id, (None, None))
            bm25_rank, bm25 = bm25s.get(id, (None, None))
            hits.append(Hit(passage=passage, score=score, cosine=cosine, cosine_rank=cosine_rank, bm25=bm25,
                            bm25_rank=bm25_rank))  # fmt: skip
            seen.append(said)
            same.append([])
    return [hit.model_copy(update={"same": tuple(others)}) for hit, others in zip(hits, same, strict=True)]


def _say_the_same(a: Words, b: Words) -> bool:
    """Whether they hold the same words; of long ones, all but one in ten, and the same numbers.

    14 days are not 30 days, and in a short text, such as a table's row, one word makes it another one.
    """
    return a == b or (len(a) >= _LONG and are_near(a, b) and _with_digits(a) == _with_digits(b))


def _with_digits(text: Words) -> list[str]:
    return [word for word in text if any(sign.isdigit() for sign in word)]


class _Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[Any]:
        began = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - began
