"""What a person sees of a dataset, and the files that other tools get of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from adapters.registry import CARD, Registry
from data.dataset import Row, Step, load_card, load_rows, make_rows, rewrite, save_dataset
from data.exporting import export
from data.home import Home, write_json
from data.records import (
    AnyRecord,
    ChatRecord,
    InstructionRecord,
    LabelledRecord,
    Message,
    PreferenceRecord,
    RankingRecord,
    Split,
)
from tests.conftest import Run
from tests.fakes import add_version
from tests.tiny_models import make_model

SHARES = (60, 20, 20)
AWKWARD = 'says "no, no";\r\nthen\tline two\u2028– ü 例 🙂 = 1,5 '


def asked(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


def long(text: str) -> tuple[Message, ...]:
    turns = (("system", "Be brief."), ("user", text), ("assistant", "Which one?"), ("user", "the red one"))
    return tuple(Message(role=role, content=content) for role, content in turns)  # type: ignore[arg-type]


RECORDS: dict[str, list[AnyRecord]] = {
    "chat": [ChatRecord(messages=(*long(f"q{n}{AWKWARD}"), Message(role="assistant", content="a"))) for n in range(12)],
    "instruction": [
        InstructionRecord(prompt=f"q{n} {AWKWARD}", response=AWKWARD, system="Be brief." if n % 2 else None)
        for n in range(12)
    ],
    "labelled": [LabelledRecord(text=f"text {n} {AWKWARD}", label="ab"[n % 2]) for n in range(12)],
    "tokens": [LabelledRecord(tokens=("In", f"York{n}", "."), tags=("O", "B-place", "O")) for n in range(12)],
    "preference": [
        PreferenceRecord(messages=asked(f"q{n} {AWKWARD}"), chosen="good", rejected="bad", tie=n == 3)
        for n in range(12)
    ],
    "preference of turns": [PreferenceRecord(messages=long(f"q{n}"), chosen="good", rejected="bad") for n in range(12)],
    "ranking": [RankingRecord(messages=long(f"q{n}"), replies=("c", "a", "b"), ranks=(1, 0, 1)) for n in range(12)],
}


def stored(home: Home, records: list[AnyRecord], name: str = "set", **options: Any) -> None:
    save_dataset(home, name, make_rows(records, SHARES), "file.csv", "00", {}, SHARES, **options)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


@pytest.mark.parametrize(
    ("which", "suffix"),
    [
        *((which, "jsonl") for which in RECORDS),
        *((which, "parquet") for which in RECORDS),
        *((which, "csv") for which in ("chat", "instruction", "labelled", "preference")),
        ("tokens", "conll"),
    ],
)
def test_what_was_exported_imports_again_with_the_same_digest(
    brogue: Run, home: Home, tmp_path: Path, which: str, suffix: str
) -> None:
    stored(home, RECORDS[which])
    path = tmp_path / f"out.{suffix}"
    done = brogue("data", "export", "set", "--to", str(path))
    assert done.returncode == 0, done.stderr
    assert "--split 60/20/20" in done.stderr, "it is said how to import it again"
    again = brogue("data", "import", str(path), "--into", "again", "--split", "60/20/20")
    assert again.returncode == 0, again.stderr
    assert load_card(home, "again").digest == load_card(home, "set").digest


def test_who_a_row_belongs_to_stands_beside_it(brogue: Run, home: Home, tmp_path: Path) -> None:
    [row, *rest] = make_rows(RECORDS["labelled"], (100, 0, 0))
    made = Row(**{**rest[0].__dict__, "subject": "ann", "group": "acme", "synthetic_of": row.id})
    save_dataset(home, "set", [row, made], "file.csv", "00", {}, (100, 0, 0))
    done = brogue("data", "export", "set", "--to", str(tmp_path / "out.jsonl"))
    books = [
        {k: line[k] for k in ("split", "group", "subject", "synthetic_of")} for line in lines(tmp_path / "out.jsonl")
    ]
    assert books == [
        {"split": "train", "group": None, "subject": None, "synthetic_of": None},
        {"split": "train", "group": "acme", "subject": "ann", "synthetic_of": row.id},
    ]
    assert "1 of the records were made by a model" in done.stderr


def test_groups_and_subjects_come_back_with_an_import(brogue: Run, home: Home, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(
        "text,label,who,firm\n" + "".join(f"text {n},{'ab'[n % 2]},s{n},f{n % 5}\n" for n in range(30))
    )
    columns = ("--group-column", "firm", "--subject-column", "who")
    assert brogue("data", "import", str(tmp_path / "in.csv"), "--into", "set", *columns).returncode == 0
    done = brogue("data", "export", "set", "--to", str(tmp_path / "out.csv"))
    [hint] = [line for line in done.stderr.splitlines() if "the same dataset again" in line]
    words = hint.partition("brogue ")[2].replace("FILE", str(tmp_path / "out.csv")).replace("NAME", "again").split()
    assert brogue(*words).returncode == 0, "it is said how, and that works"
    assert load_rows(home, "again") == load_rows(home, "set")


def test_splits_exported_one_by_one_into_a_folder_are_kept(brogue: Run, home: Home, tmp_path: Path) -> None:
    splits: tuple[Split, ...] = ("train", "validation", "test")
    made = make_rows(RECORDS["instruction"], SHARES)
    rows = [Row(id=row.id, split=splits[n % 3], record=row.record) for n, row in enumerate(made)]
    save_dataset(home, "set", rows, "file.csv", "00", {}, SHARES)
    (tmp_path / "folder").mkdir()
    for split in splits:
        path = tmp_path / "folder" / f"{split}.jsonl"
        assert brogue("data", "export", "set", "--to", str(path), "--split", split).returncode == 0
    done = brogue("data", "import", str(tmp_path / "folder"), "--into", "again")
    assert done.returncode == 0, done.stderr
    assert {(r.id, r.split) for r in load_rows(home, "again")} == {(r.id, r.split) for r in rows}


def test_splits_that_an_import_would_not_choose_are_said(brogue: Run, home: Home, tmp_path: Path) -> None:
    rows = [Row(id=r.id, split="test", record=r.record) for r in make_rows(RECORDS["labelled"], (100, 0, 0))]
    save_dataset(home, "set", rows, "file.csv", "00", {}, (100, 0, 0))
    done = brogue("data", "export", "set", "--to", str(tmp_path / "out.jsonl"))
    assert "12 records stand in another split than an import would choose" in done.stderr
    assert "the same dataset again" not in done.stderr


USER = [{"role": "user", "content": "q"}]
GOOD, BAD, WORSE = ([{"role": "assistant", "content": word}] for word in ("good", "bad", "worse"))
SYSTEM = {"role": "system", "content": "Be brief."}
SHAPES: list[tuple[str, AnyRecord, list[dict[str, Any]]]] = [
    ("openai", InstructionRecord(prompt="q", response="good", system="Be brief."),
     [{"messages": [SYSTEM, *USER, *GOOD]}]),
    ("openai", PreferenceRecord(messages=asked("q"), chosen="good", rejected="bad"),
     [{"input": {"messages": USER}, "preferred_output": GOOD, "non_preferred_output": BAD}]),
    ("trl-sft", InstructionRecord(prompt="q", response="good", system="Be brief."),
     [{"prompt": [SYSTEM, *USER], "completion": GOOD}]),
    ("trl-sft", InstructionRecord(prompt="q", response="good"), [{"prompt": USER, "completion": GOOD}]),
    ("trl-sft", ChatRecord(messages=(*asked("q"), Message(role="assistant", content="good"))),
     [{"messages": [*USER, *GOOD]}]),
    ("trl-dpo", PreferenceRecord(messages=asked("q"), chosen="good", rejected="bad"),
     [{"prompt": USER, "chosen": GOOD, "rejected": BAD}]),
    ("trl-dpo", RankingRecord(messages=asked("q"), replies=("bad", "good", "worse"), ranks=(1, 0, 1)),
     [{"prompt": USER, "chosen": GOOD, "rejected": BAD, "weight": 2 / 3},
      {"prompt": USER, "chosen": GOOD, "rejected": WORSE, "weight": 2 / 3}]),
    ("trl-reward", PreferenceRecord(messages=asked("q"), chosen="good", rejected="bad"),
     [{"chosen": USER + GOOD, "rejected": USER + BAD}]),
]  # fmt: skip


@pytest.mark.parametrize(("format", "record", "wanted"), SHAPES, ids=lambda v: v if isinstance(v, str) else "")
def test_other_tools_get_exactly_their_columns(
    brogue: Run, home: Home, tmp_path: Path, format: str, record: AnyRecord, wanted: list[dict[str, Any]]
) -> None:
    stored(home, [record])
    path = tmp_path / "out.jsonl"
    done = brogue("data", "export", "set", "--to", str(path), "--format", format)
    assert done.returncode == 0, done.stderr
    assert lines(path) == wanted
    if format == "openai":
        assert brogue("data", "import", str(path), "--into", "again").returncode == 0
        assert load_rows(home, "again")[0].id == load_rows(home, "set")[0].id


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_trls_own_trainers_take_these_files(home: Home, tmp_path: Path) -> None:
    """One step each, of a model with random weights; the trainers know their columns best."""
    from datasets import Dataset
    from transformers import LlamaForCausalLM, LlamaForSequenceClassification
    from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "num_key_value_heads": 2, "pad_token_id": 0}  # fmt: skip
    writer = str(make_model(tmp_path / "writer", LlamaForCausalLM, **size))
    judge = str(make_model(tmp_path / "judge", LlamaForSequenceClassification, num_labels=1, **size))
    options = {"output_dir": str(tmp_path / "run"), "report_to": [], "use_cpu": True, "bf16": False, "max_steps": 1,
               "save_strategy": "no", "disable_tqdm": True}  # fmt: skip
    trainers = {"trl-sft": (SFTTrainer, SFTConfig, writer), "trl-dpo": (DPOTrainer, DPOConfig, writer),
                "trl-reward": (RewardTrainer, RewardConfig, judge)}  # fmt: skip
    for number, (format, record, _) in enumerate(SHAPES):
        if format in trainers and not any(m.role == "system" for m in getattr(record, "messages", ())):
            trainer, config, model = trainers[format]
            stored(home, [record], f"set{number}")
            export(home, f"set{number}", tmp_path / f"{number}.jsonl", format, None, replace=False)
            data = Dataset.from_list(lines(tmp_path / f"{number}.jsonl"))
            trainer(model, args=config(**options), train_dataset=data).train()


def test_ties_are_left_out_of_pairs_and_counted(brogue: Run, home: Home, tmp_path: Path) -> None:
    stored(home, RECORDS["preference"])
    words = ("data", "export", "set", "--format", "trl-dpo")
    done = brogue(*words, "--to", str(tmp_path / "out.jsonl"), "--json")
    assert {k: v for k, v in json.loads(done.stdout).items() if k in ("lines", "left_out")} == {
        "lines": 11,
        "left_out": 1,
    }
    as_parquet = brogue(*words, "--to", str(tmp_path / "out.parquet"))
    assert "11 lines, trl-dpo; 1 records left out: neither answer is better" in as_parquet.stdout
    assert (tmp_path / "out.parquet").read_bytes()[:4] == b"PAR1"


def test_one_split_can_be_exported_alone(brogue: Run, home: Home, tmp_path: Path) -> None:
    stored(home, RECORDS["labelled"])
    for split in ("train", "validation", "test"):
        path = tmp_path / f"{split}.jsonl"
        done = brogue("data", "export", "set", "--to", str(path), "--split", split)
        wanted = [row.record.text for row in load_rows(home, "set") if row.split == split]  # type: ignore[union-attr]
        if wanted:
            assert [line["text"] for line in lines(path)] == wanted
        else:
            assert f"the {split} split of 'set' is empty" in done.stderr


@pytest.mark.parametrize(
    ("which", "words", "line"),
    [
        ("chat", ("--to", "out.jsonl", "--format", "trl-dpo"), "'trl-dpo' takes preference or ranking records, and "
         "'set' holds chat records; for these there is --format jsonl, csv, parquet, openai, trl-sft"),
        ("chat", ("--to", "out.jsonl", "--format", "yaml"), "no format 'yaml'; have: jsonl, csv, parquet, conll"),
        ("chat", ("--to", "out.xlsx"), "'out.xlsx' does not tell how to write it; end it in .jsonl, .csv, .parquet"),
        ("chat", ("--to", "there.jsonl"), "there.jsonl exists already; choose another name or add --replace"),
        ("chat", ("--to", "no/out.jsonl"), "no folder no; make it first: mkdir -p no"),
        ("ranking", ("--to", "out.csv"), "'csv' takes chat or instruction or labelled or preference records"),
        ("preference of turns", ("--to", "out.csv"), "a conversation of several turns has no place in a table's cell"),
        ("tokens", ("--to", "out.csv"), "tokens and their tags have no place in a table's cell; use --format conll"),
        ("labelled", ("--to", "out.conll"), "CoNLL holds tokens and their tags; these records hold a text"),
    ],
)  # fmt: skip
def test_what_cannot_be_exported_is_one_line_and_leaves_nothing(
    brogue: Run, home: Home, tmp_path: Path, which: str, words: tuple[str, ...], line: str
) -> None:
    stored(home, RECORDS[which])
    (tmp_path / "there.jsonl").write_text("mine")
    done = brogue("data", "export", "set", *words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"brogue: {line}"), done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == ["there.jsonl"]


def test_show_tells_card_steps_labels_and_the_versions_that_learnt_from_it(brogue: Run, home: Home) -> None:
    stored(home, RECORDS["labelled"], origin="our shop", licence="CC0-1.0")
    step = Step(name="dedupe", options={"near": True}, counts={"exact": 0, "near": 2})
    card = rewrite(home, load_card(home, "set"), load_rows(home, "set"), step)
    for digest, dataset in ((card.digest, "set"), (card.digest, "once-called-so"), ("older", "set"), ("other", "else")):
        made = add_version(home, "voice")
        path = Registry(home).folder("voice", made.version) / CARD
        write_json(path, made.model_dump(mode="json") | {"dataset": dataset, "dataset_digest": digest})
    done = brogue("data", "show", "set", "--rows", "1")
    assert done.returncode == 0, done.stderr
    for line in (
        "origin: our shop", "licence: CC0-1.0", "step 1: dedupe (near True): 2 near",
        "trained on it: voice@1, voice@2\n", "trained on other rows of the name 'set': voice@3\n",
        "split 60/20/20", card.digest[:12],
    ):  # fmt: skip
        assert line in done.stdout
    assert done.stdout.count("\n  → ") == 1, "one row"
    shown = json.loads(brogue("data", "show", "set", "--json").stdout)
    assert {label: sum(splits.values()) for label, splits in shown["labels"].items()} == {"a": 6, "b": 6}
    assert (shown["versions"], shown["versions_of_earlier_states"]) == (["voice@1", "voice@2"], ["voice@3"])
    assert len(shown["rows"]) == 3


def test_show_counts_the_kinds_of_names_of_tagged_sentences(brogue: Run, home: Home) -> None:
    stored(home, RECORDS["tokens"])
    assert set(json.loads(brogue("data", "show", "set", "--json").stdout)["labels"]) == {"O", "place"}
    assert "no dataset 'sets'; have: set" in brogue("data", "show", "sets").stderr


def test_list_names_origin_licence_and_the_number_of_steps(brogue: Run, home: Home) -> None:
    stored(home, RECORDS["labelled"], origin="our shop", licence="CC0-1.0", steps=(Step(name="import"),) * 2)
    stored(home, RECORDS["chat"], "without")
    header, line, without = brogue("data", "list").stdout.splitlines()
    assert [word for word in header.split() if word in ("STEPS", "LICENCE", "ORIGIN")] == ["STEPS", "LICENCE", "ORIGIN"]
    assert "  2  " in line
    assert "CC0-1.0  our shop" in line
    assert "-        file.csv" in without, "the file's name, where nobody said more"
