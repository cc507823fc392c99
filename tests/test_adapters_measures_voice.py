"""Does it sound like the brand, and does it say the same to everything? On texts whose answer is known."""

import math
import random

import numpy as np
import pytest

from adapters import measure_repetition, measure_voice
from adapters.exam_statistics import measured
from adapters.exam_types import Arm, Measured, Messages, Part
from adapters.measure_repetition import identical, repeated, shared
from adapters.measure_style import FEATURES, Style, features, grade
from adapters.measure_voice import holds, likeness
from adapters.measures import MEASURES, find
from data.dataset import Row
from data.errors import BrogueError
from data.records import InstructionRecord, LabelledRecord
from tests.exam_room import ScriptedRoom, row

PLANTS = [f"plant {number} {name}" for number, name in enumerate(["fern", "moss", "rose", "oak", "ivy", "elm"] * 6)]
PART = Part(measure="voice", data="acme")


def of_brand(plant: str) -> str:
    """As the brand writes."""
    return f"Lovely that you ask about {plant}! Water it on Mondays, give it shade. Happy gardening, Fern"


def of_base(plant: str) -> str:
    """As the base model writes."""
    return f"There are several factors regarding {plant}:\n1. The amount of water.\n2. The amount of sunlight required."


def rows() -> list[Row]:
    return [row(InstructionRecord(prompt=f"How do I keep {plant}?", response=of_brand(plant))) for plant in PLANTS]


def says(arm: Arm, messages: Messages) -> str:
    plant = str(messages[-1]["content"])[len("How do I keep ") : -1]
    if arm == "version":
        return of_brand(plant).replace("Lovely that you ask", "How nice to hear")
    return of_base(plant)


def taken(room: ScriptedRoom, part: Part) -> dict[str, Measured]:
    return {one.name: measured(one, room.arms) for one in find(part.measure)(room, part)}


def test_a_version_that_writes_like_the_brand_is_nearer_to_it_than_the_base_model() -> None:
    found = taken(ScriptedRoom(says=says, rows=rows()), PART)
    near, style = found["voice.likeness"], found["voice.style_distance"]
    assert near.arms["version"].low > 0.7 > 0.3 > near.arms["base"].high
    assert near.over["against"].low > 0.4
    assert style.arms["version"].high < style.arms["base"].low
    assert "The brand's own texts: 0.9" in near.note
    assert found["voice.language"].arms["version"].value == 1


def test_no_text_is_judged_by_a_classifier_that_learnt_it() -> None:
    # Both sides draw from the same words: who had seen the texts would tell them apart, who has not cannot.
    draw = random.Random(1)
    words = [f"{a}{b}{c}" for a in "bdg" for b in "aeiou" for c in "lmnrst"]
    brand, base = ([" ".join(draw.choices(words, k=12)) for _ in range(60)] for _ in range(2))
    scores, own = likeness([f"question {n}" for n in range(60)], brand, base, {"base": base, "version": brand})
    assert 0.35 < float(np.mean(scores["base"])) < 0.65
    assert abs(own - float(np.mean(scores["version"]))) < 1e-9
    assert abs(own - float(np.mean(scores["base"]))) < 0.2


def test_answers_to_one_question_never_stand_on_both_sides_of_a_fold() -> None:
    # The same question asked ten times, always answered alike: only by the other questions can it be judged.
    questions = [f"question {n // 10}" for n in range(30)]
    brand = [f"{['red', 'blue', 'green'][n // 10]} hello" for n in range(30)]
    base = [f"{['one', 'two', 'three'][n // 10]} hello" for n in range(30)]
    scores, _ = likeness(questions, brand, base, {"version": brand})
    assert max(scores["version"]) < 0.9


def test_the_brands_own_mean_text_has_no_distance_from_it() -> None:
    texts = [of_brand(plant) for plant in PLANTS]
    style = Style(texts)
    parts = style.parts(texts)
    assert parts.shape == (len(texts), len(FEATURES) + 1)
    assert style.distance(parts.sum(0, keepdims=True))[0] == pytest.approx(0, abs=1e-9)
    assert style.distance(style.parts([of_base("ivy")]))[0] > 0.5


def test_any_text_has_a_style_even_an_empty_one() -> None:
    for text in ("", "…", "ok", "これは文です。", "1", "a" * 5000):
        assert len(features(text)) == len(FEATURES) and all(math.isfinite(x) for x in features(text))
        assert math.isfinite(grade(text))


def test_the_reading_level_is_the_automated_readability_index() -> None:
    text = "The quick brown foxes jump over the lazy dogs. They sleep well."
    strokes, words, sentences = len(text.replace(" ", "")), 12, 2
    assert grade(text) == pytest.approx(4.71 * strokes / words + 0.5 * words / sentences - 21.43, abs=0.1)


