"""PPO's rounds on tiny models: it learns what it is rewarded for, stays near where it began, and survives a kill."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters.padding import padded
from adapters.ppo import PPOConfig, Prompt, RoundStats, asked, make_prompt, repeated_share
from adapters.ppo_policy import Policy
from adapters.ppo_rollout import evaluated, make_rollout, measure, penalised, sample
from adapters.ppo_trainer import PPOTrainer, batch_of, newest_checkpoint
from adapters.progress import MEASURING, TrainProgress
from data.errors import BrogueError, DataError
from data.records import ChatRecord, LabelledRecord, Message, PreferenceRecord
from tests.tiny_models import make_model

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = PPOConfig(rounds=3, batch_size=4, minibatch_size=2, max_new_tokens=6, rank=4, dtype="float32", save_every=2)
SIZE: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": 2,
    "initializer_range": 0.5,  # as unlike tokens as a trained model's, so that LoRA has something to move
}  # fmt: skip


def vowels(_prompts: Sequence[Sequence[dict[str, Any]]], answers: Sequence[str]) -> list[float]:
    """A tenth for each vowel, at most 1: the optimum is known, and the model begins at a half of it."""
    return [min(1.0, sum(letter in "aeiou" for letter in answer) / 10) for answer in answers]


@dataclass
class Tiny:
    """A model's folder, its tokenizer and four questions."""

    folder: Path
    tokenizer: Any
    prompts: list[Prompt]

    def policy(self, config: PPOConfig = CONFIG, start: Path | None = None) -> Policy:
        return Policy(str(self.folder), self.tokenizer, config, start)

    def trainer(
        self, run: Path, config: PPOConfig = CONFIG, reward: Any = vowels, start: Path | None = None
    ) -> PPOTrainer:
        return PPOTrainer(self.policy(config, start), self.tokenizer, self.prompts, reward, config, run)


def make_tiny(folder: Path, model: Any, **more: Any) -> Tiny:
    from adapters.base_model import load_tokenizer

    torch.manual_seed(0)
    tokenizer = load_tokenizer(make_model(folder, model, **(SIZE | more)))
    texts = ["What is item 1?", "What is in aisle 3?", "Item 1?", "What?"]
    prompts = [make_prompt(tokenizer, [Message(role="user", content=text)], None, False) for text in texts]
    return Tiny(folder, tokenizer, prompts)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    from transformers import LlamaForCausalLM

    return make_tiny(tmp_path_factory.mktemp("ppo") / "llama", LlamaForCausalLM)


def never() -> bool:
    return False


def nothing(_: RoundStats) -> None:
    """Nobody watches."""


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_reward_rises_to_four_fifths_of_the_most_with_the_kl_in_its_band(
    tiny: Tiny, tmp_path: Path, seed: int
) -> None:
    config = PPOConfig(
        rounds=36, kl_target=8, batch_size=32, minibatch_size=16, max_new_tokens=8, rank=4, dtype="float32", seed=seed,
        learning_rate=3e-3, value_learning_rate=1e-2, unended_penalty=0, repetition_penalty=0, save_every=100,
    )  # fmt: skip
    trainer = tiny.trainer(tmp_path / "run", config)
    assert trainer.train(nothing, never)
    first, last = trainer.history[0], trainer.history[-8:]
    assert first.reward < 0.6 and first.kl == pytest.approx(0, abs=1e-4)
    assert sum(stats.reward for stats in last) / 8 >= 0.8
    assert 0.5 * config.kl_target < sum(stats.kl for stats in last) / 8 < 1.5 * config.kl_target
    assert max(stats.kl for stats in trainer.history) < 1.5 * config.kl_target
    seen = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [(stats["step"], stats["steps"]) for stats in seen] == [(number, 36) for number in range(1, 37)]


