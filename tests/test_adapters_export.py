"""Adapters from and to the world outside: made with plain PEFT, imported, exported, read by plain PEFT again."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from adapters.base_model import BaseModel, prepare
from adapters.exporting import export_version
from adapters.importing import import_adapter
from adapters.registry import CARD, Registry
from adapters.validation import check_version, problems
from data.errors import BrogueError
from data.home import Home, write_text
from tests.conftest import Run
from tests.tiny_models import TEMPLATE, make_model

pytestmark = pytest.mark.slow

WEIGHTS = "adapter_model.safetensors"
KINDS: dict[str, dict[str, Any]] = {
    "plain": {"target_modules": ["q_proj", "v_proj"]},
    "all linear": {"target_modules": "all-linear", "r": 3},
    "patterns": {
        "target_modules": r".*\.(q_proj|down_proj)", "use_rslora": True,
        "rank_pattern": {"down_proj": 5}, "alpha_pattern": {"0.self_attn.q_proj": 1},
    },
    "some layers": {"target_modules": ["o_proj"], "layers_to_transform": [1]},
    "tied embeddings": {"target_modules": ["embed_tokens", "lm_head", "q_proj"]},
}  # fmt: skip


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with random weights and tied embeddings."""
    from transformers import LlamaForCausalLM

    return make_model(
        tmp_path_factory.mktemp("models") / "tiny-llama", LlamaForCausalLM, hidden_size=32, intermediate_size=48,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
        bos_token_id=1, eos_token_id=2, tie_word_embeddings=True,
    )  # fmt: skip


@pytest.fixture
def base(home: Home, llama: Path) -> BaseModel:
    home.create()
    write_text(home.settings_file, f'base_model = "{llama}"')
    return prepare(str(llama), home, lambda _: None)


