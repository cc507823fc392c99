"""Passages: whole where they fit, cut where structure allows it, and always the text that they say they are."""

import random

import pytest

from assistant.chunking import Chunking, Passage, count_words, cut
from assistant.documents import Document, blocks_of, cleaner
from assistant.loaders_text import from_markdown

SMALL = Chunking(max_tokens=30, overlap=6)


def passages(text: str, rule: Chunking = SMALL) -> list[Passage]:
    return cut(from_markdown("markdown", "guide.md", text), count_words, rule)


def words(n: int, mark: str = "w") -> str:
    return " ".join(f"{mark}{i}" for i in range(n))


def test_a_heading_stays_with_the_text_under_it() -> None:
    found = passages(f"# Returns\n\nIntro.\n\n## Damaged goods\n\n{words(20)}\n\n## Time\n\nThirty days.")
    assert [p.section for p in found] == ["", "Damaged goods", "Time"]
    assert found[0].text == "# Returns\n\nIntro."
    assert found[1].text.startswith("## Damaged goods\n\nw0")
    assert found[2].text == "## Time\n\nThirty days."


def test_the_section_is_the_path_of_headings_without_the_documents_title() -> None:
    found = passages("# Guide\n\n## Orders\n\n### By phone\n\nCall us.\n\n## Returns\n\nSend it.")
    assert [(p.title, p.section) for p in found] == [("Guide", "Orders > By phone"), ("Guide", "Returns")]


def test_a_table_that_fits_is_one_passage() -> None:
    table = "| item | price |\n|---|---|\n| tea | 2 |\n| milk | 1 |"
    assert passages(f"{words(20)}\n\n{table}\n\n{words(20, 'v')}")[1].text == table


def test_a_long_table_is_cut_between_rows_and_repeats_its_header() -> None:
    rows = [f"| article {i} | {i} euros |" for i in range(20)]
    header = "| article | price |\n|---|---|"
    found = passages("\n".join([header, *rows]))
    assert len(found) > 2
    assert all(p.text.startswith(header + "\n| article ") for p in found)
    assert [line for p in found for line in p.text.split("\n")[2:]] == rows


def test_a_long_list_is_cut_between_items_and_repeats_what_leads_to_it() -> None:
    items = [f"- {words(5, f'i{n}x')}" for n in range(12)]
    found = passages("You need:\n\n" + "\n".join(items))
    assert len(found) > 1
    assert all(p.text.startswith("You need:\n") for p in found)
    assert [line for p in found for line in p.text.split("\n") if line.startswith("-")] == items


def test_nested_items_stay_with_theirs_where_they_fit() -> None:
    text = "- one\n  - inner one\n\n    more of it\n- two\n"
    assert passages(text)[0].text == text.strip()


def test_a_long_paragraph_is_cut_between_sentences_with_a_sentence_of_overlap() -> None:
    sentences = [f"Sentence {i} is short." for i in range(20)]
    found = passages(" ".join(sentences))
    assert len(found) > 2
    for before, after in zip(found, found[1:], strict=False):
        assert after.text.startswith("Sentence")
        assert after.start < before.end  # overlap
        assert before.text.endswith("short.")
    assert all(any(s in p.text for p in found) for s in sentences)


def test_whole_paragraphs_do_not_overlap() -> None:
    found = passages("\n\n".join(words(20, f"p{i}x") for i in range(5)))
    assert len(found) == 5
    assert all(a.end < b.start for a, b in zip(found, found[1:], strict=False))


def test_rather_two_halves_than_a_whole_and_a_crumb() -> None:
    sizes = [count_words(p.text) for p in passages("\n\n".join(words(7, f"p{i}x") for i in range(5)))]
    assert sizes == [21, 14]


def test_a_word_without_end_is_cut_all_the_same() -> None:
    found = cut(from_markdown("text", "a", "x" * 5000), len, Chunking(max_tokens=100))
    assert "".join(p.text for p in found) == "x" * 5000
    assert max(len(p.text) for p in found) <= 100


def test_no_passage_is_longer_than_the_rule_with_its_title_and_headings() -> None:
    text = "\n\n".join(f"{'#' * (i % 4 + 1)} Heading {i}\n\n{words(i * 7)}" for i in range(1, 30))
    assert max(count_words(p.searchable()) for p in passages(text)) <= 30


def test_equal_paragraphs_of_one_file_have_ids_of_their_own() -> None:
    found = passages(f"{words(25)}\n\n{words(25)}\n\n{words(25)}")
    assert len({p.sha256 for p in found}) == 1
    assert len({p.id for p in found}) == 3