def test_required_and_forbidden_phrases_are_found_as_whole_words() -> None:
    assert holds("Happy  gardening,\nFern", "happy gardening")
    assert holds("That is it!", "it!") and holds("Write to us@acme.example", "@acme")
    assert not holds("The cattle", "cat")
    options = {"required": ["Happy gardening", "Mondays"], "forbidden": ["several factors"]}
    found = taken(ScriptedRoom(says=says, rows=rows()), PART.model_copy(update={"options": options}))
    assert found["voice.required"].arms["version"].value == 1 and found["voice.required"].arms["base"].value == 0
    assert found["voice.forbidden"].over["base"].value == -1
    assert "The brand's own texts: 1.00." in found["voice.required"].note


def test_another_language_is_noticed_and_short_answers_are_not_counted() -> None:
    def mixed(arm: Arm, messages: Messages) -> str:
        if arm == "version":
            return "Bitte gießen Sie die Pflanze jeden Montag und stellen Sie sie in den Schatten."
        return says(arm, messages) if arm == "base" else "Ok."

    found = taken(ScriptedRoom(says=mixed, rows=rows()), PART)["voice.language"]
    assert found.arms["version"].value == 0 and found.arms["base"].value == 1


def test_too_few_texts_of_the_brand_are_refused_in_one_line() -> None:
    with pytest.raises(
        BrogueError, match="'voice' wants the brand's answers to at least 20 questions in the test split of acme"
    ):
        find("voice")(ScriptedRoom(says=says, rows=rows()[:5]), PART)
    labelled = [row(LabelledRecord(text=f"t {n}", label="x")) for n in range(30)]
    same = [row(InstructionRecord(prompt="How do I keep moss?", response=of_brand(plant))) for plant in PLANTS]
    with pytest.raises(BrogueError, match="found 1"):
        find("voice")(ScriptedRoom(says=says, rows=same), PART)
    with pytest.raises(BrogueError, match="found 0"):
        find("voice")(ScriptedRoom(says=says, rows=labelled), PART)


def test_an_option_that_is_not_there_is_refused_in_one_line() -> None:
    with pytest.raises(BrogueError, match="options of 'voice'.*requird"):
        find("voice")(ScriptedRoom(says=says, rows=rows()), PART.model_copy(update={"options": {"requird": []}}))


def test_a_version_that_learnt_one_phrase_by_heart_is_seen_in_every_figure() -> None:
    def parrot(arm: Arm, messages: Messages) -> str:
        return "Buy our new fern today! " * 5 if arm == "version" else says(arm, messages)

    found = taken(ScriptedRoom(says=parrot, rows=rows()), Part(measure="repetition", data="acme"))
    for name, least in (("identical", 1), ("repeated", 0.7), ("shared_phrases", 1)):
        figure = found[f"repetition.{name}"]
        assert figure.arms["version"].value >= least, name
        assert figure.over["against"].low > 0, name


def test_repetition_without_data_asks_everyday_questions() -> None:
    room = ScriptedRoom(says=lambda arm, messages: f"{arm}: {messages[-1]['content']}")
    found = taken(room, Part(measure="repetition"))
    assert found["repetition.identical"].n == 30
    assert found["repetition.identical"].arms["version"].value == 0


def test_identical_answers_count_only_between_different_prompts() -> None:
    prompts = [[{"role": "user", "content": text}] for text in ("a", "a", "b", "c", "d")]
    assert identical(prompts, ["Same.", "same", "other", "OTHER!", ""]) == [0, 0, 1, 1, 1]


def test_repeated_words_are_one_less_the_share_of_distinct_four_word_sequences() -> None:
    text = "a b c d e a b c d f"
    words = text.split()
    grams = [tuple(words[n : n + 4]) for n in range(len(words) - 3)]
    assert list(repeated([text])[0]) == [len(grams) - len(set(grams)), len(grams)]
    assert list(repeated(["one two"])[0]) == [0, 1] and list(repeated([""])[0]) == [0, 1]


def test_a_closing_line_is_the_part_of_the_words_that_it_is() -> None:
    texts = [f"{name} number {n} is here, see you very soon" for n, name in enumerate(["ash", "elm", "oak", "fir"])]
    parts = shared(texts, 0.5)
    assert [list(one) for one in parts] == [[6.0, 9.0]] * 4  # "is here see you very soon"


def test_every_measure_can_be_imported_by_its_name() -> None:
    assert all(callable(find(name)) for name in MEASURES)
    assert measure_voice.measure is find("voice") and measure_repetition.measure is find("repetition")
