"""Does it sound like the brand? Against the brand's own texts: a classifier, style, phrases, reading level, language.

The brand's own texts are the answers of the part's dataset, in its test split: nobody learnt from them.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from adapters.exam_types import Arm, Item, Part, Room, Scores
from adapters.measure_data import last_question, means, told
from adapters.measure_pieces import AskOptions, messages, options
from adapters.measure_style import Style, grade
from data.checking_texts import UNDETERMINED, language
from data.dataset import Row
from data.errors import BrogueError
from data.records import LabelledRecord, RatedRecord, answer

FEWEST = 20  # questions that the brand has answered: fewer teach a classifier nothing
FOLDS = 5
LONGEST = 4000  # characters of a text that the classifier looks at
Texts = dict[Arm, list[str]]


class VoiceOptions(AskOptions):
    """Options."""

    required: tuple[str, ...] = ()  # phrases that an answer should hold, all of them
    forbidden: tuple[str, ...] = ()  # phrases that none may hold
    language: str = ""  # ISO 639; empty: that of the brand's texts


def measure(room: Room, part: Part) -> list[Scores]:
    """Raises `BrogueError` where the brand has too few texts to compare with."""
    chosen = options(part, VoiceOptions)
    rows = [row for row in room.rows(part) if _is_own(row)]
    prompts = [messages(row.record) for row in rows]
    if (different := len({last_question(prompt) for prompt in prompts})) < FEWEST:
        raise BrogueError(
            f"'{part.prefix}' wants the brand's answers to at least {FEWEST} questions in the {chosen.split} split of "
            f"{part.data}; found {different}"
        )
    answers = {arm: room.answers(arm, prompts, **chosen.sampling) for arm in room.arms}
    texts: Texts = {arm: [one.text for one in some] for arm, some in answers.items()}
    items = told([last_question(prompt) for prompt in prompts], answers)
    brand = [answer(row.record) for row in rows]
    return [
        *_likeness(room, part, brand, texts, items),
        _style(part, brand, texts, items),
        *_phrases(part, chosen, brand, texts, items),
        _reading(part, brand, texts, items),
        *_language(part, chosen.language, brand, texts, items),
    ]


def _is_own(row: Row) -> bool:
    """Is its answer as the brand would have it? Not a label, nor an answer that was found bad."""
    record = row.record
    return not isinstance(record, LabelledRecord) and not (isinstance(record, RatedRecord) and not record.good)


def _likeness(room: Room, part: Part, brand: Sequence[str], texts: Texts, items: Sequence[Item]) -> list[Scores]:
    order: tuple[Arm, ...] = ("base", "against")
    other = next((arm for arm in order if arm in texts), None)
    if other is None:
        room.say(f"'{part.prefix}.likeness' is left out: it wants answers of the base model to tell the brand's from")
        return []
    scores, own = likeness([item.prompt for item in items], brand, texts[other], texts)
    note = f"The brand's own texts: {own:.2f}. Told from answers of: {other}."
    return [means(f"{part.prefix}.likeness", "higher", items, scores, note=note)]


def likeness(
    questions: Sequence[str], brand: Sequence[str], others: Sequence[str], texts: Texts
) -> tuple[dict[Arm, list[float]], float]:
    """(probability that each answer is the brand's and not the others', the mean of the brand's own texts).

    Logistic regression on tf-idf of character 2- to 4-grams (scikit-learn), cross-fitted: who judges the answers to a
    question has seen neither the brand's nor the others' answer to it, so no text is judged by who learnt it.
    `others` are answers to the same questions, of which at least two differ.
    """
    from sklearn.model_selection import GroupKFold  # type: ignore[import-untyped]

    names = sorted(set(questions))
    groups = np.array([names.index(question) for question in questions])
    scores: dict[Arm, list[float]] = {arm: [0.0] * len(questions) for arm in texts}
    own = 0.0
    for train, test in GroupKFold(min(FOLDS, len(names))).split(groups, groups=groups):
        model = _fitted([brand[i] for i in train], [others[i] for i in train])
        for arm, some in texts.items():
            for place, score in zip(test, _probabilities(model, [some[i] for i in test]), strict=True):
                scores[arm][place] = score
        own += sum(_probabilities(model, [brand[i] for i in test]))
    return scores, own / len(questions)


def _fitted(brand: Sequence[str], others: Sequence[str]) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer  # type: ignore[import-untyped]
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
    from sklearn.pipeline import make_pipeline  # type: ignore[import-untyped]

    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), max_features=20_000, sublinear_tf=True)
    model = make_pipeline(vectors, LogisticRegression(C=10, max_iter=1000))
    return model.fit([_cut(text) for text in (*brand, *others)], [1] * len(brand) + [0] * len(others))


def _probabilities(model: Any, texts: Sequence[str]) -> list[float]:
    return [float(p) for p in model.predict_proba([_cut(text) for text in texts])[:, 1]]


def _cut(text: str) -> str:
    return text[:LONGEST]


def _style(part: Part, brand: list[str], texts: Texts, items: Sequence[Item]) -> Scores:
    style = Style(brand)
    parts = {arm: style.parts(some) for arm, some in texts.items()}
    return Scores(f"{part.prefix}.style_distance", "standard deviations", "lower", parts, items, value=style.distance)


def _phrases(part: Part, chosen: VoiceOptions, brand: list[str], texts: Texts, items: Sequence[Item]) -> list[Scores]:
    """`required`: the share of the required phrases that an answer holds; `forbidden`: answers that hold any."""
    found = []
    if wanted := chosen.required:
        scores = {arm: [sum(holds(t, w) for w in wanted) / len(wanted) for t in some] for arm, some in texts.items()}
        own = sum(holds(text, w) for text in brand for w in wanted) / (len(brand) * len(wanted))
        note = f"The brand's own texts: {own:.2f}."
        found.append(means(f"{part.prefix}.required", "higher", items, scores, note=note))
    if banned := chosen.forbidden:
        hits = {arm: [float(any(holds(text, b) for b in banned)) for text in some] for arm, some in texts.items()}
        found.append(means(f"{part.prefix}.forbidden", "lower", items, hits))
    return found


def holds(text: str, phrase: str) -> bool:
    """Whether whole words of `text` are the phrase's, without regard to case and spaces."""
    phrase = phrase.strip().casefold()
    words = r"\s+".join(re.escape(word) for word in phrase.split())
    before, after = (r"(?<!\w)" if phrase[:1].isalnum() else "", r"(?!\w)" if phrase[-1:].isalnum() else "")
    return re.search(before + words + after, text.casefold()) is not None


def _reading(part: Part, brand: list[str], texts: Texts, items: Sequence[Item]) -> Scores:
    scores: dict[Arm, list[float | None]] = {arm: [grade(text) for text in some] for arm, some in texts.items()}
    note = f"The brand's own texts: {float(np.mean([grade(text) for text in brand])):.1f}. Made for English."
    return means(f"{part.prefix}.reading_level", "neither", items, scores, unit="school years", note=note)


def _language(part: Part, wanted: str, brand: list[str], texts: Texts, items: Sequence[Item]) -> list[Scores]:
    """The share of answers in the wanted language, of those that are long enough to tell."""
    known = Counter(code for text in brand if (code := language(text)) != UNDETERMINED)
    wanted = wanted or (known.most_common(1)[0][0] if known else "")
    if not wanted:
        return []
    codes = {arm: [language(text) for text in some] for arm, some in texts.items()}
    scores: dict[Arm, list[float | None]] = {
        arm: [None if code == UNDETERMINED else float(code == wanted) for code in some] for arm, some in codes.items()
    }
    return [means(f"{part.prefix}.language", "higher", items, scores, note=f"Answers in: {wanted}.")]
