"""Every recipe, from the command, on a tiny model: what it learns, what it says, and that it can be taken up again."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapters import runs
from adapters.base_model import prepare
from adapters.lineage import lineage
from adapters.registry import Registry, file_hashes
from adapters.validation import check_version
from assistant.prompt import HomeCatalogue
from data.errors import BrogueError
from data.home import Home, write_text
from data.settings import load_settings
from serve.live import LiveMap
from tests.conftest import Run
from tests.tiny_models import make_model

pytestmark = pytest.mark.slow
Ask = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with random weights."""
    import torch
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    return make_model(
        tmp_path_factory.mktemp("models") / "tiny", LlamaForCausalLM, hidden_size=32, intermediate_size=64,
        num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=512,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip


def question(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"What is item {number}?"}]


def pair(number: int) -> dict[str, Any]:
    return {"messages": question(number), "chosen": f"Item {number} is in aisle 3.", "rejected": "What is aisle item?"}


ROWS: dict[str, Callable[[int], dict[str, Any]]] = {
    "instruction": lambda n: {"prompt": f"What is item {n}?", "response": f"Item {n} is in aisle 3."},
    "labelled": lambda n: {"text": f"What is item {n}?", "label": "item" if n % 2 else "aisle"},
    "preference": pair,
    "rated": lambda n: {
        "prompt": question(n),
        "label": n % 3 > 0,
        "completion": [
            {"role": "assistant", "content": f"Item {n} is in aisle 3." if n % 3 else "What is aisle item?"}
        ],
    },
    "ranking": lambda n: {"messages": question(n), "replies": [f"Item {n}.", "What?", "aisle 1"], "ranks": [0, 1, 1]},
}
KINDS = {"sft": "instruction", "instruct": "instruction", "labelled": "labelled", "dpo": "preference",
         "kto": "rated", "reward": "preference"}  # fmt: skip


@pytest.fixture
def ready(home: Home, tiny: Path, brogue: Run, tmp_path: Path) -> Callable[..., None]:
    """Imports a dataset of a kind, named after it."""
    home.create()
    write_text(home.settings_file, f'base_model = "{tiny}"')

    def make(kind: str, rows: int = 40) -> None:
        file = tmp_path / f"{kind}.jsonl"
        file.write_text("\n".join(json.dumps(ROWS[kind](n)) for n in range(rows)))
        done = brogue("data", "import", str(file), "--as", kind, "--into", kind)
        assert done.returncode == 0, done.stderr

    return make


def trained(brogue: Run, recipe: str, *more: str, data: str | None = None) -> dict[str, Any]:
    done = brogue("train", f"a-{recipe}", "--data", data or KINDS[recipe], "--recipe", recipe, *more, "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("recipe", list(KINDS))
def test_a_recipe_lowers_the_held_out_loss_and_says_what_it_was(
    brogue: Run, ready: Callable[..., None], home: Home, recipe: str
) -> None:
    if recipe == "kto":  # its own learning rate is too low to show on few rows, of which few are held out
        ready(KINDS[recipe], 160)
        card = trained(brogue, recipe, "--epochs", "1", "--learning-rate", "0.003")
    else:
        ready(KINDS[recipe])
        card = trained(brogue, recipe, "--epochs", "3")
    assert card["recipe"] == recipe
    assert card["scores"]["adapter_validation_loss"] < card["scores"]["base_validation_loss"]
    files = file_hashes(Registry(home).folder(f"a-{recipe}", 1))
    assert set(files) >= {"adapter_config.json", "adapter_model.safetensors"} and not any("ref" in f for f in files)
    if recipe in ("dpo", "reward"):
        assert card["scores"]["adapter_validation_accuracy"] == 1.0
        assert card["scores"]["adapter_validation_accuracy_low"] < 1
    if recipe == "dpo":
        assert card["scores"]["base_validation_loss"] == 0.6931, "the base is its own reference: ln 2"
    if recipe == "labelled":
        assert card["system_prompt"] == "Answer with the label of the text only. Labels: aisle, item."
        scores = card["scores"]
        assert 0 <= scores["adapter_validation_accuracy_low"] <= scores["adapter_validation_accuracy"] <= 1
        assert {"base_validation_accuracy", "usual_validation_accuracy"} <= set(scores)


@pytest.mark.parametrize(("method", "rank", "served_rank"), [("miss", 8, 8), ("loha", 4, 16), ("rslora", 4, 4)])
def test_another_method_is_trained_and_written_as_a_lora_that_the_engine_takes(
    brogue: Run, ready: Callable[..., None], home: Home, method: str, rank: int, served_rank: int
) -> None:
    ready("instruction")
    card = trained(brogue, "sft", "--epochs", "3", "--method", method, "--rank", str(rank))
    assert (card["method"], card["rank"]) == (method, served_rank)
    assert card["scores"]["adapter_validation_loss"] < card["scores"]["base_validation_loss"]
    assert card["scores"].get("converted_kl", 0) <= 1e-3 and ("converted_kl" in card["scores"]) == (method != "rslora")
    folder = Registry(home).folder("a-sft", 1)
    assert json.loads((folder / "adapter_config.json").read_text())["peft_type"] == "LORA"
    base = prepare(load_settings(home.settings_file).base_model, home, lambda _: None)
    check_version(Registry(home).card("a-sft", 1), folder, base, 16, home.root)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--method", "prefix-tuning"), "nothing could serve what 'prefix-tuning' trains"),
        (("--method", "loha", "--rank", "8"), "a LoRA of rank 64, above engine.max_lora_rank = 16; give --rank 4"),
        (("--method", "lroa"), "no method 'lroa'"),
    ],
)
def test_a_method_that_could_not_be_served_is_refused_before_training(
    brogue: Run, ready: Callable[..., None], home: Home, options: tuple[str, ...], line: str
) -> None:
    ready("instruction")
    done = brogue("train", "a", "--data", "instruction", *options)
    assert done.returncode == 1 and line in done.stderr and "Traceback" not in done.stderr
    assert not home.runs.exists() or not any(home.runs.iterdir())


