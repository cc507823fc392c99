"""Likelihoods are those of the served prompt's ids, whatever the method, the order of the arms or the batch."""

from pathlib import Path
from typing import Any

import pytest

from adapters import methods
from adapters.base_model import BaseModel, load_weights, prepare
from adapters.exam_types import Messages
from adapters.registry import CARD, AdapterCard, Registry
from adapters.tokens import encode_answer, prompt_ids
from data.errors import BrogueError
from data.home import Home, write_json
from tests.fakes import add_card
from tests.tiny_models import tiny_llama

PROMPTS: list[Messages] = [
    [{"role": "user", "content": "What is item 1?"}],
    [{"role": "user", "content": "Item 2, or else a much longer question about item 3 in aisle 4?"}],
    [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "1?"}],
]
TEXTS = ["Item 1 is in aisle 3.", "No.", "What is that, and why would it be in an aisle at all?"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With larger weights than a model begins with: else all tokens are about equally likely, whatever is asked."""
    import torch

    folder = tiny_llama(tmp_path_factory.mktemp("model"))
    model = load_weights(folder, "float32")
    with torch.no_grad():
        for weight in model.parameters():
            weight *= 10 if weight.ndim > 1 else 1
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def base(home: Home, tiny: Path) -> BaseModel:
    home.create()
    return prepare(str(tiny), home, lambda _: None)


def version(home: Home, base: BaseModel, method: str, seed: int = 1) -> AdapterCard:
    """A version of that method whose weights were moved far enough to tell."""
    import torch

    torch.manual_seed(seed)
    model = methods.attach(load_weights(base.path, "float32"), methods.find(method), 4)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight += 0.3 * torch.randn_like(weight)
    with Registry(home).new_version("acme") as (number, folder):
        model.save_pretrained(str(folder))
        card = add_card(folder, "acme", number, base=base.sha256).model_copy(update={"method": method})
        write_json(folder / CARD, card.model_dump(mode="json"))
    return card


def by_hand(home: Home, base: BaseModel, tokenizer: Any, card: AdapterCard | None) -> list[list[float]]:
    """One text at a time, in float32, straight from the model."""
    import torch
    from peft import PeftModel

    model = load_weights(base.path, "float32")
    if card is not None:
        model = PeftModel.from_pretrained(model, str(Registry(home).folder(card.adapter, card.version)))
    found = []
    for prompt, text in zip(PROMPTS, TEXTS, strict=True):
        turns = [{**prompt[0], "content": f"Be brief.\n\n{prompt[0]['content']}"}, *map(dict, prompt[1:])]
        before, ids = prompt_ids(tokenizer, turns), encode_answer(tokenizer, turns, text)
        with torch.no_grad():
            logits = model.eval()(input_ids=torch.tensor([before + ids]), use_cache=False).logits[0, -len(ids) - 1 : -1]
        found.append(logits.log_softmax(-1)[range(len(ids)), ids].tolist())
    return found


def apart(some: list[float], others: list[float]) -> float:
    """The mean distance."""
    return sum(abs(a - b) for a, b in zip(some, others, strict=True)) / len(some)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("method", ["lora", "ia3", "prompt-tuning"])
def test_they_are_the_models_own_whatever_the_method_and_leave_the_base_as_it_was(
    home: Home, base: BaseModel, method: str
) -> None:
    from adapters.base_model import load_tokenizer
    from adapters.likelihood import Likelihoods

    cards = [version(home, base, method), version(home, base, "lora", seed=2), None]
    asked, tokenizer = Likelihoods(Registry(home), base), load_tokenizer(base.path)
    exact = {card and card.name: by_hand(home, base, tokenizer, card) for card in cards}
    for card in [*cards, cards[0], None]:
        found: dict[int, list[float]] = {}
        asked.of(card, "Be brief.", PROMPTS, TEXTS, found.__setitem__)
        for number, values in enumerate(exact[card and card.name]):
            assert apart(found[number], values) < 0.1, (method, card and card.name)  # bfloat16
    assert apart(exact["acme@1"][0], exact[None][0]) > 0.2, "more than by the arithmetic"


@pytest.mark.usefixtures("one_thread")
def test_texts_without_a_prompt_begin_where_a_text_begins(home: Home, base: BaseModel) -> None:
    import torch

    from adapters.base_model import load_tokenizer
    from adapters.likelihood import Likelihoods

    found: dict[int, list[float]] = {}
    texts = ["Item 1 is in aisle 3.", "", "x" * 2000]
    Likelihoods(Registry(home), base).of(None, "unused", [None] * 3, texts, found.__setitem__)
    tokenizer = load_tokenizer(base.path)
    ids = [tokenizer.bos_token_id, *tokenizer(texts[0], add_special_tokens=False)["input_ids"]]
    logits = load_weights(base.path, "float32")(input_ids=torch.tensor([ids])).logits[0, :-1]
    assert found[0] == pytest.approx(logits.log_softmax(-1)[range(len(ids) - 1), ids[1:]].tolist(), abs=0.12)
    assert found[1] == []
    assert len(found[2]) == base.context_length - 1, "no further than the model can see"


def test_a_version_of_another_base_model_is_refused(home: Home, base: BaseModel) -> None:
    from adapters.likelihood import Likelihoods

    card = version(home, base, "lora").model_copy(update={"base_sha256": "another"})
    with pytest.raises(BrogueError, match="acme@1 was trained on base model base; the base model is tiny"):
        Likelihoods(Registry(home), base).of(card, None, PROMPTS, TEXTS, lambda *_: None)
