"""ORPO and SimPO: which answer is better, from the policy's own log-probabilities, with no reference to stay near.

TRL's own trainers of both are experimental: they tokenise again, know no weights of rows, and learn the prompt's tokens
too (ORPO). So the losses stand here, on the loop of TRL's DPO trainer; a test compares them with TRL's formulas.
"""
# ruff: noqa: ARG002 (the trainer's own signatures)

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from adapters.trainer_pairs import PairTrainer, answer_log_probs

SIMPO_MARGIN = 0.5  # times beta: by how much the better answer's reward is to lead (Meng et al. 2024, table 8: γ/β)


def log_odds_ratio(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Log of the ratio of the odds p/(1-p), from mean log-probabilities per token [B] (Hong et al. 2024, eq. 4)."""
    return (chosen - rejected) - (_log_rest(chosen) - _log_rest(rejected))


def _log_rest(log_p: Tensor) -> Tensor:
    """log(1 - p), for p < 1."""
    return torch.log(-torch.expm1(log_p.clamp(max=-1e-6)))


class _Alone(PairTrainer):
    """Learns from the mean log-probabilities per token of both answers; measured without a reference."""

    def means(self, model: Any, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Of the better and the worse answers, nats per token, [B] each."""
        lengths = inputs["completion_mask"].sum(1)
        chosen, rejected = (answer_log_probs(model, inputs) / lengths).chunk(2)
        return chosen, rejected

    def losses(self, chosen: Tensor, rejected: Tensor) -> Tensor:
        """One loss for each pair, from `means`."""
        raise NotImplementedError

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The weighted mean of the pairs' losses."""
        loss = (inputs["weight"] * self.losses(*self.means(model, inputs))).mean()
        return (loss, None) if return_outputs else loss


class OddsTrainer(_Alone):
    """ORPO (Hong et al. 2024, arXiv:2403.07691, eq. 6): the better answer's loss, and beta times the odds ratio's."""

    def margins(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        return log_odds_ratio(*self.means(model, inputs))

    def losses(self, chosen: Tensor, rejected: Tensor) -> Tensor:
        return torch.as_tensor(-chosen - self.beta * logsigmoid(log_odds_ratio(chosen, rejected)))


class MeanTrainer(_Alone):
    """SimPO (Meng et al. 2024, arXiv:2405.14734, eq. 6): the means' difference, times beta, is to exceed a margin."""

    def margins(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        chosen, rejected = self.means(model, inputs)
        return torch.as_tensor(self.beta * (chosen - rejected))

    def losses(self, chosen: Tensor, rejected: Tensor) -> Tensor:
        return torch.as_tensor(-logsigmoid(self.beta * (chosen - rejected - SIMPO_MARGIN)))
