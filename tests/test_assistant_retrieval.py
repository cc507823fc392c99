"""The search over words and vectors: nothing in a question is read as an operator, repeats are folded, filters hold."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assistant.knowledge_langchain import as_retriever
from assistant.knowledge_store import KnowledgeStore
from assistant.retrieval import cross_encoder, fuse, rerank, search
from data.errors import BrogueError
from data.settings_knowledge import KnowledgeSettings
from tests.knowledge_fakes import open_store, passage

SETTINGS = KnowledgeSettings()


def stocked(folder: Path) -> KnowledgeStore:
    """A knowledge of four passages."""
    opened = open_store(folder)
    opened.upsert(
        [
            passage("Plants may be sent back within 30 days of delivery.", "returns.md", meta={"type": "markdown"}),
            passage("The shop opens at nine and closes at five.", "hours.md", meta={"type": "markdown"}),
            passage("Delivery to the islands costs 12 crowns.", "delivery.pdf", page=2, meta={"type": "pdf"}),
            passage("植物は三十日以内に返品できます。", "returns-ja.md"),
        ]
    )
    return opened


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KnowledgeStore]:
    """The knowledge for reading only."""
    opened = stocked(tmp_path_factory.mktemp("store"))
    yield opened
    opened.close()


@pytest.fixture
def growing(tmp_path: Path) -> Iterator[KnowledgeStore]:
    """The knowledge for tests that add to it."""
    opened = stocked(tmp_path)
    yield opened
    opened.close()


def texts(store: KnowledgeStore, question: str, **settings: Any) -> list[str]:
    return [hit.passage.text for hit in search(store, question, KnowledgeSettings(**settings)).hits]


@pytest.mark.parametrize(
    "question",
    [
        'delivery AND ( "islands',
        "delivery islands*",
        "islands:12 -crowns +delivery",
        "delivery?! \\ /islands/ [1 TO 3]",
    ],
)
def test_signs_in_a_question_are_not_operators(store: KnowledgeStore, question: str) -> None:
    assert texts(store, question, dense_weight=0)[0].startswith("Delivery to the islands")


def test_one_common_word_is_enough_for_an_answer(store: KnowledgeStore) -> None:
    assert texts(store, "do you have anything at all about crowns", dense_weight=0) == [
        "Delivery to the islands costs 12 crowns."
    ]


def test_word_endings_do_not_matter_in_the_documents_language(store: KnowledgeStore) -> None:
    assert texts(store, "island deliveries", dense_weight=0)[0].startswith("Delivery to the islands")


def test_words_are_found_in_languages_without_blanks(store: KnowledgeStore) -> None:
    assert texts(store, "返品", dense_weight=0)[0].startswith("植物")


@pytest.mark.parametrize("question", ["", "   ", "\0", "?!", "the of and"])
def test_a_question_without_words_is_no_error(store: KnowledgeStore, question: str) -> None:
    search(store, question, SETTINGS)


def test_of_a_pasted_page_the_rare_words_count(store: KnowledgeStore) -> None:
    page = " ".join(f"chatter{n}" for n in range(20_000)) + " crowns " + "delivery " * 5000
    assert texts(store, page, dense_weight=0)[0].startswith("Delivery to the islands")


def test_an_empty_knowledge_gives_nothing(tmp_path: Path) -> None:
    empty = open_store(tmp_path)
    assert search(empty, "anything", SETTINGS).hits == ()
    empty.close()


def test_filters_hold_in_both_searches(store: KnowledgeStore) -> None:
    for settings in (SETTINGS, KnowledgeSettings(dense_weight=0), KnowledgeSettings(dense_weight=1)):
        hits = search(store, "delivery days", settings, filters={"type": "pdf"}).hits
        assert [hit.passage.source for hit in hits] == ["delivery.pdf"]
        hits = search(store, "delivery days", settings, filters={"type": "markdown", "source": "returns.md"}).hits
        assert [hit.passage.source for hit in hits] == ["returns.md"]
        assert search(store, "delivery days", settings, filters={"type": "docx"}).hits == ()


def test_a_hit_says_how_each_search_found_it(store: KnowledgeStore) -> None:
    found = search(store, "Delivery to the islands costs 12 crowns.", SETTINGS)
    best = found.hits[0]
    assert (best.cosine_rank, best.bm25_rank, best.score) == (1, 1, 1.0)
    assert best.cosine == pytest.approx(1, abs=0.01)
    assert best.bm25 and best.bm25 > 0
    assert set(found.seconds) == {"embed", "dense", "lexical", "fuse"}
    only_near = found.hits[-1]
    assert (only_near.bm25, only_near.bm25_rank) == (None, None)


def test_ranks_are_fused_by_weight() -> None:
    a, b, c = passage("a"), passage("b"), passage("c")
    dense, lexical = [(a.id, 0.9), (b.id, 0.8)], [(b, 12.0), (c, 3.0)]
    assert [id for id, _ in fuse(dense, lexical, 0.5)] == [b.id, a.id, c.id]
    assert fuse(dense, lexical, 0.5)[0][1] == pytest.approx((61 / 62 + 1) / 2)
    assert [id for id, score in fuse(dense, lexical, 1.0) if score] == [a.id, b.id]


def test_repeats_are_folded_into_the_best_and_make_room(growing: KnowledgeStore) -> None:
    again = [passage("Plants may be sent back within 30 days of delivery!", f"copy-{n}.md") for n in range(3)]
    growing.upsert([*again, passage("Plants are sent in a box within 2 days of an order.", "sending.md")])
    hits = search(growing, "plants sent back within days", SETTINGS, limit=2).hits
    assert len(hits[0].same) == 3
    assert hits[1].passage.source == "sending.md"
    assert len({h.passage.text.rstrip("!.") for h in search(growing, "plants sent back", SETTINGS).hits}) > 1
    unfolded = search(growing, "plants sent back within days", KnowledgeSettings(fold=False), limit=4).hits
    assert all(hit.passage.text.startswith("Plants may be sent back") for hit in unfolded)


def test_passages_with_another_number_are_not_folded(growing: KnowledgeStore) -> None:
    growing.upsert([passage("Plants may be sent back within 14 days of delivery.", "outlet.md")])
    hits = search(growing, "plants sent back within days of delivery", SETTINGS, limit=2).hits
    assert {hit.passage.source for hit in hits} == {"returns.md", "outlet.md"}


def test_short_passages_that_differ_in_one_word_are_not_folded(growing: KnowledgeStore) -> None:
    growing.upsert(
        [passage(f"plant: {name}\nprice: 12 crowns\nsold in: pots", "prices.csv") for name in ("rose", "iris")]
    )
    hits = search(growing, "plant price crowns sold in pots", SETTINGS).hits
    assert {"rose", "iris"} <= {word for hit in hits for word in hit.passage.text.split()}


def test_long_passages_that_hardly_differ_are_folded_but_not_with_another_number(growing: KnowledgeStore) -> None:
    terms = " ".join(f"clause{n}" for n in range(40))
    growing.upsert([passage(f"{terms} {last}", f"{last}.md") for last in ("signed", "stamped", "2025", "2026")])
    hits = search(growing, terms, SETTINGS).hits
    folded = {frozenset([hit.passage.source, *(p.source for p in hit.same)]) for hit in hits}
    assert {frozenset(["signed.md", "stamped.md"]), frozenset(["2025.md"]), frozenset(["2026.md"])} <= folded


def test_a_reranker_has_the_last_word(store: KnowledgeStore) -> None:
    hits = search(store, "delivery", SETTINGS).hits
    turned = rerank("delivery", hits, lambda _, passages: [float(len(text)) for text in passages])
    assert [len(hit.passage.text) for hit in turned] == sorted((len(h.passage.text) for h in hits), reverse=True)
    assert turned[0].rerank == max(len(hit.passage.text) for hit in hits)


@pytest.mark.slow
def test_a_cross_encoder_in_a_folder_reranks(store: KnowledgeStore, tmp_path: Path) -> None:
    from transformers import BertForSequenceClassification

    from tests.tiny_models import make_model

    folder = make_model(
        tmp_path / "cross", BertForSequenceClassification, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, num_labels=1,
    )  # fmt: skip
    found = search(store, "delivery", KnowledgeSettings(reranker=str(folder)))
    scores = [hit.rerank for hit in found.hits]
    assert all(isinstance(score, float) for score in scores)
    assert scores == sorted(scores, key=lambda s: -(s or 0))
    assert found.seconds["rerank"] > 0


@pytest.mark.slow
def test_a_reranker_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BrogueError, match="reranker .* cannot be loaded .*brogue.toml"):
        cross_encoder(str(tmp_path / "nothing"))


def test_a_knowledge_is_a_langchain_retriever(store: KnowledgeStore) -> None:
    documents = as_retriever(store, SETTINGS, limit=2).invoke("islands delivery costs")
    assert documents[0].page_content == "Delivery to the islands costs 12 crowns."
    assert documents[0].metadata["source"] == "delivery.pdf"
    assert documents[0].metadata["page"] == 2
    assert documents[0].metadata["score"] == 1.0