def test_a_run_that_was_killed_and_taken_up_again_ends_as_one_that_was_not(tiny: Tiny, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"rounds": 5})
    whole = tiny.trainer(tmp_path / "whole", config)
    assert whole.train(nothing, never)

    def die(stats: RoundStats) -> None:
        if stats.round == 4:  # one round after the checkpoint of round 2 had been followed by another
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiny.trainer(tmp_path / "killed", config).train(die, never)
    (tmp_path / "killed" / ".checkpoint-4.half").mkdir()  # what a kill within a save leaves
    again = tiny.trainer(tmp_path / "killed", config)
    done: list[int] = []
    assert again.train(lambda stats: done.append(stats.round), never)
    assert done == [3, 4, 5]
    same_end(whole, again)


def test_a_run_that_is_asked_to_stop_keeps_its_state_and_goes_on_from_there(tiny: Tiny, tmp_path: Path) -> None:
    whole = tiny.trainer(tmp_path / "whole")
    assert whole.train(nothing, never)
    assert not tiny.trainer(tmp_path / "stopped").train(nothing, lambda: True)
    assert newest_checkpoint(tmp_path / "stopped") == tmp_path / "stopped" / "checkpoint-1"
    again = tiny.trainer(tmp_path / "stopped")
    assert again.train(nothing, never)
    same_end(whole, again)


def test_a_checkpoint_of_which_a_part_is_gone_is_passed_over(tiny: Tiny, tmp_path: Path) -> None:
    assert tiny.trainer(tmp_path, CONFIG.model_copy(update={"save_every": 1, "rounds": 2})).train(nothing, never)
    state = tmp_path / "checkpoint-2" / "state.pt"
    state.write_bytes(state.read_bytes()[:1000])
    done: list[int] = []
    again = tiny.trainer(tmp_path, CONFIG.model_copy(update={"rounds": 2}))
    assert again.train(lambda stats: done.append(stats.round), never) and done == [2]


def same_end(one: PPOTrainer, other: PPOTrainer) -> None:
    for name, weights in one.policy.weights().items():
        assert torch.equal(weights, other.policy.weights()[name]), name
    assert torch.equal(one.policy.head.weight, other.policy.head.weight)
    for first, second in zip(one.history, other.history, strict=True):
        assert first.model_copy(update={"seconds": 0}) == second.model_copy(update={"seconds": 0})