def test_a_method_other_than_lora_is_for_recipes_that_learn_answers(brogue: Run, ready: Callable[..., None]) -> None:
    ready("preference")
    done = brogue("train", "a", "--data", "preference", "--recipe", "dpo", "--method", "miss")
    assert done.returncode == 1 and "the recipe 'dpo' takes lora only; leave --method out" in done.stderr


def test_training_ends_when_the_validation_loss_has_turned_and_keeps_the_best(
    brogue: Run, ready: Callable[..., None], tmp_path: Path
) -> None:
    ready("instruction")
    folder = tmp_path / "other-words"
    folder.mkdir()
    for split, answer in (("train", "Item 1 is in aisle 3."), ("validation", "What? user model")):
        rows = [{"prompt": f"What is {split} item {n}?", "response": answer} for n in range(16)]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert brogue("data", "import", str(folder), "--as", "instruction", "--into", "other").returncode == 0
    done = brogue("train", "a", "--data", "other", "--epochs", "30", "--learning-rate", "0.02")
    assert done.returncode == 0, done.stderr
    told = re.search(r"validation loss was lowest at step (\d+) of (\d+); that state is kept", done.stderr)
    assert told and int(told[1]) < int(told[2]) < 60, done.stderr


def test_a_labelling_version_learns_the_labels_and_gives_nothing_else(
    brogue: Run, ready: Callable[..., None], tmp_path: Path
) -> None:
    ready("labelled")
    rows = [{"text": ("aisle " if n % 3 else "What ") * (1 + n % 5), "label": "item 3" if n % 3 else "item"}
            for n in range(120)]  # fmt: skip
    (tmp_path / "l.jsonl").write_text("\n".join(map(json.dumps, rows)))
    options = ("--as", "labelled", "--into", "words")
    assert brogue("data", "import", str(tmp_path / "l.jsonl"), *options).returncode == 0
    done = brogue("train", "a", "--data", "words", "--recipe", "labelled", "--epochs", "6", "--learning-rate", "0.01")
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stdout.splitlines() if "the right label in 100.0% of" in line]
    assert told and "always the most frequent label" in told[0], done.stdout


def test_dpo_starts_from_a_version_and_stays_near_that_one(brogue: Run, ready: Callable[..., None], home: Home) -> None:
    ready("instruction")
    ready("preference")
    ready("ranking")
    trained(brogue, "sft", "--epochs", "1", "--rank", "4")
    card = trained(brogue, "dpo", "--from", "a-sft", "--epochs", "1")
    assert (card["rank"], card["config"]["start"]) == (4, "a-sft@1")
    assert card["scores"]["base_validation_loss"] == 0.6931, "the reference is the version that it starts from"
    card = trained(brogue, "dpo", "--from", "a-sft@1", "--epochs", "1", data="ranking")
    assert card["version"] == 2
    registry = Registry(home)
    first, second = (lineage(registry, adapter, 1) for adapter in ("a-sft", "a-dpo"))
    assert first and second and set(first.records) < set(second.records), "forgetting finds what it learnt before"
    done = brogue("train", "b", "--data", "instruction", "--from", "nobody")
    assert done.returncode == 1 and "no adapter 'nobody'" in done.stderr