def train_with_peft(model_folder: Path, folder: Path, kind: str = "LoraConfig", **config: Any) -> Any:
    """An adapter as somebody without Brogue makes one, saved to `folder`; gives the logits of some fixed tokens."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    settings = {"task_type": "CAUSAL_LM", **({"r": 4, "lora_alpha": 8} if kind == "LoraConfig" else {}), **config}
    bare = AutoModelForCausalLM.from_pretrained(model_folder)
    model = peft.get_peft_model(bare, getattr(peft, kind)(**settings))
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(5):
        tokens = some_tokens()
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    model.save_pretrained(folder)
    return logits(model)


def some_tokens() -> Any:
    import torch

    return torch.tensor([[1, 5, 9, 17, 8, 3, 2, 10]])


def logits(model: Any) -> Any:
    import torch

    with torch.no_grad():
        return model.eval()(input_ids=some_tokens()).logits


def logits_with_peft(model_folder: Path, adapter: Path) -> Any:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    return logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model_folder), str(adapter)))


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_made_with_plain_peft_comes_in_goes_out_and_merges_with_the_same_logits(
    kind: str, home: Home, llama: Path, base: BaseModel, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    wanted = train_with_peft(llama, tmp_path / "made", **KINDS[kind])
    card, _ = import_adapter(tmp_path / "made", "guest", base, 16, home)
    version = Registry(home).folder("guest", card.version)
    export_version(card, version, base, tmp_path / "out")
    torch.testing.assert_close(logits_with_peft(llama, tmp_path / "out"), wanted)
    cautions = export_version(card, version, base, tmp_path / "merged", merge=True)
    assert cautions == []
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(merged), wanted, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(logits(AutoModelForCausalLM.from_pretrained(llama)), wanted, atol=1e-2), "it learnt"
    assert AutoTokenizer.from_pretrained(tmp_path / "merged").chat_template == TEMPLATE


OTHERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "ia3": ("IA3Config", {}, "merged"),
    "ln-tuning": ("LNTuningConfig", {}, "merged"),
    "trainable-tokens": ("TrainableTokensConfig", {"token_indices": [3, 9]}, "merged"),  # tied: in both layers
    "dora": ("LoraConfig", {"use_dora": True, "target_modules": ["q_proj"]}, "merged"),
    "prompt-tuning": ("PromptTuningConfig", {"num_virtual_tokens": 4}, "soft-prompt"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_kinds_of_peft_come_in_and_go_out_and_merge_where_they_change_weights(
    kind: str, brogue: Run, home: Home, llama: Path, base: BaseModel, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    made, options, served = OTHERS[kind]
    wanted = train_with_peft(llama, tmp_path / "made", made, **options)
    done = brogue("adapters", "import", str(tmp_path / "made"), "--as", "guest")
    said = {"merged": f"{kind}, merged into an engine of its own", "soft-prompt": f"soft prompt ({kind})"}[served]
    assert done.stdout.startswith(f"guest@1: {said} for base model tiny-llama"), done.stderr
    card, version = Registry(home).card("guest", 1), Registry(home).folder("guest", 1)
    assert (card.served, card.method) == (served, kind)
    check_version(card, version, base, 8, home.root)
    [caution] = export_version(card, version, base, tmp_path / "out")
    torch.testing.assert_close(logits_with_peft(llama, tmp_path / "out"), wanted)
    if served == "soft-prompt":
        assert "prompt_embeds" in caution
        with pytest.raises(BrogueError, match="changes no weights; leave --merge away"):
            export_version(card, version, base, tmp_path / "merged", merge=True)
        return
    assert "add --merge" in caution
    export_version(card, version, base, tmp_path / "merged", merge=True)
    torch.testing.assert_close(
        logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged")), wanted, atol=1e-4, rtol=1e-4
    )


def test_an_adapter_of_which_a_part_is_missing_is_not_merged(
    home: Home, llama: Path, base: BaseModel, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file, save_file

    train_with_peft(llama, tmp_path / "made", "IA3Config")
    weights = load_file(tmp_path / "made" / WEIGHTS)
    lost = sorted(weights)[0]
    save_file({name: tensor for name, tensor in weights.items() if name != lost}, tmp_path / "made" / WEIGHTS)
    with pytest.raises(BrogueError, match=f"does not fit this base model: {re.escape(lost)} is missing"):
        import_adapter(tmp_path / "made", "guest", base, 16, home)
    assert Registry(home).adapters() == []


def test_merging_by_command_makes_a_whole_model_or_nothing(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from adapters import merging

    wanted = train_with_peft(llama, tmp_path / "made", "IA3Config")
    words = ["merging", str(llama), str(tmp_path / "made"), str(tmp_path / "whole"), "--dtype", "float32"]
    monkeypatch.setattr("sys.argv", words)
    assert merging.main() == 0
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "whole", dtype="auto")
    assert merged.dtype == torch.float32
    torch.testing.assert_close(logits(merged), wanted, atol=1e-4, rtol=1e-4)
    assert merging.main() == 0, "what is there is left alone"
    (tmp_path / "made" / WEIGHTS).write_bytes(b"x" * 50)
    monkeypatch.setattr("sys.argv", [*words[:3], str(tmp_path / "other")])
    capsys.readouterr()
    assert merging.main() == 1
    assert capsys.readouterr().err.startswith(f"cannot merge {tmp_path / 'made'}: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "whole"]


def test_a_download_with_other_files_in_it_is_imported_by_command_and_exported_as_an_archive(
    brogue: Run, home: Home, llama: Path, base: BaseModel, tmp_path: Path
) -> None:
    made = tmp_path / "made"
    train_with_peft(llama, made, target_modules=["q_proj"])
    (made / "optimizer.pt").write_bytes(b"a pickle")
    cache = tmp_path / "models--guest" / "snapshots" / "1f9c2b"  # a hub's cache: links to blobs
    cache.mkdir(parents=True)
    for path in made.iterdir():
        (cache / path.name).symlink_to(path)
    done = brogue("adapters", "import", str(tmp_path / "models--guest"), "--as", "guest")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "guest@1: LoRA of rank 4 for base model tiny-llama, every tensor checked\n"
    assert "left behind: README.md, optimizer.pt" in done.stderr
    card = json.loads(brogue("adapters", "show", "guest", "--json").stdout)
    assert (card["recipe"], card["dataset"], card["base_sha256"]) == ("imported", "imported", base.sha256)
    assert (card["aliases"], card["status"], card["history"][0]["after"]) == (["stable"], None, 1)
    folder = Registry(home).folder("guest", 1)
    assert sorted(p.name for p in folder.iterdir()) == ["adapter_config.json", WEIGHTS, CARD]
    assert problems(folder, base, 16, Registry(home).card("guest", 1)) == []
    for name in ("out.tar.gz", "out.zip"):
        done = brogue("adapters", "export", "guest@1", "--to", str(tmp_path / name), "--json")
        assert json.loads(done.stdout) == {"version": "guest@1", "path": str(tmp_path / name), "merged": False}
        shutil.unpack_archive(tmp_path / name, tmp_path / f"from {name}")
        inside = tmp_path / f"from {name}" / "guest-1"
        assert (inside / WEIGHTS).read_bytes() == (made / WEIGHTS).read_bytes()
        assert "tiny-llama (sha256" in (inside / "README.md").read_text()
    assert "exists already" in brogue("adapters", "export", "guest", "--to", str(tmp_path / "out.zip")).stderr


def test_what_brogue_exported_comes_back_with_its_card(
    home: Home, llama: Path, base: BaseModel, tmp_path: Path
) -> None:
    train_with_peft(llama, tmp_path / "made", target_modules=["q_proj"])
    first, _ = import_adapter(tmp_path / "made", "guest", base, 16, home, system_prompt="Be short.")
    export_version(first, Registry(home).folder("guest", 1), base, tmp_path / "guest.zip")
    again, left = import_adapter(tmp_path / "guest.zip", "friend", base, 16, home)
    assert (again.name, again.system_prompt, again.created) == ("friend@1", "Be short.", first.created)
    assert left == ["README.md"]
    other = base.model_copy(update={"sha256": "other"})
    with pytest.raises(BrogueError, match="with other weights"):
        import_adapter(tmp_path / "guest.zip", "friend", other, 16, home)
    taken, _ = import_adapter(tmp_path / "guest.zip", "friend", other, 16, home, same_base=True)
    assert (taken.name, taken.base_sha256) == ("friend@2", "other")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda f: (f / WEIGHTS).rename(f / "adapter_model.bin"), "adapter_model.bin is a pickle file"),
        (lambda f: (f / WEIGHTS).unlink(), f"no {WEIGHTS} in it; wanted a folder that PEFT saved"),
        (lambda f: (f / "adapter_config.json").unlink(), "no adapter_config.json in it"),
        (lambda f: (f / WEIGHTS).write_bytes(b"x" * 50), "is broken or cut off"),
        (lambda f: shutil.copytree(f, f / "checkpoint-1") and shutil.copytree(f / "checkpoint-1", f / "checkpoint-2")
         and (f / "adapter_config.json").unlink(), "holds 2 adapters (checkpoint-1, checkpoint-2); name one"),
        (lambda f: shutil.rmtree(f), "no folder or archive"),
        (lambda f: (shutil.rmtree(f), f.write_text("text")), "is no folder and cannot be unpacked"),
    ],
)  # fmt: skip
def test_what_cannot_be_imported_leaves_nothing_behind(
    spoil: Any, reason: str, home: Home, llama: Path, base: BaseModel, tmp_path: Path
) -> None:
    train_with_peft(llama, tmp_path / "made", target_modules=["q_proj"])
    spoil(tmp_path / "made")
    with pytest.raises(BrogueError) as error:
        import_adapter(tmp_path / "made", "guest", base, 16, home)
    assert reason in str(error.value)
    assert Registry(home).adapters() == []
    assert not list((home.adapters / "guest").glob("[!.]*")) if (home.adapters / "guest").exists() else True


def test_gpt2s_layers_are_known_too(home: Home, tmp_path: Path) -> None:
    from transformers import GPT2LMHeadModel

    folder = make_model(tmp_path / "tiny-gpt2", GPT2LMHeadModel, n_embd=32, n_layer=1, n_head=2, n_positions=64)
    base = prepare(str(folder), home, lambda _: None)
    assert base.modules["transformer.h.0.attn.c_attn"] == (96, 32)
    assert base.embeddings == ("transformer.wte", "transformer.wpe")
    train_with_peft(folder, tmp_path / "made", target_modules=["c_attn"])
    assert problems(tmp_path / "made", base, 16) == []
