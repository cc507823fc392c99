"""PPO's answers written by the running engine: each round's policy is loaded, asked and unloaded, and others go on."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from adapters.ppo import PPOConfig, make_prompt
from data.home import Home
from data.records import Message
from tests.fakes import ADMIN_KEY, FakeEngine, FakeGateway
from tests.scripted_gateway import served

pytestmark = pytest.mark.usefixtures("one_thread")

END = 2  # the tiny model's end token
WANTED: dict[str, Any] = {
    "base_model": "base", "run": "voice-1", "policy": "policy-1-ab", "prompts": [[7, 8, 9], [7]], "max_tokens": 6,
    "temperature": 1.0, "stop": [END], "seed": 40,
}  # fmt: skip


class Writer(FakeEngine):
    """An engine that answers a prompt of ids with its first id, once for each id, and an end token."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[bytes] = []  # of the policies that were loaded
        self.wanted: list[dict[str, Any]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path != "/v1/completions" or self.state != "ready":
            return await super().handle_async_request(request)
        body = json.loads(request.content)
        assert body["model"] in self.loaded
        self.wanted.append(body)
        ids = [body["prompt"][0]] * min(len(body["prompt"]), body["max_tokens"] - 1)
        return httpx.Response(200, json={"choices": [{"index": 0, "token_ids": [*ids, END]}]})

    async def _load(self, body: dict[str, Any]) -> httpx.Response:
        self.weights.append((Path(body["lora_path"]) / "adapter_model.safetensors").read_bytes())
        if "refused" in self.says_no:
            return httpx.Response(500, json={"error": {"message": "LoRA rank 64 is greater than max_lora_rank 16."}})
        self.loaded[body["lora_name"]] = "policy"
        self.loads += 1
        return httpx.Response(200, text="Success")

    says_no: tuple[str, ...] = ()


@pytest.fixture
def engine() -> Writer:
    return Writer()


@pytest.fixture
def gateway(home: Home, engine: Writer) -> FakeGateway:
    home.create()
    return FakeGateway(home, engine, max_wait_s=0.3)


def folder_of(home: Home, run: str = "voice-1", policy: str = "policy-1-ab") -> Path:
    folder = home.runs / run / policy
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_text("weights")
    return folder


def post(gateway: FakeGateway, headers: dict[str, str] | None = None, **changes: Any) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with gateway.running() as client:
            while gateway.pool.why_closed():
                await asyncio.sleep(0.01)
            return await client.post("/v1/rollouts", json=WANTED | changes, headers=headers)

    return asyncio.run(ask())


def test_a_policy_answers_every_prompt_and_leaves_the_engine_as_it_was(
    home: Home, engine: Writer, gateway: FakeGateway
) -> None:
    folder_of(home)
    reply = post(gateway)
    assert reply.status_code == 200, reply.text
    assert reply.json() == {"answers": [[7, 7, 7, END], [7, END]]}
    assert [(one["model"], one["seed"], one["top_p"], one["top_k"]) for one in engine.wanted] == [
        ("voice-1-policy-1-ab", 40, 1.0, 0), ("voice-1-policy-1-ab", 41, 1.0, 0),
    ]  # fmt: skip
    assert not engine.loaded and gateway.pool.replicas.slots().in_use == 0


@pytest.mark.parametrize(
    ("changes", "status", "wanted"),
    [
        ({"base_model": "other"}, 409, "the engine holds base model base, not other"),
        ({"policy": "policy-9"}, 409, "no policy 'policy-9' in run 'voice-1' of this gateway's home"),
        ({"policy": "../../secrets"}, 400, "policy"),
        ({"run": "..", "policy": "adapters"}, 400, "run"),
        ({"prompts": []}, 400, "prompts"),
    ],
)
def test_what_cannot_be_asked_is_one_line_and_reaches_no_engine(
    home: Home, engine: Writer, gateway: FakeGateway, changes: dict[str, Any], status: int, wanted: str
) -> None:
    folder_of(home)
    reply = post(gateway, **changes)
    assert reply.status_code == status
    assert wanted in reply.json()["error"]["message"] and "\n" not in reply.json()["error"]["message"]
    assert engine.loads == 0


def test_only_an_admin_may_ask_a_policy_in_training(home: Home, engine: Writer, gateway: FakeGateway) -> None:
    folder_of(home)
    assert post(gateway, {"Authorization": "Bearer nobody"}).status_code == 401
    assert engine.loads == 0


class Training:
    """Four rounds of PPO on a tiny model, with a gateway's engine for the answers."""

    def __init__(self, home: Home, url: str, tmp_path: Path) -> None:
        from transformers import LlamaForCausalLM

        from adapters.base_model import load_tokenizer
        from adapters.ppo_engine import EngineRollouts
        from adapters.ppo_policy import Policy
        from adapters.ppo_trainer import PPOTrainer
        from tests.tiny_models import make_model

        config = PPOConfig(rounds=4, batch_size=4, minibatch_size=2, max_new_tokens=6, rank=4, dtype="float32")
        torch.manual_seed(0)
        folder = make_model(
            tmp_path / "tiny", LlamaForCausalLM, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=256, bos_token_id=1, eos_token_id=END,
        )  # fmt: skip
        tokenizer = load_tokenizer(folder)
        asked = [Message(role="user", content=text) for text in ("What is item 1?", "What is in aisle 3?", "What?")]
        prompts = [make_prompt(tokenizer, [message], None, False) for message in asked]
        self.said: list[str] = []
        self.run = home.runs / "voice-1"
        self.run.mkdir(parents=True)
        self.write = EngineRollouts((url, ADMIN_KEY), "base", self.run, config, self.said.append)

        def longer(_: Any, answers: Any) -> list[float]:
            return [float(len(answer)) for answer in answers]

        policy = Policy(str(folder), tokenizer, config, None)
        self.trainer = PPOTrainer(policy, tokenizer, prompts, longer, config, self.run, self.write)

    def train(self, on_round: Any = lambda _: None) -> None:
        assert self.trainer.train(on_round, lambda: False)
        self.write.close()
        assert not list(self.run.glob("policy-*"))


def test_each_rounds_policy_is_swapped_in_under_a_name_of_its_own(
    home: Home, engine: Writer, gateway: FakeGateway, tmp_path: Path
) -> None:
    with served(gateway.app) as url:
        training = Training(home, url, tmp_path)
        training.train()
    names = {one["model"] for one in engine.wanted}
    assert len(names) == 4 and len(engine.wanted) == 16 and not engine.loaded
    assert len(set(engine.weights)) == 4  # the weights of that round, not of another
    assert len({one["seed"] for one in engine.wanted}) == 16
    assert [stats.ended for stats in training.trainer.history] == [1] * 4
    assert training.trainer.history[0].kl == pytest.approx(0, abs=1e-4)  # by our own forward pass
    assert training.said == [f"the engine at {training.write._client.base_url} writes the answers"]


def test_without_the_engine_the_training_goes_on_by_itself_and_says_so(
    home: Home, engine: Writer, gateway: FakeGateway, tmp_path: Path
) -> None:
    def break_down(stats: Any) -> None:
        engine.state = "starting" if stats.round == 1 else "ready"

    with served(gateway.app) as url:
        training = Training(home, url, tmp_path)
        training.train(break_down)
    assert len(engine.wanted) == 3 * 4  # the second round was written here
    told = [line for line in training.said if "without the engine" in line]
    assert len(told) == 1 and "the engine is not available" in told[0] and len(training.said) == 3


def test_a_policy_that_the_engine_refuses_is_not_offered_again(
    home: Home, engine: Writer, gateway: FakeGateway, tmp_path: Path
) -> None:
    engine.says_no = ("refused",)
    with served(gateway.app) as url:
        training = Training(home, url, tmp_path)
        training.train()
    assert len(engine.weights) == 1 and not engine.wanted
    assert len(training.said) == 1 and "LoRA rank 64 is greater" in training.said[0]
