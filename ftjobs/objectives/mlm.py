"""What is minimized: the summed cross-entropy of a batch. The loop divides by the items of the whole step.

How many tokens are masked differs from batch to batch. Each new shape costs kernels made for it, and blocks of memory
that no later one fits into; so logits are computed for a multiple of 16 positions, of which the last do not count.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ftjobs.data.examples.batching import Batch
from ftjobs.training.speedups import last_layer

_POSITIONS = 16
_IGNORED = -100


def rounded(positions: torch.Tensor) -> torch.Tensor:
    """Of M masked positions a multiple of 16, the last of which are the first token of the batch: int64 (M',)."""
    return functional.pad(positions, (0, -len(positions) % _POSITIONS))


def masked_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Summed over the M masked positions, of logits at `rounded` ones: scalar, of (M', V) and (M,)."""
    labels = functional.pad(labels, (0, len(logits) - len(labels)), value=_IGNORED)
    return functional.cross_entropy(logits, labels, reduction="sum", ignore_index=_IGNORED)


class MaskedLM:
    """Masked language modelling in which only masked positions reach the vocabulary.

    Usual scripts compute B * T * V logits and ignore six of seven. Every masked-LM head works position by position,
    so the encoder's output is cut down to the M masked positions before the head sees it, in its last layer where the
    family allows that: the same loss for M * V.
    """

    def __init__(self, model: Any) -> None:
        """Args: model: a transformers masked-LM model, not wrapped."""
        self._positions: torch.Tensor | None = None
        if not last_layer.keep(model, self._masked):
            model.base_model.register_forward_hook(self._keep_masked)

    def logits(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Logits at the masked positions, and some that do not count: (M', V)."""
        self._positions = None if batch.positions is None else rounded(batch.positions)
        try:
            logits: torch.Tensor = model(**batch.inputs).logits  # (1, M', V)
        finally:
            self._positions = None
        return logits[0]

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Summed cross-entropy over the M masked positions of a batch: scalar."""
        return masked_cross_entropy(self.logits(model, batch), batch.labels)

    def _masked(self, hidden: torch.Tensor) -> torch.Tensor:
        """Of (B, T, H) the masked positions: (1, M', H)."""
        return hidden if self._positions is None else hidden.flatten(0, 1)[self._positions].unsqueeze(0)

    def _keep_masked(self, module: nn.Module, arguments: Any, output: Any) -> Any:
        output.last_hidden_state = self._masked(output.last_hidden_state)
        return output