def test_a_reward_model_scores_answers_and_is_never_promoted(
    brogue: Run, ready: Callable[..., None], home: Home, tiny: Path
) -> None:
    ready("preference")
    card = trained(brogue, "reward", "--epochs", "3")
    registry = Registry(home)
    assert registry.aliases("a-reward") == {}, "the first version of a chat adapter would be stable"
    done = brogue("adapters", "promote", "a-reward@1")
    assert done.returncode == 1 and "a-reward@1 is a reward model: it scores answers and cannot chat" in done.stderr
    catalogue = HomeCatalogue(home, "tiny", True, LiveMap(registry))
    assert [entry["id"] for entry in catalogue.models()] == ["tiny"], "clients are not offered it"
    assert "a-reward@1" in brogue("adapters", "list").stdout
    from adapters.base_model import prepare
    from adapters.reward_model import RewardModel

    model = RewardModel.load(registry, "a-reward@1", prepare(str(tiny), home, lambda _: None))
    prompts = [question(n) for n in (70, 71)]
    good = model.score(prompts, [f"Item {n} is in aisle 3." for n in (70, 71)])
    bad = model.score(prompts, ["What is aisle item?"] * 2)
    assert all(better > worse for better, worse in zip(good, bad, strict=True))
    alone = model.score(prompts[:1], ["Item 70 is in aisle 3."])
    assert alone[0] == pytest.approx(good[0], abs=0.02), "a longer neighbour in the batch changes nothing"
    assert card["scores"]["longer_validation_accuracy"] == 1.0


