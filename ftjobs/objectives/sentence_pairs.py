"""Masked language modelling together with a guess about two segments: are they neighbours, or in order?"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ftjobs.data.examples.batching import Batch
from ftjobs.objectives.mlm import masked_cross_entropy, rounded
from ftjobs.training.speedups import last_layer


class SentencePairs:
    """The mean loss of masked tokens plus the mean loss of pairs, as BERT and ALBERT were pretrained with.

    Of the encoder's last hidden state the vocabulary needs the M masked positions and the pooler the first token of
    each of the B texts; where the family allows that, its last layer computes no others.
    """

    def __init__(self, model: Any) -> None:
        """Args: model: a transformers model whose outputs begin with masked-LM logits and logits of pairs."""
        self._positions: torch.Tensor | None = None
        self._texts = 0
        encoder = model.base_model
        if last_layer.keep(model, self._read):
            encoder.pooler.register_forward_pre_hook(self._first_tokens)
            encoder.register_forward_hook(self._behind_first_tokens)
        else:
            encoder.register_forward_hook(self._masked)

    def logits(self, model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits at the masked positions and some that do not count, (M', V), and of the pairs, (B, 2)."""
        assert batch.positions is not None, "masked examples have masked positions"
        self._positions, self._texts = rounded(batch.positions), len(batch.inputs["input_ids"])
        try:
            tokens, pairs = model(**batch.inputs)[:2]
        finally:
            self._positions = None
        return tokens[0], pairs

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Summed cross-entropy over the masked positions, and over the pairs: (2,)."""
        assert batch.pair_labels is not None, "pairs come with labels"
        tokens, pairs = self.logits(model, batch)
        return torch.stack(
            [
                masked_cross_entropy(tokens, batch.labels),
                functional.cross_entropy(pairs, batch.pair_labels, reduction="sum"),
            ]
        )

    def items(self, batch: Batch) -> tuple[int, ...]:
        """Masked tokens and pairs: what the two losses are the means over."""
        return len(batch.labels), len(batch.inputs["input_ids"])

    def _read(self, hidden: torch.Tensor) -> torch.Tensor:
        """Of (B, T, H) first the first tokens, then the masked positions: (1, B + M', H)."""
        if self._positions is None:
            return hidden
        return torch.cat([hidden[:, 0], hidden.flatten(0, 1)[self._positions]]).unsqueeze(0)

    def _first_tokens(self, module: nn.Module, arguments: Any) -> Any:
        """For the pooler, which reads the first token of every text: (B, 1, H)."""
        return None if self._positions is None else (arguments[0][0, : self._texts].unsqueeze(1),)

    def _behind_first_tokens(self, module: nn.Module, arguments: Any, output: Any) -> Any:
        if self._positions is not None:
            output.last_hidden_state = output.last_hidden_state[:, self._texts :]
        return output

    def _masked(self, module: nn.Module, arguments: Any, output: Any) -> Any:
        if self._positions is not None:
            hidden = output.last_hidden_state.flatten(0, 1)  # the pooler has read it already
            output.last_hidden_state = hidden[self._positions].unsqueeze(0)
        return output