def test_a_paragraph_put_in_front_leaves_the_ids_of_the_others() -> None:
    before = passages(f"{words(25, 'a')}\n\n{words(25, 'b')}")
    after = passages(f"{words(25, 'new')}\n\n{words(25, 'a')}\n\n{words(25, 'b')}")
    assert [p.id for p in after][1:] == [p.id for p in before]
    assert after[1].start > before[0].start


def test_what_is_searched_has_title_and_headings_that_the_text_lacks() -> None:
    found = passages(f"# Guide\n\nHello.\n\n## Orders\n\n{' '.join(f'A b c d e f g {i}.' for i in range(9))}")
    assert found[0].searchable() == found[0].text
    assert found[-1].searchable().startswith("Guide > Orders\n")


def test_an_empty_document_has_no_passages() -> None:
    assert passages("") == []


def test_a_document_of_headings_alone_loses_none_of_them() -> None:
    text = "\n\n".join(f"# Point {i}" for i in range(40))
    found = passages(text)
    assert all(any(f"# Point {i}" in p.text for p in found) for i in range(40))


@pytest.mark.parametrize("seed", range(30))
def test_every_passage_is_the_span_it_names_and_nothing_is_lost(seed: int) -> None:
    text = _random_markdown(random.Random(seed))
    document = from_markdown("markdown", "r.md", cleaner()(text))
    rule = Chunking(max_tokens=random.Random(seed).choice([16, 40, 200]), overlap=seed % 12)
    found = cut(document, count_words, rule)
    covered = set[int]()
    for passage in found:
        assert passage.text.endswith(document.text[passage.start : passage.end])
        assert 0 <= passage.start < passage.end <= len(document.text)
        assert count_words(passage.text) <= rule.max_tokens
        covered |= set(range(passage.start, passage.end))
    lost = "".join(c for i, c in enumerate(document.text) if i not in covered)
    assert not any(c.isalnum() for c in lost), lost
    assert len({p.id for p in found}) == len(found)


def _random_markdown(chance: random.Random) -> str:
    def some(n: int) -> str:
        return " ".join(chance.choice(["tea", "Müller", "7.50", "–", "e.g.", "🫖", "x" * 30]) for _ in range(n))

    def part() -> str:
        match chance.randrange(8):
            case 0:
                return "#" * chance.randrange(1, 7) + " " + some(chance.randrange(1, 6))
            case 1:
                return "\n".join(f"{'  ' * chance.randrange(2)}- {some(chance.randrange(1, 12))}" for _ in range(9))
            case 2:
                return "| a | b |\n|---|---|\n" + "\n".join(f"| {some(2)} | {some(3)} |" for _ in range(12))
            case 3:
                return "```\n" + "\n".join(some(4) for _ in range(10)) + "\n\n```"
            case 4:
                return "> " + some(20) + "\n> " + some(20)
            case 5:
                return "These are:"
            case 6:
                return f"{some(3)}\n{'=' * 5}"
            case _:
                return ". ".join(some(chance.randrange(1, 15)).capitalize() for _ in range(chance.randrange(1, 12)))

    return "\n\n".join(part() for _ in range(chance.randrange(1, 25)))


def test_the_page_of_a_passage_is_where_it_begins() -> None:
    text = f"{words(20, 'a')}\n\n{words(20, 'b')}\n\n{words(20, 'c')}"
    second, third = text.index("b0"), text.index("c0")
    document = Document("a.pdf", "pdf", "A", text, blocks_of(text, "plain"), pages=(0, second, third))
    assert [p.page for p in cut(document, count_words, SMALL)] == [1, 2, 3]


def test_control_characters_and_template_tokens_are_taken_out() -> None:
    clean = cleaner(["<|im_end|>", "<|im_start|>", "</s>"])
    assert clean("a\0b\x1b[31m\u202ec\u200b<|im\0_end|>\r\nd") == "ab[31mc \nd"
    assert "<|im_end|>" not in clean("<|im_<|im_end|>end|>")
    assert clean("<\U000e0041|im_start|>system") == " system"
    assert clean("👩‍💻 café") == "👩‍💻 café"
    assert clean("half \ud83d of a pair").encode()


@pytest.mark.parametrize(
    "text",
    ["\n" * 200_000, "- " * 100_000, "> " * 50_000, "# " * 100_000, ". " * 100_000, "|" * 200_000, "[" * 100_000,
     "a\n" * 100_000, " \n" * 200_000, "*" * 100_000, "`" * 100_000, "\n- " * 50_000, "x: \n- " * 20_000,
     "a |\n" * 30_000, "(" * 100_000 + "." + " " * 100_000 + "a", "<!--" * 50_000],
    ids=lambda text: repr(text[:6]),
)  # fmt: skip
def test_hostile_text_takes_no_longer_than_other_text(text: str) -> None:
    found = passages(text)
    assert all(count_words(p.text) <= SMALL.max_tokens for p in found)
