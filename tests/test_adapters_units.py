"""Tokens, registry and the training's own rules, without a model."""

import json
from pathlib import Path

import pytest

from adapters.base_model import prepare
from adapters.recipes import RECIPES, find
from adapters.registry import Registry
from adapters.runs import last_checkpoint
from adapters.tokens import IGNORED, encode
from data.errors import BrogueError, UnknownName
from data.home import Home
from data.records import Message
from tests.fakes import CharTokenizer, add_version

USER, ANSWER = Message(role="user", content="Hi"), Message(role="assistant", content=" Yes ")


def text(ids: list[int]) -> str:
    return "".join(chr(i) for i in ids if i != IGNORED)


def test_loss_is_on_the_answer_and_its_end_only() -> None:
    [example] = encode(CharTokenizer(), [USER, ANSWER], "Be kind.", supports_system=True)
    assert text(example["input_ids"]) == "<s>Be kind.$\n<u>Hi$\n<a>Yes$"
    assert text(example["labels"]) == "Yes$"
    assert len(example["labels"]) == len(example["input_ids"])


def test_every_answer_of_a_conversation_is_an_example_with_all_that_came_before() -> None:
    first, second = encode(CharTokenizer(), [USER, ANSWER, USER, ANSWER], None, supports_system=True)
    assert text(first["input_ids"]) == "<u>Hi$\n<a>Yes$"
    assert text(second["input_ids"]) == "<u>Hi$\n<a>Yes$\n<u>Hi$\n<a>Yes$"
    assert text(second["labels"]) == "Yes$", "the earlier answer is context here"


def test_a_template_without_system_turn_gets_the_prompt_in_the_first_question() -> None:
    [example] = encode(CharTokenizer(), [USER, ANSWER], "Be kind.", supports_system=False)
    assert text(example["input_ids"]) == "<u>Be kind.\n\nHi$\n<a>Yes$"


def test_the_first_version_becomes_stable_and_later_ones_wait(home: Home) -> None:
    registry = Registry(home)
    add_version(home, "a")
    add_version(home, "a")
    assert (registry.versions("a"), registry.aliases("a")) == ([1, 2], {"stable": 1})
    assert [registry.resolve(r).name for r in ("a", "a@stable", "a@2")] == ["a@1", "a@1", "a@2"]


def test_engine_names_of_two_versions_always_differ(home: Home) -> None:
    names = {add_version(home, "a").engine_name, add_version(home, "a").engine_name}
    assert len(names) == 2


@pytest.mark.parametrize("reference", ["b", "a@3", "a@canary", "a@"])
def test_an_unknown_adapter_or_version_is_answered_with_what_there_is(home: Home, reference: str) -> None:
    add_version(home, "a")
    if reference == "a@":
        assert Registry(home).resolve(reference).version == 1
        return
    with pytest.raises(UnknownName, match="have: "):
        Registry(home).resolve(reference)


def test_a_version_that_fails_half_way_is_not_there(home: Home) -> None:
    with pytest.raises(ZeroDivisionError), Registry(home).new_version("a"):
        raise ZeroDivisionError
    assert Registry(home).versions("a") == []


def test_small_datasets_are_passed_over_more_often() -> None:
    assert [find("sft").passes(n) for n in (10, 73, 300, 1450, 10**6)] == [8, 4, 1, 1, 1]
    assert find("dpo").passes(10) == 3, "people's preferences are learnt by heart sooner"


def test_small_models_and_recipes_that_learn_answers_get_higher_learning_rates() -> None:
    for recipe in RECIPES.values():
        assert recipe.peak_learning_rate(270_000_000) > recipe.peak_learning_rate(15_000_000_000)
    assert find("dpo").peak_learning_rate(0) < find("sft").peak_learning_rate(0)


def test_a_checkpoint_that_a_kill_cut_off_is_passed_over(tmp_path: Path) -> None:
    whole = '{"global_step": 1}'
    for step, state in ((5, whole), (10, whole), (15, '{"cut'), (20, None), (25, whole)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        for name in ("adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth")[step // 25 :]:
            (folder / name).touch()
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-5"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"config.json": {"architectures": ["LlamaForCausalLM"]}}, r"has no weights \(.*\); found: config.json"),
        ({}, "found: nothing"),
        ({"config.json": {}, "model.safetensors": {}}, "names no 'architectures'"),
        ({"config.json": "x", "model.safetensors": {}}, "not valid JSON"),
    ],
)  # fmt: skip
def test_a_base_model_folder_that_is_not_whole_says_what_is_missing(
    home: Home, tmp_path: Path, files: dict[str, object], message: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(BrogueError, match=message):
        prepare(str(folder), home, lambda _: None)


def test_a_base_model_that_is_neither_folder_nor_hub_id_is_refused(home: Home) -> None:
    with pytest.raises(BrogueError, match="neither a folder nor a Hugging Face id"):
        prepare("./nowhere", home, lambda _: None)
