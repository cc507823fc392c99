"""A person is removed from everything, and the versions that learnt from them are named and marked."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from adapters.lineage import Lineage, begin, finish, lineage, trained_on
from adapters.registry import Registry
from data.dataset import Row, Step, iter_rows, load_card, rewrite, save_dataset
from data.dataset_folder import RECORDS
from data.home import Home, write_json, write_text
from data.judgements import Comparison, Correction, PassageRef, Rating, Response, as_key
from data.records import InstructionRecord, LabelledRecord, record_id
from data.store import Store
from data.store_home import open_store
from tests.conftest import Run, run_brogue
from tests.fakes import ADMIN_KEY, FakeGateway, add_version
from tests.inside import brogue_inside
from tests.tiny_models import make_model

ANN = "ann-4711@example.org"
PHRASE = "the purple zeppelin"  # of hers, and of nobody else


def record(number: int, who: str = "Bob") -> InstructionRecord:
    asked = f"About {PHRASE}, question {number}" if who == ANN else f"Plain question {number}"
    return InstructionRecord(prompt=asked, response=f"Answer {number}")


def row(number: int, who: str | None = None, **more: Any) -> Row:
    said = record(number, who or "Bob")
    return Row(id=record_id(said), split="train", record=said, subject=who, **more)


def save(home: Home, name: str, rows: list[Row]) -> None:
    save_dataset(home, name, rows, f"{name}.csv", "0" * 64, {}, (80, 10, 10))


def version_on(home: Home, adapter: str, dataset: str, listed: bool) -> None:
    """A version that was trained on a dataset, with or without a list of its records."""
    made = add_version(home, adapter)
    registry, card = Registry(home), load_card(home, dataset)
    path = registry.folder(adapter, made.version) / "card.json"
    update = {"dataset": dataset, "dataset_digest": card.digest}
    write_json(path, made.model_copy(update=update).model_dump(mode="json"))
    if listed:
        ids = tuple(r.id for r in iter_rows(home, dataset) if r.split == "train")
        begin(home.runs / "r", Lineage(dataset=dataset, digest=card.digest, records=ids))
        finish(home.runs / "r", registry, adapter, made.version)


@pytest.fixture
def brogue() -> Run:
    """Runs `brogue` with the given words."""
    return brogue_inside


@pytest.fixture
def store(home: Home) -> Any:
    opened = open_store(home)
    yield opened
    opened.close()


@pytest.fixture
def full_home(home: Home, store: Store) -> Home:
    """Ann and Bob in the store, in four datasets, in logs, in an unfinished training, and in two versions."""
    for n in range(40):
        who = ANN if n % 4 == 0 else "bob"
        asked = f"{PHRASE} {n} " * (1 if n % 8 else 400) if who == ANN else f"plain {n}"
        messages = ({"role": "user", "content": asked},)
        store.add_response(Response(id=f"resp-{n:032x}", version="voice@1", messages=messages, text=f"A: {asked}",
                                    subject=who, conversation=f"talk of {who}"))  # fmt: skip
    store.judge(Rating(rater="bob", response=f"resp-{0:032x}", thumb="up", comment=f"{PHRASE}!"))
    store.judge(Comparison(rater="eve", shown=(f"resp-{0:032x}", f"resp-{4:032x}"), verdict="tie"))
    store.judge(Correction(rater=ANN, response=f"resp-{1:032x}", text=f"Rather {PHRASE}"))
    hers, bobs = row(1, ANN), row(2)
    spun = InstructionRecord(prompt=f"Say {PHRASE} anew", response="x")
    again = InstructionRecord(prompt=f"Say {PHRASE} anew, once more", response="x")
    collected = InstructionRecord(prompt=f"plain about {PHRASE}", response="y")
    save(home, "named", [hers, bobs, row(3, "bob")])
    save(home, "unnamed", [row(1, ANN).model_copy(update={"subject": None}), bobs])  # imported without the column
    made = Row(id=record_id(spun), split="train", record=spun, synthetic_of=hers.id)
    save(home, "grown", [bobs, made, Row(id=record_id(again), split="train", record=again, synthetic_of=made.id)])
    save(home, "collected", [bobs, Row(id=record_id(collected), split="train", record=collected,
                                       response_ids=(f"resp-{0:032x}",))])  # fmt: skip
    save(home, "corrected", [bobs, Row(id="0" * 12, split="train", response_ids=(f"resp-{1:032x}",),
                                       record=InstructionRecord(prompt="z", response=f"Rather {PHRASE}"))])  # fmt: skip
    save(home, "only-hers", [hers])
    version_on(home, "voice", "named", listed=True)
    version_on(home, "other", "collected", listed=False)
    save(home, "apart", [bobs, row(9)])
    version_on(home, "clean", "apart", listed=True)
    (home.runs / "done").mkdir(parents=True)
    (home.runs / "done" / "metrics.json").write_text('{"loss": 1}')
    begin(home.runs / "unfinished", Lineage(dataset="named", digest="0", records=(hers.id,)))
    (home.runs / "grow").mkdir()
    (home.runs / "grow" / "answers.jsonl").write_text(f'{{"id": "{hers.id}", "said": "{PHRASE}"}}\n{{"id": "bob"}}\n')
    home.logs.mkdir()
    (home.logs / "shadow.jsonl").write_text(
        json.dumps({"response_id": f"resp-{0:032x}", "messages": [], "stable": {"text": PHRASE}})
        + "\n" + json.dumps({"messages": [{"role": "user", "content": f"{PHRASE} 4 "}], "canary": {"text": PHRASE}})
        + "\n" + json.dumps({"response_id": "resp-bob", "messages": [{"role": "user", "content": "plain 1"}]}) + "\n"
    )  # fmt: skip
    (home.logs / "services.log").write_text(f"started\nWARNING a request of {ANN} failed\nready\n")
    return home


def files_with(home: Home, *words: str) -> list[str]:
    """The files of the home, hidden ones and SQLite's log included, that hold one of the words."""
    files = [path for path in sorted(home.root.rglob("*")) if path.is_file()]
    return [p.relative_to(home.root).as_posix() for p in files if any(w.encode() in p.read_bytes() for w in words)]