def test_a_loss_that_is_no_number_stops_in_one_line_and_keeps_what_was_saved(
    brogue: Run, ready: Callable[..., None], home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready("instruction")
    from adapters import trainer

    right = trainer.CpuSFTTrainer.compute_loss

    def wrong(self: Any, model: Any, inputs: Any, *more: Any, **options: Any) -> Any:
        loss = right(self, model, inputs, *more, **options)
        return loss * float("nan") if model.training and self.state.global_step == 5 else loss

    monkeypatch.setattr(trainer.CpuSFTTrainer, "compute_loss", wrong)
    done = brogue("train", "a", "--data", "instruction", "--epochs", "4")
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert line.startswith("brogue: the loss of step 6 is no number; checkpoint-") and " is kept in " in line
    assert "Try a lower --learning-rate (it was 0.001)" in line and "Traceback" not in done.stderr
    assert Registry(home).versions("a") == []
    [failed] = runs.all_runs(home)
    assert (failed.state, failed.step) == ("failed", 6)
    shown = brogue("runs", "show", failed.id)
    assert "why: the loss of step 6 is no number" in shown.stdout
    assert "curves: " in shown.stdout and (home.runs / failed.id / "curves.png").stat().st_size > 5000
    assert brogue("runs", "cancel", failed.id).stdout == f"{failed.id}: removed\n"
    again = brogue("runs", "show", failed.id)
    assert again.returncode == 1 and f"no run '{failed.id}'; have: " in again.stderr


@pytest.mark.parametrize(
    ("losses", "stops"),
    [([2.0] * 5 + [9.0] * 5, True), ([2.0] * 5 + [9.0] + [2.0] * 5, False), ([0.1] * 5 + [1.5] * 9, False),
     ([2.0, float("inf")], True)],
)  # fmt: skip
def test_a_loss_that_explodes_stops_before_that_state_is_saved_and_one_bad_batch_does_not(
    losses: list[float], stops: bool
) -> None:
    from transformers import TrainerControl, TrainerState

    from adapters.trainer_watch import Guard

    guard, control, arguments = Guard(), TrainerControl(should_save=True), None
    for step, loss in enumerate(losses, 1):
        guard.on_log(arguments, TrainerState(global_step=step), control, {"loss": loss})
    assert bool(guard.reason) == control.should_training_stop == stops
    assert control.should_save != stops


def test_a_full_disk_is_one_line_and_the_last_whole_checkpoint_goes_on(
    brogue: Run, ready: Callable[..., None], home: Home
) -> None:
    where, settings = str(home.root), home.settings_file.read_text()
    small = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=550k", "tmpfs", where], capture_output=True, text=True)
    if small.returncode:
        pytest.skip(f"a small disk cannot be made here: {small.stderr.strip()}")
    try:
        write_text(home.settings_file, settings)
        ready("instruction")
        done = brogue("train", "a", "--data", "instruction", "--epochs", "4")
        assert done.returncode == 1
        [line] = [line for line in done.stderr.splitlines() if line.startswith("brogue: ")]
        assert "cannot write to the run's folder" in line and "Make room" in line
        assert "Traceback" not in done.stderr
        [run] = runs.all_runs(home)
        assert runs.last_checkpoint(home.runs / run.id) is not None
        subprocess.run(["mount", "-o", "remount,size=20m", where], check=True)
        done = brogue("train", "a", "--data", "instruction", "--epochs", "4")
        assert done.returncode == 0, done.stderr
        assert "step 1/" not in done.stderr, "it did not begin again"
    finally:
        subprocess.run(["umount", where], check=True)


@pytest.mark.parametrize(
    ("kind", "rows", "more", "wanted"),
    [
        ("labelled", 40, ("--recipe", "dpo"), "the recipe 'dpo' takes preference or ranking"),
        ("preference", 40, (), "For preference records: --recipe dpo or kto or orpo or simpo or reward"),
        ("instruction", 40, ("--recipe", "magic"), "no recipe 'magic'; have: dpo, grpo, instruct, kto, labelled"),
        ("instruction", 1, (), "wants at least 2 answers to train on"),
        ("instruction", 40, ("--max-tokens", "16"), "leaves nothing to train on"),
        ("preference", 40, ("--recipe", "reward", "--max-tokens", "16"), "leaves nothing to train on"),
        ("rated", 40, ("--recipe", "kto", "--batch-size", "1"), "--batch-size 1"),
        ("rated", 40, (), "For rated records: --recipe kto"),
        ("preference", 40, ("--recipe", "dpo", "--beta", "0"), "beta"),
    ],
)
def test_what_cannot_be_trained_is_one_line_and_leaves_nothing(
    brogue: Run, ready: Callable[..., None], home: Home, kind: str, rows: int, more: tuple[str, ...], wanted: str
) -> None:
    ready(kind, rows)
    done = brogue("train", "a", "--data", kind, *more)
    assert done.returncode == 1, done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith("brogue: ") and wanted in line, done.stderr
    assert "Traceback" not in done.stderr and not list(home.runs.glob("*"))


def test_answers_that_are_too_long_are_counted_and_a_small_set_is_told(
    brogue: Run, ready: Callable[..., None], home: Home, tmp_path: Path
) -> None:
    ready("preference")
    rows = [pair(n) for n in range(30)]
    rows += [pair(n) | {"chosen": "Item 1 is in aisle 3. " * 40} for n in range(30, 40)]
    (tmp_path / "some.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert (
        brogue("data", "import", str(tmp_path / "some.jsonl"), "--as", "preference", "--into", "some").returncode == 0
    )
    done = brogue("train", "a", "--data", "some", "--recipe", "dpo", "--epochs", "1", "--max-tokens", "200")
    assert done.returncode == 0, done.stderr
    assert "pairs are left out, as they are longer than 200 tokens (--max-tokens; the longest has " in done.stderr
    assert "expect little from fewer than 100" in done.stderr
    listed = json.loads(brogue("runs", "list", "--json").stdout)
    assert [(run["state"], run["version"]) for run in listed] == [("done", "a@1")]
    [id] = [run["id"] for run in listed]
    for command, wanted in (("resume", "is done"), ("cancel", "is complete (a@1)")):
        done = brogue("runs", command, id)
        assert done.returncode == 1 and wanted in done.stderr
    run = runs.get(home, id)
    with (
        runs.running(home.runs / id, run.asked),
        pytest.raises(BrogueError, match="running already"),
        runs.running(home.runs / id, run.asked),
    ):
        pass


def test_a_run_that_another_process_holds_is_running_and_can_be_stopped(brogue: Run, home: Home) -> None:
    asked = runs.asked_now("a", "d", "0", "b", "0", {"recipe": "dpo"})
    folder = runs.folder_of(home, asked)
    script = "import sys, time; from pathlib import Path; from adapters import runs; "
    script += "asked = runs.asked_now('a', 'd', '0', 'b', '0', {'recipe': 'dpo'})\n"
    script += "with runs.running(Path(sys.argv[1]), asked): print('in', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "in\n"
        [run] = json.loads(brogue("runs", "list", "--json").stdout)
        assert (run["state"], run["pid"]) == ("running", process.pid)
        done = brogue("runs", "resume", run["id"])
        assert done.returncode == 1 and "is running; only one that was stopped" in done.stderr
        assert "a checkpoint is kept" in brogue("runs", "cancel", run["id"]).stdout
        assert process.wait(20) == -signal.SIGTERM
    assert runs.get(home, folder.name).state == "stopped"
