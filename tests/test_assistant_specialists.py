"""Specialists: small models of their own. What they learn, what they refuse, and that they stay what they are."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.measure_pieces import messages
from adapters.measure_task_labels import spans
from assistant import specialist_encoder, specialist_types, specialists
from assistant.advice_types import Records, Task, TaskKind
from assistant.specialist_reader import page
from assistant.specialist_tags import decoded
from assistant.specialist_types import Learned, SpecialistCard, targets
from assistant.specialists import (
    kinds_for,
    list_specialists,
    load_specialist,
    open_specialist,
    train_specialist,
)
from data.dataset import Row, make_rows
from data.errors import BrogueError, DataError
from data.home import Home
from data.records import AnyRecord, InstructionRecord, LabelledRecord
from tests.knowledge_fakes import WordEmbedder

LABELS = {
    "delivery": [
        "Where is my parcel",
        "My parcel has not come",
        "When does the parcel arrive",
        "Is my parcel on its way",
    ],
    "refund": ["I want my money back", "Give me the money back", "When is the money paid back", "Money back please"],
    "opening": ["Are you open on Sunday", "When do you open", "How long is the shop open", "Is it open today"],
}
CONTEXTS = [
    f"The {thing} was built by {name} in {year}. It stands in {town}. Many people visit it on Sundays."
    for thing, name, year, town in [
        ("tower", "Anna Berg", 1901, "Lund"), ("bridge", "Carl Dahl", 1887, "Bergen"),
        ("mill", "Eva Falk", 1755, "Ribe"), ("castle", "Gustav Holm", 1620, "Turku"),
        ("chapel", "Ida Krog", 1930, "Odense"), ("barn", "Lars Moe", 1811, "Visby"),
        ("harbour", "Nina Pil", 1966, "Kiel"), ("school", "Otto Rask", 1899, "Malmo"),
        ("theatre", "Sara Toft", 1978, "Oslo"),
    ]
]  # fmt: skip


class _Closed(list[Row]):
    """Test records that must not be looked at."""

    def __iter__(self) -> Iterator[Row]:
        raise AssertionError("a specialist looked at the test records")


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> WordEmbedder:
    """Vectors of words instead of the embedding model's."""
    embedder = WordEmbedder(dimension=512)
    monkeypatch.setattr(specialist_types, "open_embedder", lambda *_, **__: embedder)
    return embedder


def task(kind: TaskKind, metric: str, labels: tuple[str, ...] = ()) -> Task:
    return Task(dataset="shop", digest="0", kind=kind, metric=metric, labels=labels)


def records(train: list[AnyRecord], validation: list[AnyRecord]) -> Records:
    return Records(make_rows(train, (100, 0, 0)), make_rows(validation, (0, 100, 0)), _Closed())


def labelled() -> Records:
    rows = [
        (LabelledRecord(text=text, label=label), n) for label, texts in LABELS.items() for n, text in enumerate(texts)
    ]
    return records([record for record, n in rows if n], [record for record, n in rows if not n])


def asked(home: Home, name: str, *texts: str) -> list[str]:
    return open_specialist(home, name).answers([[{"role": "user", "content": text}] for text in texts])


def test_sentence_embeddings_label_texts_in_other_words(home: Home) -> None:
    card = train_specialist(home, "intents", "embedding-lr", task("labels", "accuracy"), labelled())
    texts = ["Has the courier lost my package?", "Can I be reimbursed?", "What are your business hours?"]
    assert asked(home, "intents", *texts) == ["delivery", "refund", "opening"]
    assert card.embedding is not None
    assert (card.rows, card.validation_rows, card.validation) == (9, 3, 1.0)
    assert card.trained == 3 * 384 + 3


