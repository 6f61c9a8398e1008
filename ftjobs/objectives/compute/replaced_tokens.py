"""Replaced-token detection: ELECTRA's objective (Clark et al. 2020, section 3)."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import ElectraForMaskedLM, ElectraForPreTraining, PreTrainedConfig, PreTrainedTokenizerBase

from ftjobs.data.examples.batching import Batch
from ftjobs.data.examples.masked_examples import MaskedExamples, PackedExamples, Unit, build_masked_examples
from ftjobs.data.examples.masking import example_generator
from ftjobs.data.examples.tokenization import Tokens
from ftjobs.errors import UserError
from ftjobs.jobfile.fields import Adapt, Replace
from ftjobs.models import checkpoints, heads
from ftjobs.objectives.compute.mlm import MaskedLogits, masked_cross_entropy
from ftjobs.objectives.compute.pretraining import MaskedTokenMetrics, PretrainingObjective
from ftjobs.objectives.replaced_tokens import GENERATOR
from ftjobs.training.objective import evaluation_batches

#: Weight of the discriminator's loss relative to the generator's (section 3.2 and appendix A).
WEIGHT = 50.0
#: Random stream (`example_generator`) of an example's draws; its masks use stream 0.
_DRAW_STREAM = 2
_MASKS_ONLY = Replace(mask=1.0, random=0.0, keep=0.0)


@dataclass(frozen=True)
class DrawnExamples:
    """Masked examples with a uniform random number per masked token, which selects its replacement from the generator's
    distribution. Replacements therefore do not depend on the composition of batches."""

    masked: MaskedExamples | PackedExamples

    def __len__(self) -> int:
        return len(self.masked)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per example: int64 (N,)."""
        return self.masked.lengths

    @property
    def texts(self) -> int:
        """Number of texts in the examples."""
        return self.masked.texts

    @property
    def tokens(self) -> Tokens:
        """Tokens of the texts."""
        return self.masked.tokens

    def batch(self, indices: np.ndarray, epoch: int) -> Batch:
        """Return the examples at `indices` with the masks and draws of `epoch`."""
        batch = self.masked.batch(indices, epoch)
        assert batch.positions is not None, "masked examples have masked positions"
        counts = np.bincount(batch.positions.numpy() // batch.inputs["input_ids"].shape[1], minlength=len(indices))
        draws = [
            example_generator(self.masked.seed, epoch, int(index), _DRAW_STREAM).random(count, dtype=np.float32)
            for index, count in zip(indices, counts, strict=True)
        ]
        return replace(batch, draws=torch.from_numpy(np.concatenate([*draws, np.zeros(0, np.float32)])))


class ReplacedTokenOutput(NamedTuple):
    """Outputs of generator and discriminator for a batch."""

    generator_logits: torch.Tensor
    """float (M', V), at the padded masked positions."""
    discriminator_logits: torch.Tensor
    """float (N,), for each token except padding; positive for predicted replacements."""
    replaced: torch.Tensor
    """bool (N,), True for tokens that differ from the original."""


class ReplacedTokenModel(nn.Module):
    """A discriminator, which is the adapted encoder, and the generator of its replacements.

    They share all embeddings (section 3.2). They are one module because one backward pass trains both.
    """

    def __init__(self, discriminator: ElectraForPreTraining, generator: ElectraForMaskedLM) -> None:
        super().__init__()
        self.discriminator, self.generator = discriminator, generator
        generator.electra.embeddings = discriminator.electra.embeddings
        generator.generator_lm_head.weight = discriminator.electra.embeddings.word_embeddings.weight
        self._masked_logits = MaskedLogits(generator)

    def forward(self, batch: Batch) -> ReplacedTokenOutput:
        """Replace the masked tokens with samples from the generator, and classify each token as replaced or original.

        Sampling has no gradient, and a sample that equals the original token counts as original (section 3.1).
        """
        assert batch.positions is not None, "batches are from DrawnExamples"
        assert batch.draws is not None, "batches are from DrawnExamples"
        generator_logits = self._masked_logits(self.generator, batch)
        sampled = sample_tokens(generator_logits.detach(), batch.draws)
        input_ids = batch.inputs["input_ids"].flatten().index_copy(0, batch.positions, sampled)
        replaced = torch.zeros_like(input_ids, dtype=torch.bool)
        replaced = replaced.index_copy(0, batch.positions, sampled != batch.labels)
        shape = batch.inputs["input_ids"].shape
        logits = self.discriminator(**{**batch.inputs, "input_ids": input_ids.view(shape)}).logits  # (B, T)
        is_token = batch.inputs["attention_mask"].bool()
        return ReplacedTokenOutput(generator_logits, logits[is_token], replaced.view(shape)[is_token])


def sample_tokens(logits: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """Sample token ids by inverting cumulative distributions: int64 (M,).

    Args:
        logits: (M', V)
        draws: float (M,) in [0, 1), for the first M rows.
    """
    cumulative = logits[: len(draws)].float().softmax(-1).cumsum(-1)
    sampled = torch.searchsorted(cumulative, draws.unsqueeze(-1), right=True).squeeze(-1)
    return sampled.clamp(max=logits.shape[-1] - 1)


class ReplacedTokenObjective(PretrainingObjective):
    """The generator's masked-LM loss, plus `WEIGHT` times the discriminator's loss over all tokens (section 3.2)."""

    def __init__(self, settings: Adapt, model: ReplacedTokenModel, new: list[str]) -> None:
        super().__init__(settings, model, new, encoder=model.discriminator)
        self.generator = model.generator

    @classmethod
    def load(cls, settings: Adapt, folder: Path) -> ReplacedTokenObjective:
        """Load an ELECTRA encoder with its replaced-token head, and its generator."""
        discriminator, generator, new = load_models(folder, settings.generator_size)
        return cls(settings, ReplacedTokenModel(discriminator, generator), new)

    def build_examples(
        self,
        tokenizer: PreTrainedTokenizerBase,
        texts: Iterable[str],
        max_length: int,
        seed: int,
        unit: Unit = "document",
    ) -> DrawnExamples:
        """Tokenize texts and divide them into examples with masks and draws."""
        masked = build_masked_examples(
            texts,
            unit,
            tokenizer,
            max_length,
            lambda tokens: self._masked(tokenizer, tokens, seed, _MASKS_ONLY),
            self._needs_word_starts,
        )
        return DrawnExamples(masked)

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the generator's loss summed over masked tokens, and the discriminator's weighted loss summed over all
        tokens: (2,)."""
        output: ReplacedTokenOutput = model(batch)
        discriminator_loss = functional.binary_cross_entropy_with_logits(
            output.discriminator_logits.float(), output.replaced.float(), reduction="sum"
        )
        generator_loss = masked_cross_entropy(output.generator_logits, batch.labels)
        return torch.stack([generator_loss, WEIGHT * discriminator_loss])

    def num_items(self, batch: Batch) -> tuple[int, ...]:
        """Return the numbers of masked tokens and of all tokens."""
        return len(batch.labels), int(batch.inputs["attention_mask"].bool().sum())

    @torch.no_grad()
    def measure(self, examples: DrawnExamples) -> dict[str, float]:
        """Return the generator's metrics of masked tokens; and the discriminator's mean loss, accuracy over tokens, and
        F1 of replaced tokens, as `replaced_...`; with the masks and draws of epoch 0."""
        masked, loss, tokens = MaskedTokenMetrics(), 0.0, 0
        true_positives = false_negatives = false_positives = 0
        for batch in evaluation_batches(self.model, examples):
            output: ReplacedTokenOutput = self.model(batch)
            masked.add(output.generator_logits, batch)
            replaced, predicted = output.replaced, output.discriminator_logits > 0
            loss += float(
                functional.binary_cross_entropy_with_logits(
                    output.discriminator_logits.float(), replaced.float(), reduction="sum"
                )
            )
            tokens += len(replaced)
            true_positives += int((replaced & predicted).sum())
            false_negatives += int((replaced & ~predicted).sum())
            false_positives += int((~replaced & predicted).sum())
        metrics, mean = masked.metrics(), loss / max(tokens, 1)
        errors = false_negatives + false_positives
        return {
            **metrics,
            "replaced_loss": mean,
            "replaced_accuracy": 1 - errors / max(tokens, 1),
            "replaced_f1": 2 * true_positives / max(2 * true_positives + errors, 1),
            "objective_loss": metrics["loss"] + WEIGHT * mean,
        }

    def save(self, tokenizer: PreTrainedTokenizerBase, folder: Path, extra_weights: dict[str, torch.Tensor]) -> None:
        """Write the discriminator as the checkpoint for later stages, and the generator into a folder within it."""
        super().save(tokenizer, folder, extra_weights)
        self.generator.save_pretrained(folder / GENERATOR)


def load_models(folder: Path, generator_size: float) -> tuple[ElectraForPreTraining, ElectraForMaskedLM, list[str]]:
    """Load an ELECTRA encoder with its replaced-token head, and its generator: that of the checkpoint, or a new one.

    Args:
        folder: a checkpoint. It contains a generator if it was trained with this objective before.
        generator_size: attention heads, width and feed-forward width of a new generator, as a share of the encoder's.

    Returns:
        Discriminator and generator, and the names of parameters that the checkpoint does not contain.

    Raises:
        UserError: the encoder is not an ELECTRA.
    """
    config = checkpoints.load_config(folder)
    if config.model_type != "electra":
        raise UserError(
            f"objective: replaced-token needs an ELECTRA encoder, and transformers has no replaced-token head for type "
            f"`{config.model_type}`; write objective: mlm"
        )
    discriminator, new = heads.load_pretraining(folder, config)
    if (folder / GENERATOR).is_dir():
        generator, missing = heads.load_masked_lm(folder / GENERATOR)
        sizes = [(part.vocab_size, part.embedding_size) for part in (config, generator.config)]
        if type(generator) is not ElectraForMaskedLM or sizes[0] != sizes[1]:
            raise UserError(
                f"{folder / GENERATOR}: not a generator for this encoder, with which it has to share embeddings; use "
                "the generator that the encoder was pretrained with, or remove the folder"
            )
    else:
        generator = ElectraForMaskedLM(_generator_config(config, generator_size)).to(torch.float32)
        missing = [name for name, _ in generator.named_parameters() if ".embeddings." not in name]
    names = [f"discriminator.{name}" for name in new] + [f"generator.{name}" for name in missing]
    return discriminator, generator, sorted(names)


def _generator_config(config: PreTrainedConfig, size: float) -> PreTrainedConfig:
    """Return the configuration of a generator with the discriminator's layers and embeddings, `size` times as wide."""
    generator = copy.deepcopy(config)
    head_width = config.hidden_size // config.num_attention_heads
    generator.num_attention_heads = max(1, round(size * config.num_attention_heads))
    generator.hidden_size = head_width * generator.num_attention_heads
    generator.intermediate_size = max(1, round(size * config.intermediate_size))
    return generator
