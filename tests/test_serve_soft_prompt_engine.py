"""Soft prompts on a real engine: a tiny model with random weights, whose greedy answers are those of PEFT's generate().

Two soft prompts, a LoRA that changes the embeddings, and the base model are asked at the same time, so that all of them
are in the same batches. In float32 all tokens are equal.
"""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from adapters.base_model import BaseModel, prepare
from adapters.registry import CARD, AdapterCard, Registry, Served, file_hashes
from adapters.template import chat_templates
from data.home import Home, write_json
from data.settings import EngineSettings
from serve.engine import Engine
from serve.engine_api import EngineLink
from serve.hardware import plan
from serve.soft_prompt import ENGINE_ARGS
from tests.fakes import FakeGateway
from tests.tiny_models import make_model

pytestmark = [pytest.mark.slow, pytest.mark.engine]
QUESTIONS = ["What is item 1?", "Is item 3 in aisle 3?", "user"]
TOKENS, END = 20, 2
LONGEST = 256  # tokens of a conversation


class RealEngine:
    """A running vLLM in the place of the fake one."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def client(self) -> httpx.AsyncClient:
        return self._engine.client()

    def link(self, name: str) -> EngineLink:
        return EngineLink(name, self.client())


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    import torch
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    folder = make_model(
        tmp_path_factory.mktemp("models") / "base", LlamaForCausalLM, hidden_size=64, intermediate_size=128,
        num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=512,
        bos_token_id=1, eos_token_id=END, tie_word_embeddings=False, initializer_range=0.2,
    )  # fmt: skip
    return prepare(str(folder), Home(tmp_path_factory.mktemp("looked-at")), print)


def configs() -> dict[str, tuple[Any, Served]]:
    """What is trained, and how it is served."""
    from peft import LoraConfig, PromptEncoderConfig, PromptTuningConfig

    words: dict[str, Any] = {"r": 4, "target_modules": ["embed_tokens", "q_proj"], "init_lora_weights": False}
    return {
        "prompt-tuning": (PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=6), "soft-prompt"),
        "p-tuning": (
            PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=3, encoder_hidden_size=32), "soft-prompt",
        ),
        "words": (LoraConfig(task_type="CAUSAL_LM", **words), "native"),
    }  # fmt: skip


def make_version(home: Home, base: BaseModel, name: str, config: Any, served: Served) -> dict[str, list[int]]:
    """A version with random weights in the registry; gives PEFT's own greedy answers, as tokens."""
    import torch
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32), config).eval()
    for parameters in model.prompt_encoder.parameters() if served == "soft-prompt" else ():
        torch.nn.init.normal_(parameters)
    with Registry(home).new_version(name) as (version, folder):
        model.save_pretrained(str(folder))
        card = AdapterCard(
            adapter=name, version=version, base_model="base", base_sha256=base.sha256, dataset="d", dataset_digest="0",
            recipe="sft", method=name, rank=4, served=served, config={}, system_prompt=None, parent=None, scores={},
            minutes=1, created="2026-11-21", files=file_hashes(folder),
        )  # fmt: skip
        write_json(folder / CARD, card.model_dump(mode="json"))
    return {question: generated(model, base, question) for question in QUESTIONS}


def generated(model: Any, base: BaseModel, question: str) -> list[int]:
    from transformers import AutoTokenizer

    prompt = AutoTokenizer.from_pretrained(base.path).apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = model.generate(**prompt, max_new_tokens=TOKENS, do_sample=False, pad_token_id=0)
    return [int(token) for token in answer[0, prompt["input_ids"].shape[1] :] if token != END]


@pytest.fixture
def engine(base: BaseModel, home: Home) -> Iterator[Engine]:
    settings = EngineSettings(
        dtype="float32", max_num_seqs=16, max_loras=2, max_lora_rank=8, max_model_len=LONGEST, extra_args=ENGINE_ARGS
    )
    chosen = plan(settings, base.weight_bytes, 2 * base.kv_bytes_per_token, base.context_length)
    engine = Engine.build(base.path, "base", settings, chosen, home)
    engine.start()
    yield engine
    engine.stop()


def test_greedy_answers_are_those_of_pefts_generate_in_mixed_batches_and_streams_too(
    home: Home, base: BaseModel, engine: Engine
) -> None:
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(base.path)
    wanted = {"base": {question: generated(plain, base, question) for question in QUESTIONS}}
    wanted |= {name: make_version(home, base, name, *how) for name, how in configs().items()}
    assert len({str(tokens) for answers in wanted.values() for tokens in answers.values()}) == 12, "all are different"
    engine.wait_ready(900, lambda _: None)
    gateway = FakeGateway(home, RealEngine(engine), templates=chat_templates(base.path))  # type: ignore[arg-type]
    found, whole, stream, (fits, too_long) = asyncio.run(asked(gateway, list(wanted)))
    assert found == wanted
    assert stream == whole, "the same words, piece by piece"
    assert fits.status_code == 200
    assert (too_long.status_code, "maximum" in too_long.json()["error"]["message"]) == (400, True)


async def asked(
    gateway: FakeGateway, models: list[str]
) -> tuple[dict[str, dict[str, list[int]]], str, str, list[httpx.Response]]:
    """Every question to every model at once: the tokens of the answers. Then one answer whole and as a stream.

    At last what fits for the base model by a few tokens, and not with six vectors before it.
    """

    async def ask(model: str, question: str, **more: Any) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": question}], "temperature": 0} | more
        return await client.post("/v1/chat/completions", json={"max_tokens": TOKENS, "return_token_ids": True} | body)

    async with gateway.running() as client:
        client.timeout = httpx.Timeout(300)
        pairs = [(model, question) for question in QUESTIONS for model in models]
        replies = [r.json() for r in await asyncio.gather(*(ask(model, question) for model, question in pairs))]
        stream = await ask("prompt-tuning", QUESTIONS[0], stream=True)
        used = (await ask("base", "3" * 100, max_tokens=1)).json()["usage"]["prompt_tokens"] - 100
        long = [await ask(model, "3" * (LONGEST - 4 - used), max_tokens=1) for model in ("base", "prompt-tuning")]
    found: dict[str, dict[str, list[int]]] = {model: {} for model in models}
    for (model, question), reply in zip(pairs, replies, strict=True):
        found[model][question] = [token for token in reply["choices"][0]["token_ids"] if token != END]
    events = [json.loads(line[6:]) for line in stream.text.split("\n\n") if line.startswith("data: {")]
    pieces = [choice["delta"].get("content") or "" for event in events for choice in event["choices"]]
    whole = replies[pairs.index(("prompt-tuning", QUESTIONS[0]))]["choices"][0]["message"]["content"]
    return found, whole, "".join(pieces), long