def test_words_alone_label_texts_and_need_no_embedding_model(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the embedding model was opened")

    monkeypatch.setattr(specialist_types, "open_embedder", refuse)
    card = train_specialist(home, "intents", "word-lr", task("labels", "f1_macro"), labelled())
    assert asked(home, "intents", "my parcels", "OPEN?", "mony back") == ["delivery", "opening", "refund"]
    assert card.embedding is None


@pytest.mark.parametrize("kind", ["embedding-lr", "word-lr"])
@pytest.mark.usefixtures("words")
def test_a_label_without_a_training_text_is_never_given(home: Home, kind: str) -> None:
    rows = labelled()
    kept = rows._replace(train=[row for row in rows.train if targets(row) != ("refund",)])
    train_specialist(home, "two", kind, task("labels", "accuracy", tuple(LABELS)), kept)
    assert set(asked(home, "two", "money back", "parcel", "open", "🙂", "")) <= {"delivery", "opening"}
    one = kept._replace(train=kept.train[:1])
    train_specialist(home, "one", kind, task("labels", "accuracy", tuple(LABELS)), one)
    assert asked(home, "one", "anything") == [targets(one.train[0])[0]]


def test_tags_are_written_one_a_line_and_names_begin_where_they_begin(home: Home) -> None:
    towns = ["Lund", "Bergen", "Oslo", "Kiel", "Visby", "Ribe"]
    rows: list[AnyRecord] = [
        LabelledRecord(tokens=("I", "live", "in", "New", town, "now"), tags=("O", "O", "O", "B-place", "I-place", "O"))
        for town in towns
    ]
    card = train_specialist(home, "places", "window-lr", task("tags", "entity_f1"), records(rows[:-1], rows[-1:]))
    assert asked(home, "places", "I live in New Turku now") == ["I O\nlive O\nin O\nNew B-place\nTurku I-place\nnow O"]
    assert asked(home, "places", "", "We live in Old Malmo")[0] == ""
    assert (card.metric, card.validation) == ("entity_f1", 1.0)


def test_no_tag_stands_where_it_may_not() -> None:
    tags = ["B-a", "B-b", "I-a", "I-b", "O"]
    chance = np.random.default_rng(0)
    for _ in range(200):
        found = decoded(tags, chance.normal(size=(9, 5)) * 3)
        assert not found[0].startswith("I-")
        assert all(not b.startswith("I-") or a[2:] == b[2:] for a, b in zip(found, found[1:], strict=False))
    free = chance.normal(size=(9, 3))  # tags of another form follow each other as they like
    assert decoded(["I-x", "NOUN", "VERB"], free) == [["I-x", "NOUN", "VERB"][n] for n in free.argmax(axis=1)]


def test_held_back_the_outside_tag_gives_way_to_names() -> None:
    shares = np.log([[0.3, 0.7], [0.6, 0.4], [0.1, 0.9]])
    assert decoded(["B-a", "O"], shares) == ["O", "B-a", "O"]
    assert decoded(["B-a", "O"], shares, 1.0) == ["B-a", "B-a", "O"]
    assert decoded(["B-a", "O"], shares[:0]) == []


@pytest.mark.usefixtures("words")
def test_the_answer_to_the_most_similar_question_is_given(home: Home) -> None:
    pairs = [
        ("How do I return a plant?", "Send it back."),
        ("Which soil do roses need?", "Loam."),
        ("Are you open?", "Yes."),
    ]
    rows = records([InstructionRecord(prompt=q, response=a) for q, a in pairs], [])
    card = train_specialist(home, "answers", "nearest-answer", task("words", "token_f1"), rows)
    assert asked(home, "answers", "how do I return a rose", "which soil") == ["Send it back.", "Loam."]
    assert (card.validation, card.trained) == (None, 0)


def test_the_reader_gives_a_piece_of_the_text_that_comes_with_the_question(home: Home) -> None:
    made: list[AnyRecord] = []
    for text in CONTEXTS:
        thing, name, year, town = (
            text.split()[1],
            " ".join(text.split()[5:7]),
            text.split()[8][:-1],
            text.split()[12][:-1],
        )
        made += [
            InstructionRecord(prompt=f"{text}\n\nWho built the {thing}?", response=name),
            InstructionRecord(prompt=f"{text}\n\nWhen was the {thing} built?", response=year),
            InstructionRecord(prompt=f"{text}\n\nWhere does the {thing} stand?", response=town),
        ]
    card = train_specialist(home, "reader", "extract", task("words", "token_f1"), records(made[:-3], made[-3:]))
    text = "The wall was built by Ulla Vang in 1432. It stands in Riga. Many people visit it on Sundays."
    assert asked(home, "reader", f"{text}\n\nWho built the wall?", f"{text}\n\nWhere does the wall stand?") == [
        "Ulla Vang",
        "Riga",
    ]
    quoted = f"[1] Walls > Old\n> {text}\n\nQuestion: When was the wall built?"
    assert asked(home, "reader", quoted, "Who?") == ["1432", ""]
    assert card.notes[0] == "24 of 24 answers stand in their texts"


@pytest.mark.usefixtures("words")
def test_the_reader_refuses_answers_that_stand_nowhere(home: Home) -> None:
    rows = records(
        [InstructionRecord(prompt="Nice weather?", response="I like it."), InstructionRecord(prompt="a", response="b")],
        [],
    )
    with pytest.raises(
        DataError, match="only 0 of 2 answers in shop stand in their prompts; another kind fits: nearest-answer"
    ):
        train_specialist(home, "reader", "extract", task("words", "token_f1"), rows)
    assert list_specialists(home) == []
    assert not any((home.root / "specialists").glob("*"))


@pytest.mark.parametrize(
    ("prompt", "question", "sentences"),
    [
        ("One. Two is here.\n\nWho is two?", "Who is two?", ("One.", "Two is here.")),
        ("Who is two?\nOne. Why? Two is here.", "Who is two?", ("One.", "Why?", "Two is here.")),
        ("Text: it rains. Question: where?", "where?", ("Text: it rains.",)),
        ("首都です。人口は多い。\nどこですか？", "どこですか？", ("首都です。", "人口は多い。")),
        ("[1] A\n> One.\n> Two.\n\n[2] B\n> Three.\n\nQuestion: say it", "say it", ("One.", "Two.", "Three.")),
        ("", "", ()),
    ],
)  # fmt: skip
def test_a_prompt_is_taken_apart_into_question_and_text(prompt: str, question: str, sentences: tuple[str, ...]) -> None:
    found = page(prompt)
    assert (found.question, found.sentences) == (question, sentences)
    assert all(found.text[token.start : token.end] == token.text for token in found.tokens)


def test_an_equal_one_is_used_again_and_another_one_is_refused(home: Home, words: WordEmbedder) -> None:
    first = train_specialist(home, "intents", "embedding-lr", task("labels", "accuracy"), labelled())
    words.embedded = 0
    assert train_specialist(home, "intents", "embedding-lr", task("labels", "accuracy"), labelled()) == first
    fewer = labelled()._replace(train=labelled().train[1:])
    with pytest.raises(
        BrogueError, match="specialist 'intents' was made of other records; choose another name, or remove /"
    ):
        train_specialist(home, "intents", "embedding-lr", task("labels", "accuracy"), fewer)
    assert load_specialist(home, "intents") == first


@pytest.mark.usefixtures("words")
def test_nothing_is_left_of_one_that_was_interrupted_while_it_was_written(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(specialists, "save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_specialist(home, "intents", "embedding-lr", task("labels", "accuracy"), labelled())
    assert list((home.root / "specialists").iterdir()) == []


@pytest.mark.usefixtures("words")
def test_a_specialist_is_json_and_arrays_and_its_card_counts_them(home: Home) -> None:
    for kind in ("embedding-lr", "word-lr"):
        card = train_specialist(home, kind, kind, task("labels", "accuracy"), labelled())
        files = {path.name: path for path in specialists.folder_of(home, kind).iterdir()}
        assert set(files) == {"card.json", "arrays.safetensors", "facts.json"}
        assert card.bytes == sum(path.stat().st_size for name, path in files.items() if name != "card.json")


@pytest.mark.usefixtures("words")
def test_it_is_opened_once_however_many_ask_at_the_same_time(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    train_specialist(home, "intents", "embedding-lr", task("labels", "accuracy"), labelled())
    opened: list[Path] = []
    read = specialists._read

    def counted(folder: Path) -> Learned:
        opened.append(folder)
        return read(folder)

    monkeypatch.setattr(specialists, "_read", counted)
    specialist, found = open_specialist(home, "intents"), list[str]()
    assert opened == []  # not before it is asked
    threads = [
        threading.Thread(target=lambda: found.append(specialist.answer([{"role": "user", "content": "parcel"}])))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (found, len(opened)) == (["delivery"] * 8, 1)


@pytest.mark.usefixtures("words")
def test_another_embedding_model_than_it_was_trained_with_is_refused(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_specialist(home, "intents", "embedding-lr", task("labels", "accuracy"), labelled())
    monkeypatch.setattr(specialist_types, "open_embedder", lambda *_, **__: WordEmbedder("other", 512))
    with pytest.raises(
        BrogueError, match="'intents' was trained on vectors of words-64, but brogue.toml names other; set"
    ):
        asked(home, "intents", "parcel")


def test_mistakes_are_one_line(home: Home) -> None:
    with pytest.raises(
        BrogueError, match="no specialist 'nobody'; have: none yet. Make one: brogue advise --data NAME"
    ):
        open_specialist(home, "nobody")
    with pytest.raises(BrogueError, match="'../evil' cannot name a specialist"):
        open_specialist(home, "../evil")
    with pytest.raises(BrogueError, match="no kind of specialist 'magic'; have: "):
        train_specialist(home, "x", "magic", task("labels", "accuracy"), labelled())
    with pytest.raises(BrogueError, match="'window-lr' is for tags, but shop wants labels; fitting: embedding-lr, "):
        train_specialist(home, "x", "window-lr", task("labels", "accuracy"), labelled())
    with pytest.raises(BrogueError, match="'word-lr' has no training records in shop; wanted at least 1"):
        train_specialist(home, "x", "word-lr", task("labels", "accuracy"), labelled()._replace(train=[]))


def test_a_damaged_folder_is_told_in_one_line(home: Home) -> None:
    train_specialist(home, "intents", "word-lr", task("labels", "accuracy"), labelled())
    folder = specialists.folder_of(home, "intents")
    (folder / "arrays.safetensors").write_bytes(b"no tensors")
    with pytest.raises(BrogueError, match="cannot be read .* train it again"):
        asked(home, "intents", "parcel")
    (folder / "card.json").write_text("{}")
    with pytest.raises(BrogueError, match="card.json: not a specialist's card"):
        open_specialist(home, "intents")


def test_each_kind_of_task_has_its_kinds() -> None:
    assert kinds_for(task("labels", "accuracy")) == ("embedding-lr", "word-lr", "encoder")
    assert kinds_for(task("tags", "entity_f1")) == ("window-lr", "encoder")
    assert kinds_for(task("words", "rouge_l")) == ("nearest-answer", "extract")
    assert kinds_for(task("words", "exact_match"))[0] == "embedding-lr"  # a few fixed answers are labels
    assert kinds_for(task("pairs", "preference")) == ()


@pytest.mark.slow
def test_the_tuned_embedding_model_labels_and_tags_and_is_the_same_when_reopened(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(specialist_encoder, "_STEPS", 40)
    card = train_specialist(home, "intents", "encoder", task("labels", "accuracy"), labelled())
    assert card.validation == 1.0
    assert asked(home, "intents", "Where is the parcel?", "money") == ["delivery", "refund"]
    assert card.bytes < 30_000_000  # the layers, without the words' own embeddings, at two bytes a number
    towns = ["Lund", "Bergen", "Oslo", "Kiel", "Visby", "Ribe"]
    rows: list[AnyRecord] = [
        LabelledRecord(tokens=("I", "live", "in", town, "now"), tags=("O", "O", "O", "B-place", "O"))
        for town in towns * 2
    ]
    card = train_specialist(home, "places", "encoder", task("tags", "entity_f1"), records(rows[:-1], rows[-1:]))
    assert asked(home, "places", "I live in Turku now", "") == ["I O\nlive O\nin O\nTurku B-place\nnow O", ""]
    assert card.validation == 1.0


@pytest.mark.slow
@pytest.mark.data
def test_eight_texts_of_each_of_banking77s_intents_give_about_the_published_accuracy(
    home: Home, public_data: Path
) -> None:
    """MTEB has 0.80 for this embedding model, on other test records; three standard errors of 300 are 0.07."""
    from benchmarks.specialists import few, read

    rows = read(home, "banking77", public_data)
    few_of_each = few(rows.train, 8, seed=0)
    held = rows._replace(train=few_of_each, validation=[], test=rows.test[:300])
    train_specialist(home, "intents", "embedding-lr", task("labels", "accuracy"), held)
    given = open_specialist(home, "intents").answers([messages(row.record) for row in held.test])
    right = np.mean([said == targets(row)[0] for said, row in zip(given, held.test, strict=True)])
    assert len(few_of_each) == 77 * 8
    assert 0.72 < right < 0.9


@pytest.mark.data
def test_names_are_found_in_what_people_write(home: Home, public_data: Path) -> None:
    """Words without a name are 19 in 20, so finding none gives 0; half of a published system's figure is 0.2."""
    from benchmarks.specialists import read

    rows = read(home, "wnut17", public_data)
    card: SpecialistCard = train_specialist(home, "names", "window-lr", task("tags", "entity_f1"), rows)
    given = open_specialist(home, "names").answers([messages(row.record) for row in rows.test])
    said = [spans([line.rsplit(None, 1)[1] for line in text.splitlines()]) for text in given]
    wanted = [spans(targets(row)) for row in rows.test]
    right = sum(len(a & b) for a, b in zip(said, wanted, strict=True))
    assert 2 * right / (sum(map(len, said)) + sum(map(len, wanted))) > 0.25
    assert card.labels or card.rows == len(rows.train)
