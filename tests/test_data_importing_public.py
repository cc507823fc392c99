"""Every public set that has a kind of ours is imported; the numbers agree with the sets' own descriptions."""

from pathlib import Path

import pytest

from data.importing import read_file

Columns = dict[str, str | None]
SETS: list[tuple[str, Columns, str, int, int, int]] = [  # file, columns, kind, rows, kept, refused
    ("banking77/train.csv", {}, "labelled", 10003, 10003, 0),
    ("clinc150/data_small_train_val.json", {}, "labelled", 10700, 10700, 0),
    ("bitext_customer_support/answers_short.csv", {}, "instruction", 1815, 1815, 0),
    ("bitext_customer_support/answers_long.csv", {}, "instruction", 1260, 1260, 0),
    ("oasst_ranked_trees/en_trees_part1.jsonl", {}, "ranking", 71, 149, 0),
    ("pandalm_human_pairs/testset_part1.json", {}, "preference", 673, 635, 38),
    ("mtbench_human_pairs/dataset_part1.json", {}, "preference", 123, 123, 0),
    ("hh_rlhf_harmless/harmless_base_test_part1.jsonl", {}, "preference", 336, 335, 1),
    ("positive_reframing/wholedev.csv", {"prompt": "original_text", "response": "reframed_text"}, "instruction", 835,
     835, 0),
    ("legal_plain_english/tosdr_part1.json", {"prompt": "original_text", "response": "reference_summary"},
     "instruction", 245, 245, 0),
    ("wnut17_ner/emerging.dev.conll", {}, "labelled", 1009, 1009, 0),
    ("self_instruct/seed_tasks.jsonl", {}, "instruction", 175, 175, 0),
    ("xquad_en/xquad.en.part1.json", {}, "instruction", 24, 596, 0),
]  # fmt: skip


@pytest.mark.data
@pytest.mark.parametrize("case", SETS, ids=lambda case: case[0])
def test_a_public_set_is_imported_whole(public_data: Path, case: tuple[str, Columns, str, int, int, int]) -> None:
    name, columns, kind, rows, kept, refused = case
    found = read_file(public_data / name, None, columns)
    assert (found.kind, found.rows, len(found.records), found.refused.total()) == (kind, rows, kept, refused)
