"""Replaced-token detection: ELECTRA's objective (Clark et al. 2020, section 3)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import ElectraForMaskedLM, ElectraForPreTraining

from ftjobs.data.examples.batching import Batch
from ftjobs.data.examples.masked_examples import MaskedExamples, PackedExamples
from ftjobs.data.examples.masking import example_generator
from ftjobs.data.examples.tokenization import Tokens
from ftjobs.objectives.mlm import MaskedLM, masked_cross_entropy

#: What the discriminator's loss counts against the generator's (section 3.2 and appendix A).
WEIGHT = 50.0
#: The stream of an example's random numbers that replacements are drawn by; masks are drawn from stream 0.
_STREAM = 2


@dataclass(frozen=True)
class DrawnExamples:
    """Masked examples with a random number for each masked token, by which its replacement is drawn from what the
    generator gives: so replacements do not depend on the batch either."""

    masked: MaskedExamples | PackedExamples

    def __len__(self) -> int:
        return len(self.masked)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per example: int64 (N,)."""
        return self.masked.lengths

    @property
    def texts(self) -> int:
        """How many texts the examples are made of."""
        return self.masked.texts

    @property
    def tokens(self) -> Tokens:
        """Of the texts."""
        return self.masked.tokens

    def batch(self, indices: np.ndarray, epoch: int) -> Batch:
        """The examples at `indices` with the masks and draws of `epoch`."""
        batch = self.masked.batch(indices, epoch)
        assert batch.positions is not None, "masked examples have masked positions"
        counts = np.bincount(batch.positions.numpy() // batch.inputs["input_ids"].shape[1], minlength=len(indices))
        draws = [
            example_generator(self.masked.seed, epoch, int(index), _STREAM).random(count, dtype=np.float32)
            for index, count in zip(indices, counts, strict=True)
        ]
        return replace(batch, draws=torch.from_numpy(np.concatenate([*draws, np.zeros(0, np.float32)])))


class Guesses(NamedTuple):
    """What generator and discriminator say about a batch."""

    tokens: torch.Tensor
    """float (M', V): the generator's logits at the M masked positions, and some that do not count."""
    replaced: torch.Tensor
    """float (N,): the discriminator's logits for each token that is no padding, above 0 for replaced."""
    truth: torch.Tensor
    """bool (N,): tokens that are not the original ones."""


class ReplacedTokenModel(nn.Module):
    """A discriminator, which is the encoder that is adapted, and the generator that replaces tokens for it.

    They share all embeddings (section 3.2). One module, because one backward pass trains both.
    """

    def __init__(self, discriminator: ElectraForPreTraining, generator: ElectraForMaskedLM) -> None:
        super().__init__()
        self.discriminator, self.generator = discriminator, generator
        generator.electra.embeddings = discriminator.electra.embeddings
        generator.generator_lm_head.weight = discriminator.electra.embeddings.word_embeddings.weight
        self._masked_lm = MaskedLM(generator)

    def forward(self, batch: Batch) -> Guesses:
        """Replace the masked tokens by draws from the generator, and tell them from the others.

        No gradient goes through the draw, and a draw that is the original token counts as original (section 3.1).
        """
        assert batch.positions is not None, "made by DrawnExamples"
        assert batch.draws is not None, "made by DrawnExamples"
        tokens = self._masked_lm.logits(self.generator, batch)
        drawn = _draw(tokens.detach(), batch.draws)
        input_ids = batch.inputs["input_ids"].flatten().index_copy(0, batch.positions, drawn)
        truth = torch.zeros_like(input_ids, dtype=torch.bool).index_copy(0, batch.positions, drawn != batch.labels)
        shape = batch.inputs["input_ids"].shape
        logits = self.discriminator(**{**batch.inputs, "input_ids": input_ids.view(shape)}).logits  # (B, T)
        real = batch.inputs["attention_mask"].bool()
        return Guesses(tokens, logits[real], truth.view(shape)[real])


class ReplacedTokens:
    """The generator's masked-LM loss, and `WEIGHT` times the discriminator's over all tokens (section 3.2)."""

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Summed loss over the masked positions, and weighted over all tokens: (2,)."""
        guesses = model(batch)
        replaced = functional.binary_cross_entropy_with_logits(
            guesses.replaced.float(), guesses.truth.float(), reduction="sum"
        )
        tokens = masked_cross_entropy(guesses.tokens, batch.labels)
        return torch.stack([tokens, WEIGHT * replaced])

    def items(self, batch: Batch) -> tuple[int, ...]:
        """Masked tokens and all tokens: what the two losses are the means over."""
        return len(batch.labels), int(batch.inputs["attention_mask"].bool().sum())


def _draw(logits: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """Token ids from the distributions of `logits` (M', V), by a number in [0, 1) for the first M: int64 (M,)."""
    cumulative = logits[: len(draws)].float().softmax(-1).cumsum(-1)
    found = torch.searchsorted(cumulative, draws.unsqueeze(-1), right=True).squeeze(-1)
    return found.clamp(max=logits.shape[-1] - 1)