def test_the_reference_is_the_adapter_it_began_as_on_the_same_base_weights(tiny: Tiny, tmp_path: Path) -> None:
    trainer = tiny.trainer(tmp_path / "first", CONFIG.model_copy(update={"learning_rate": 1e-2}))
    trainer.train(nothing, never)
    trainer.policy.save(tmp_path / "adapter")
    second = tiny.trainer(
        tmp_path / "second", CONFIG.model_copy(update={"learning_rate": 1e-2}), start=tmp_path / "adapter"
    )
    policy = second.policy
    lora = sum(p.numel() for p in trainer.policy.weights().values())
    base = sum(p.numel() for p in trainer.policy.model.parameters()) - lora
    assert sum(p.numel() for p in policy.model.parameters()) == base + 2 * lora
    tokens, attention = padded([p.ids for p in tiny.prompts], policy.pad_id, left=True)
    began = trainer.policy.forward(tokens, attention, 3)[0]
    assert torch.allclose(policy.forward(tokens, attention, 3)[0], began, atol=1e-4)
    second.train(nothing, never)
    assert second.history[0].kl == pytest.approx(0, abs=1e-4)
    assert not torch.allclose(policy.forward(tokens, attention, 3)[0], began, atol=1e-4)
    with policy.as_reference():
        assert torch.allclose(policy.forward(tokens, attention, 3)[0], began, atol=1e-4)
    assert all(p.requires_grad for p in policy.weights().values())
    policy.save(tmp_path / "result")
    assert sorted(path.name for path in (tmp_path / "result").iterdir() if path.suffix != ".md") == [
        "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip


def test_padding_changes_neither_log_probabilities_nor_values(tiny: Tiny) -> None:
    policy = tiny.policy()
    rollout = sample(policy, tiny.tokenizer, tiny.prompts)
    together = evaluated(policy, rollout, CONFIG)
    assert (rollout.attention == 0).any()  # the prompts are of different lengths
    for number, prompt in enumerate(tiny.prompts):
        answer = rollout.answers[number][rollout.mask[number].bool()].tolist()
        tokens = torch.tensor([[*prompt.ids, *answer]])
        logits, _ = policy.forward(tokens, torch.ones_like(tokens), len(answer))
        wanted = torch.log_softmax(logits[0].float(), -1)[range(len(answer)), answer]
        assert torch.allclose(together.logprobs[number][: len(answer)], wanted, atol=1e-4)


def test_the_first_step_of_a_round_starts_from_a_ratio_of_exactly_one(tiny: Tiny, tmp_path: Path) -> None:
    trainer = tiny.trainer(tmp_path, CONFIG.model_copy(update={"epochs": 1, "minibatch_size": 4, "rounds": 1}))
    trainer.train(nothing, never)
    assert trainer.history[0].step_kl == pytest.approx(0, abs=1e-9)
    assert trainer.history[0].clipped == 0


def test_answers_are_sampled_from_the_models_own_distribution_whatever_its_defaults_say(tmp_path: Path) -> None:
    """A model whose settings say 'always the likeliest token' would give one answer to a question asked 30 times."""
    from transformers import GenerationConfig, Qwen2ForCausalLM

    tiny = make_tiny(tmp_path / "qwen", Qwen2ForCausalLM)
    GenerationConfig(do_sample=True, top_k=1, repetition_penalty=1.3, eos_token_id=[2, 5]).save_pretrained(tiny.folder)
    policy = tiny.policy()
    assert policy.end_ids == [2, 5]
    assert len(set(sample(policy, tiny.tokenizer, tiny.prompts[:1] * 30).texts)) > 10


@pytest.mark.parametrize(("family", "more"), [("Qwen3", {"head_dim": 16}), ("Gemma2", {"head_dim": 16})])
def test_other_families_run_a_round_without_a_change(tmp_path: Path, family: str, more: dict[str, Any]) -> None:
    import transformers

    tiny = make_tiny(tmp_path / "model", getattr(transformers, f"{family}ForCausalLM"), **more)
    trainer = tiny.trainer(tmp_path / "run", CONFIG.model_copy(update={"rounds": 2, "dtype": "bfloat16"}))
    assert trainer.train(nothing, never)
    assert trainer.history[0].kl == 0  # the policy begins as its reference, in bfloat16 too


def test_what_follows_an_answers_end_token_is_no_part_of_it(tiny: Tiny) -> None:
    prompts, attention = padded([[7, 8, 9], [7]], pad_id=2, left=True)
    answers = torch.tensor([[5, 6, 2, 2, 2], [5, 6, 5, 6, 5]])  # the padding is the end token here
    rollout = make_rollout(prompts, attention, answers, [2], tiny.tokenizer, "cpu")
    assert rollout.mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert rollout.attention.tolist() == [[1, 1, 1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1, 1, 1]]
    assert rollout.ended == [True, False]
    assert rollout.texts[0] == tiny.tokenizer.decode([5, 6]).strip()
    assert rollout.repeated == [0, 0]
    config = CONFIG.model_copy(update={"unended_penalty": 0.5})
    assert penalised([1.0, 1.0], rollout, config) == [1.0, 0.5]


def test_a_loop_of_words_is_seen_and_varied_text_is_not() -> None:
    assert repeated_share([1, 2, 3] * 20) > 0.9
    assert repeated_share(list(range(60))) == 0
    assert repeated_share([1, 1, 1]) == 0  # too short for a sequence of four


def test_every_prompt_is_asked_once_before_one_comes_again() -> None:
    prompts = [Prompt(messages=(), ids=(number,)) for number in range(6)]
    order = [p.ids[0] for number in range(3) for p in batch_of(prompts, number, CONFIG)]
    assert sorted(order[:6]) == sorted(order[6:12]) == list(range(6))
    assert order[:6] != order[6:12]


def test_a_record_of_every_kind_of_conversation_is_asked_up_to_its_last_question() -> None:
    why, so = Message(role="user", content="Why?"), Message(role="assistant", content="So.")
    assert asked(ChatRecord(messages=(why, so, why, so))) == (why, so, why)
    assert asked(PreferenceRecord(messages=(why,), chosen="a", rejected="b")) == (why,)
    with pytest.raises(DataError, match="'labelled' records hold no conversation"):
        asked(LabelledRecord(text="Why?", label="question"))


def test_measuring_leaves_the_runs_random_numbers_alone(tiny: Tiny) -> None:
    policy = tiny.policy()
    before = torch.get_rng_state()
    seen = list[TrainProgress]()
    found = measure(policy, tiny.tokenizer, tiny.prompts * 2, vowels, CONFIG, reference=False, tell=seen.append)
    batches = -(-len(tiny.prompts * 2) // CONFIG.batch_size)
    assert [(p.phase, p.step, p.steps) for p in seen] == [(MEASURING, n + 1, batches) for n in range(batches)]
    assert torch.equal(before, torch.get_rng_state())
    assert found.kl == pytest.approx(0, abs=1e-4)
    assert found == measure(policy, tiny.tokenizer, tiny.prompts * 2, vowels, CONFIG, reference=False)
    assert measure(policy, tiny.tokenizer, tiny.prompts * 2, vowels, CONFIG, reference=True).reward == found.reward


Reward = Callable[[Any, Sequence[str]], list[float]]


@pytest.mark.parametrize(
    ("reward", "wanted"),
    [
        (lambda _, answers: [float("nan")] * len(answers), "the reward gave nan for the answer"),
        (lambda _, __: [1.0], "the reward gave 1 numbers for 4 answers"),
    ],
)
def test_a_reward_that_is_none_is_one_line(tiny: Tiny, tmp_path: Path, reward: Reward, wanted: str) -> None:
    with pytest.raises(BrogueError, match=wanted) as error:
        tiny.trainer(tmp_path, reward=reward).train(nothing, never)
    assert "\n" not in str(error.value)


def test_a_policy_that_strays_stops_with_its_last_good_state_named(tiny: Tiny, tmp_path: Path) -> None:
    wild = CONFIG.model_copy(
        update={"learning_rate": 0.05, "max_step_kl": 1e9, "rounds": 20, "save_every": 1, "kl_target": 0.5}
    )
    with pytest.raises(
        BrogueError, match="has strayed .* nats per answer .* lower learning rate .* is kept in"
    ) as error:
        tiny.trainer(tmp_path, wild).train(nothing, never)
    assert "\n" not in str(error.value)
    newest = newest_checkpoint(tmp_path)
    assert newest and str(newest) in str(error.value)


def test_a_loss_that_is_no_number_stops_before_it_reaches_the_weights(tiny: Tiny, tmp_path: Path) -> None:
    trainer = tiny.trainer(tmp_path, CONFIG.model_copy(update={"save_every": 1}))

    def spoil(stats: RoundStats) -> None:
        if stats.round == 1:
            with torch.no_grad():
                trainer.policy.head.bias.fill_(float("nan"))

    with pytest.raises(BrogueError, match="round 2 of 3: the loss is not a finite number any more"):
        trainer.train(spoil, never)
    assert all(bool(p.isfinite().all()) for p in trainer.policy.weights().values())


def test_a_full_disk_is_one_line_and_the_last_whole_checkpoint_stays(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = tiny.trainer(tmp_path, CONFIG.model_copy(update={"save_every": 1}))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(BrogueError, match="cannot write to the run.*No space left.*the same command again") as error:
        trainer.train(lambda stats: monkeypatch.setattr(torch, "save", full) if stats.round == 2 else None, never)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.glob("*checkpoint*")] == ["checkpoint-1"]