def test_forget_leaves_no_trace_in_the_whole_home_and_names_both_versions(full_home: Home, brogue: Run) -> None:
    home = full_home
    assert len(files_with(home, ANN, PHRASE)) >= 9
    done = brogue("data", "forget", "--subject", ANN, "--yes", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert files_with(home, ANN, PHRASE) == []
    assert report["done"] and report["responses"] == 10 and report["judgements"] == 3
    assert report["versions"] == {"other@1": 1, "voice@1": 1}
    assert report["datasets"] == {
        "collected": 1, "corrected": 1, "grown": 2, "named": 1, "only-hers": 1, "unnamed": 1,
    }  # fmt: skip
    assert [r.subject for r in iter_rows(home, "named")] == [None, "bob"]
    assert load_card(home, "named").steps[-1] == Step(name="forget", counts={"removed": 1})
    assert not (home.datasets / "only-hers").exists()
    assert (home.logs / "services.log").read_text().split() == ["started", "ready"]
    assert len((home.logs / "shadow.jsonl").read_text().splitlines()) == 1
    assert not (home.runs / "unfinished").exists() and (home.runs / "done" / "metrics.json").exists()
    assert len(open_store(home).responses()) == 30
    again = brogue("data", "forget", "--subject", ANN, "--yes")
    assert (again.returncode, again.stdout.splitlines()[0]) == (0, f"nothing of '{ANN}' is here")
    assert Registry(home).state("voice").marks_of(1) != [] and len(Registry(home).state("voice").marks) == 1


def test_a_marked_version_says_so_wherever_it_is_listed_or_promoted(
    full_home: Home, brogue: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistant.cli_versions._check", lambda *_: None)  # it would read the base model
    brogue("data", "forget", "--subject", ANN, "--yes")
    for words in (("adapters", "list"), ("adapters", "show", "voice@1")):
        assert "voice@1 learnt from 1 record that brogue data forget removed" in brogue(*words).stderr
    listed = json.loads(brogue("adapters", "list", "--json").stdout)
    assert [(c["adapter"], len(c["marks"])) for c in listed] == [("clean", 0), ("other", 1), ("voice", 1)]
    assert "warning: voice@1 learnt from" in brogue("adapters", "promote", "voice@1").stderr
    gateway = FakeGateway(full_home)
    with TestClient(gateway.app) as client:
        reply = client.get("/v1/adapters/voice", headers={"Authorization": f"Bearer {ADMIN_KEY}"}).json()
    assert "promote that" in reply["versions"][0]["marks"][0]["words"]
    Registry(full_home).move("voice", "candidate", None)
    assert Registry(full_home).state("voice").marks, "a move of an alias keeps the marks"


@pytest.mark.slow
def test_training_lists_the_records_and_forget_names_the_version(home: Home, tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    model = make_model(
        tmp_path / "tiny-llama", LlamaForCausalLM, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=512, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    write_text(home.settings_file, f'base_model = "{model}"')
    long = InstructionRecord(prompt="Too long?", response="very " * 400)
    save(
        home, "items", [*(row(n) for n in range(12)), row(20, ANN), Row(id=record_id(long), split="train", record=long)]
    )
    done = run_brogue("train", "clerk", "--data", "items", "--epochs", "1", "--max-tokens", "200")
    assert done.returncode == 0, done.stderr
    listed = lineage(Registry(home), "clerk", 1)
    assert listed is not None and listed.digest == load_card(home, "items").digest
    assert len(listed.records) == 13, "a record that was left out was not learnt"
    assert not list(home.runs.glob("*/records.json")), "the run handed it on"
    assert trained_on(Registry(home), listed.digest)[0].name == "clerk@1"
    assert json.loads(brogue_inside("data", "forget", "--subject", ANN, "--yes", "--json").stdout)["versions"] == {
        "clerk@1": 1
    }
    assert files_with(home, PHRASE, ANN) == []


def test_forget_asks_first_and_tells_what_would_go(full_home: Home, brogue: Run) -> None:
    done = brogue("data", "forget", "--subject", ANN)
    assert done.returncode == 1 and "add --yes" in done.stderr and "Traceback" not in done.stderr
    assert "10 answers and 3 judgements in the store" in done.stdout
    assert "voice@1 learnt from 1 of these records" in done.stdout
    assert json.loads(brogue("data", "forget", "--subject", ANN, "--json").stdout)["done"] is False
    assert files_with(full_home, PHRASE), "nothing was removed"
    assert "is nobody" in brogue("data", "forget", "--subject", "anonymous").stderr
    assert brogue("data", "forget", "--subject", "who").returncode == 0


def test_the_same_content_under_anothers_name_stays(home: Home, brogue: Run) -> None:
    said = LabelledRecord(text="Where is my parcel?", label="parcel")
    both = [Row(id=record_id(said), split="test", record=said, subject=who) for who in ("ann", "bob")]
    save(home, "shared", both)
    assert brogue("data", "forget", "--subject", "ann", "--yes").returncode == 0
    assert [r.subject for r in iter_rows(home, "shared")] == ["bob"]


def test_rows_of_a_group_that_is_the_person_are_theirs(home: Home, brogue: Run) -> None:
    group = {"group": "customer-9"}
    save(home, "grouped", [row(1).model_copy(update=group), row(2, "bob").model_copy(update=group)])
    assert brogue("data", "forget", "--subject", "customer-9", "--yes").returncode == 0
    assert [r.subject for r in iter_rows(home, "grouped")] == ["bob"], "a name says more than a group"


def test_a_forget_that_was_killed_is_finished_by_the_next_one(full_home: Home, brogue: Run) -> None:
    from data import forgetting

    def die() -> None:
        forgetting.rewrite = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment, attr-defined]
        from assistant.cli_data_people import forget

        forget(ANN, yes=True)

    process = multiprocessing.get_context("fork").Process(target=die)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert brogue("data", "forget", "--subject", ANN, "--yes").returncode == 0
    assert files_with(full_home, ANN, PHRASE) == []
    assert len(Registry(full_home).state("voice").marks) == 1, "marked once"


def _write_responses(home: Home, until: float, whose: str) -> None:
    store, n = open_store(home), 0
    while time.time() < until:
        n += 1
        said = PHRASE if whose == ANN else "plain"
        kept = Response(id=f"resp-{os.getpid()}-{n}", version="voice@1", text=said, subject=whose,
                        passages=(PassageRef(id="p", source="s"),))  # fmt: skip
        store.add_responses([kept])
        store.rate(Rating(rater=whose, response=kept.id, thumb="up"))


@pytest.mark.slow
def test_others_go_on_writing_while_a_person_is_removed(full_home: Home, brogue: Run) -> None:
    fork, until = multiprocessing.get_context("fork"), time.time() + 6
    people = ["bob", "eve", "carl"]
    writers = [fork.Process(target=_write_responses, args=(full_home, until, who)) for who in people]
    hers = fork.Process(target=_write_responses, args=(full_home, time.time() + 0.5, ANN))
    for writer in (*writers, hers):
        writer.start()
    hers.join()
    done = brogue("data", "forget", "--subject", ANN, "--yes")
    assert done.returncode == 0, done.stderr
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert files_with(full_home, ANN, PHRASE) == []
    store = open_store(full_home)
    assert {response.subject for response in store.responses()} == set(people)
    store.close()


def test_a_dataset_that_is_being_written_meanwhile_is_named(home: Home) -> None:
    from data.dataset_folder import new_dataset_folder
    from data.forgetting import being_written

    save(home, "old", [row(1)])
    with new_dataset_folder(home, "fresh-1.2", replace=False):
        assert being_written(home) == ["fresh-1.2"]
    assert being_written(home) == []


def test_a_training_whose_records_were_forgotten_does_not_become_a_version(home: Home) -> None:
    from data.errors import BrogueError

    add_version(home, "voice")
    with pytest.raises(BrogueError, match="records were forgotten .* train again"):
        finish(home.runs / "gone", Registry(home), "voice", 1)


def test_a_person_may_be_called_anything(store: Store, brogue: Run) -> None:
    name = 'O"Neil\n' + "ü" * 300
    store.add_response(Response(id="r1", version="base", subject=as_key(name), text=PHRASE))
    assert json.loads(brogue("data", "forget", "--subject", name, "--yes", "--json").stdout)["responses"] == 1
    assert store.responses() == []


def test_a_dataset_keeps_its_digest_through_a_forget_that_does_not_concern_it(home: Home, brogue: Run) -> None:
    save(home, "mine", [row(1, "bob"), row(2)])
    before = load_card(home, "mine")
    rewrite(home, before, list(iter_rows(home, "mine")), Step(name="dedupe"))
    card, changed = load_card(home, "mine"), (home.datasets / "mine" / RECORDS).stat().st_mtime_ns
    brogue("data", "forget", "--subject", ANN, "--yes")
    assert load_card(home, "mine") == card and card.digest == before.digest
    assert (home.datasets / "mine" / RECORDS).stat().st_mtime_ns == changed


def test_uploaded_files_lose_the_lines_about_a_person_and_theirs_go_whole(
    home: Home, store: Store, brogue: Run
) -> None:
    """A line is about her if it names her, or if its record is hers in a dataset, where a column says so."""
    import io

    from data.jobs import Asked
    from data.store_files import Files
    from data.store_jobs import Jobs

    files = Files(store, home)
    save(home, "named", [row(1, ANN), row(2)])
    said = [{"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": reply}]}
            for text, reply in ((f"I am {ANN}", "Hello"), (record(1, ANN).prompt, record(1, ANN).response),
                                ("plain", "Hello"))]  # fmt: skip
    content = "\n".join(map(json.dumps, said)).encode()
    bobs = files.add("bob", "bobs.jsonl", "fine-tune", io.BytesIO(content))
    hers = files.add(ANN, "hers.jsonl", "fine-tune", io.BytesIO(b'{"a": 1}'))
    asked = Asked(model="base", name="ft-x", method="supervised", hyperparameters={}, training_file=hers.id)
    job = Jobs(store).create(ANN, asked, 9)
    told = json.loads(brogue("data", "forget", "--subject", ANN, "--json").stdout)
    assert told["files"] == {f"files/{bobs.id}": 2} and (told["uploads"], told["jobs"]) == ([hers.id], [job.id])
    assert brogue("data", "forget", "--subject", ANN, "--yes").returncode == 0
    left = (home.files / bobs.id).read_bytes()
    assert json.loads(left) == said[2] and files.get(bobs.id).size == len(left)
    assert [path.name for path in home.files.iterdir()] == [bobs.id]
    assert Jobs(store).listed(None, 9, None).items == []
    assert files_with(home, ANN, PHRASE) == []
