"""Masked language modeling with logits at masked positions only.

The number of masked tokens differs between batches. Every new shape costs newly compiled kernels and memory blocks that
later shapes do not fit into, so logits are computed for a multiple of 16 positions, of which the last do not count.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from ftjobs.data.examples.batching import Batch
from ftjobs.data.examples.masked_examples import MaskedExamples, PackedExamples, Unit, build_masked_examples
from ftjobs.jobfile.fields import Adapt
from ftjobs.models import heads
from ftjobs.objectives.compute.pretraining import MaskedTokenMetrics, PretrainingObjective
from ftjobs.training.objective import evaluation_batches
from ftjobs.training.speedups import last_layer

_POSITION_MULTIPLE = 16
_IGNORED_LABEL = -100


def pad_positions(positions: torch.Tensor) -> torch.Tensor:
    """Pad M masked positions to a multiple of 16 with the first position of the batch: int64 (M',)."""
    return functional.pad(positions, (0, -len(positions) % _POSITION_MULTIPLE))


def masked_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy summed over M masked tokens: scalar.

    Args:
        logits: (M', V), at the positions of `pad_positions`.
        labels: int64 (M,)
    """
    labels = functional.pad(labels, (0, len(logits) - len(labels)), value=_IGNORED_LABEL)
    return functional.cross_entropy(logits, labels, reduction="sum", ignore_index=_IGNORED_LABEL)


class MaskedLogits:
    """Compute logits of the vocabulary at masked positions only.

    Usual scripts compute B * T * V logits and ignore six of seven. Masked-LM heads process each position independently,
    so the encoder's hidden states are reduced to the M masked positions before the head, and before the feed-forward
    part of the last layer if the family supports it: the same logits at M * V cost.
    """

    def __init__(self, model: Any) -> None:
        """
        Args:
            model: a transformers masked-LM model, not wrapped.
        """
        self._positions: torch.Tensor | None = None
        if not last_layer.keep_positions(model, self._select):
            model.base_model.register_forward_hook(self._reduce_output)

    def __call__(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return logits at the padded masked positions: (M', V). `model` may be wrapped."""
        self._positions = None if batch.positions is None else pad_positions(batch.positions)
        try:
            logits: torch.Tensor = model(**batch.inputs).logits  # (1, M', V)
        finally:
            self._positions = None
        return logits[0]

    def _select(self, hidden: torch.Tensor) -> torch.Tensor:
        """Reduce hidden states (B, T, H) to the masked positions: (1, M', H)."""
        return hidden if self._positions is None else hidden.flatten(0, 1)[self._positions].unsqueeze(0)

    def _reduce_output(self, module: nn.Module, arguments: Any, output: Any) -> Any:
        output.last_hidden_state = self._select(output.last_hidden_state)
        return output


class MaskedLMObjective(PretrainingObjective):
    """Masked language modeling."""

    def __init__(self, settings: Adapt, model: Any, new: list[str]) -> None:
        super().__init__(settings, model, new)
        self.logits = MaskedLogits(model)

    @classmethod
    def load(cls, settings: Adapt, folder: Path) -> MaskedLMObjective:
        """Load an encoder with its masked-LM head."""
        return cls(settings, *heads.load_masked_lm(folder))

    def build_examples(
        self,
        tokenizer: PreTrainedTokenizerBase,
        texts: Iterable[str],
        max_length: int,
        seed: int,
        unit: Unit = "document",
    ) -> MaskedExamples | PackedExamples:
        """Tokenize texts and divide them into examples with masks."""
        return build_masked_examples(
            texts,
            unit,
            tokenizer,
            max_length,
            lambda tokens: self._masked(tokenizer, tokens, seed),
            self._needs_word_starts,
        )

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the cross-entropy summed over the M masked tokens of a batch: scalar."""
        return masked_cross_entropy(self.logits(model, batch), batch.labels)

    @torch.no_grad()
    def measure(self, examples: MaskedExamples | PackedExamples) -> dict[str, float]:
        """Return `loss`, `perplexity` and `accuracy` of masked tokens, with the masks of epoch 0."""
        masked = MaskedTokenMetrics()
        for batch in evaluation_batches(self.model, examples):
            if len(batch.labels):
                masked.add(self.logits(self.model, batch), batch)
        return masked.metrics()
