"""PPO's models on one set of base weights: the policy's LoRA, the adapter it began as (the reference), a value head."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import GenerationConfig

from adapters import methods
from adapters.base_model import load_weights
from adapters.ppo import PPOConfig
from adapters.trainer_cpu import speed_up
from data.home import new_folder

POLICY, REFERENCE = "default", "reference"  # PEFT saves the adapter called 'default' without a subfolder


class Policy:
    """A language model that learns, what it may not stray from, and its estimate of what a text is worth."""

    def __init__(self, model_path: str, tokenizer: Any, config: PPOConfig, start: Path | None) -> None:
        """`start` is a LoRA adapter's folder; without it the policy begins as the base model."""
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.dtype = getattr(torch, config.dtype)
        torch.manual_seed(config.seed)
        base = load_weights(model_path, config.dtype)
        spare_copies(base)
        self.end_ids = _end_ids(base, tokenizer)
        self.pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.end_ids[0]
        self.has_start = start is not None
        self.model = _with_adapters(base, config, start).to(self.device).eval()
        speed_up(self.model)
        # Plain sampling from the model's own distribution: a model's defaults (top_p, penalties) would make the
        # log-probabilities those of another distribution than the one sampled from.
        self.model.generation_config = GenerationConfig(
            do_sample=True, temperature=config.temperature, top_k=0, top_p=1.0, max_new_tokens=config.max_new_tokens,
            eos_token_id=self.end_ids, pad_token_id=self.pad_id,
        )  # fmt: skip
        width = base.get_output_embeddings().weight.shape[1]
        self.head = torch.nn.Linear(width, 1, device=self.device)
        torch.nn.init.zeros_(self.head.weight)  # values begin at 0
        torch.nn.init.zeros_(self.head.bias)

    def weights(self) -> dict[str, Tensor]:
        """The policy's own weights (float32), by name."""
        return {name: p for name, p in self.model.named_parameters() if f".{POLICY}." in name}

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Set what `weights()` gave."""
        with torch.no_grad():
            for name, parameter in self.weights().items():
                parameter.copy_(weights[name])

    def generate(self, tokens: Tensor, attention: Tensor) -> Tensor:
        """Sampled continuations of prompts padded on the left [B, P]; padded on the right, without the prompts."""
        with torch.no_grad(), self._autocast():
            found = self.model.generate(input_ids=tokens, attention_mask=attention)
        return found[:, tokens.shape[1] :]

    def forward(self, tokens: Tensor, attention: Tensor, answer: int) -> tuple[Tensor, Tensor]:
        """(logits [B, answer, V], values [B, answer] in float32) of the last `answer` tokens, seen before each."""
        positions = (attention.cumsum(1) - 1).clamp(min=0)
        with self._autocast():
            out = self.model(
                input_ids=tokens, attention_mask=attention, position_ids=positions, use_cache=False,
                output_hidden_states=True, logits_to_keep=answer + 1,
            )  # fmt: skip
        hidden = out.hidden_states[-1][:, -answer - 1 : -1].float()
        # Normalised, so that one learning rate does for every family of models.
        values = self.head(torch.nn.functional.layer_norm(hidden, hidden.shape[-1:])).squeeze(-1)
        return out.logits[:, -answer - 1 : -1], values

    @contextmanager
    def as_reference(self) -> Iterator[None]:
        """Within the block the model is what the policy began as."""
        if not self.has_start:
            with self.model.disable_adapter():
                yield
            return
        self.model.set_adapter(REFERENCE, inference_mode=True)
        try:
            yield
        finally:
            self.model.set_adapter(POLICY)

    def save(self, folder: Path) -> None:
        """Write the policy's LoRA as PEFT does, into a folder that does not exist yet."""
        with new_folder(folder) as temporary:
            self.save_into(temporary)

    def save_into(self, folder: Path) -> None:
        """Write the policy's LoRA into a folder that is there."""
        self.model.save_pretrained(folder, selected_adapters=[POLICY])

    def _autocast(self) -> Any:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16)


def spare_copies(model: Any) -> None:
    """Spare a model the copies of its frozen output matrix: on a CPU a round takes a third of the time.

    torch multiplies a slice of the hidden states (`logits_to_keep`, also within `generate`) with a matrix that takes no
    gradient as a batch, the matrix copied for each of its rows, unless the slice is made contiguous.
    """
    model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))


def _end_ids(base: Any, tokenizer: Any) -> list[int]:
    """All tokens that end an answer: the model's own list and the tokenizer's."""
    named = base.generation_config.eos_token_id
    ids = named if isinstance(named, list) else [named]
    return sorted({i for i in (*ids, tokenizer.eos_token_id) if i is not None})


def _with_adapters(base: Any, config: PPOConfig, start: Path | None) -> Any:
    if start is None:
        return methods.attach(base, methods.METHODS["lora"], config.rank)
    model = PeftModel.from_pretrained(base, start, adapter_name=POLICY, is_trainable=True)
    model.load_adapter(start, adapter_name=REFERENCE, is_trainable=False)
    model.set_adapter(POLICY)
    return model
