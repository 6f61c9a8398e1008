"""Running a model over a whole split without training it, in fp32 and in batches of similar length."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from ftjobs.data.examples.batching import Batch, LabeledExamples, batches_by_length
from ftjobs.data.examples.masked_examples import MaskedExamples, PackedExamples
from ftjobs.data.examples.segment_pairs import PairExamples
from ftjobs.objectives.mlm import MaskedLM
from ftjobs.objectives.replaced_tokens import WEIGHT, DrawnExamples, Guesses, ReplacedTokenModel
from ftjobs.objectives.sentence_pairs import SentencePairs
from ftjobs.training.features import FeatureExamples, tokens_at_once


@torch.no_grad()
def logits(model: PreTrainedModel, examples: LabeledExamples | FeatureExamples) -> np.ndarray:
    """Logits of a classifier for every example, in the examples' order: float32 (N, C)."""
    model.eval()
    device = next(model.parameters()).device
    found = np.zeros((len(examples), model.config.num_labels), dtype=np.float32)
    for indices in batches_by_length(examples.lengths, tokens_at_once(device)):
        batch = examples.batch(indices, 0).to(device)
        found[indices] = model(**batch.inputs).logits.float().cpu().numpy()
    return found


@torch.no_grad()
def masked_lm(model: nn.Module, objective: MaskedLM, examples: MaskedExamples | PackedExamples) -> dict[str, float]:
    """Mean cross-entropy per masked token, its exponential, and the share of masked tokens guessed right.

    Always with the masks of epoch 0, so that figures of different epochs and models can be compared.
    """
    masked = _MaskedTokens()
    for batch in _batches(model, examples):
        if len(batch.labels):
            masked.add(objective.logits(model, batch), batch)
    return masked.metrics()


@torch.no_grad()
def sentence_pairs(model: nn.Module, objective: SentencePairs, examples: PairExamples, name: str) -> dict[str, float]:
    """As `masked_lm`, and of the pairs mean cross-entropy and the share told right, as `<name>_loss` and
    `<name>_accuracy`; `objective_loss` is the sum that training minimizes.

    Always with the pairs and masks of epoch 0.
    """
    masked, loss, right = _MaskedTokens(), 0.0, 0
    for batch in _batches(model, examples):
        tokens, pairs = objective.logits(model, batch)
        assert batch.pair_labels is not None, "pairs come with labels"
        masked.add(tokens, batch)
        loss += float(nn.functional.cross_entropy(pairs.float(), batch.pair_labels, reduction="sum"))
        right += int((pairs.argmax(-1) == batch.pair_labels).sum())
    count = max(len(examples), 1)
    metrics = masked.metrics()
    found = {f"{name}_loss": loss / count, f"{name}_accuracy": right / count}
    return {**metrics, **found, "objective_loss": metrics["loss"] + loss / count}


@torch.no_grad()
def replaced_tokens(model: ReplacedTokenModel, examples: DrawnExamples) -> dict[str, float]:
    """As `masked_lm`, of the generator; and of the discriminator mean loss, the share of tokens told right, and F1 of
    telling replaced ones, as `replaced_...`; `objective_loss` is the weighted sum that training minimizes.

    Always with the masks and draws of epoch 0.
    """
    masked, loss, tokens = _MaskedTokens(), 0.0, 0
    hits = misses = alarms = 0
    for batch in _batches(model, examples):
        guesses: Guesses = model(batch)
        masked.add(guesses.tokens, batch)
        truth, said = guesses.truth, guesses.replaced > 0
        binary = nn.functional.binary_cross_entropy_with_logits
        loss += float(binary(guesses.replaced.float(), truth.float(), reduction="sum"))
        tokens += len(truth)
        hits, misses = hits + int((truth & said).sum()), misses + int((truth & ~said).sum())
        alarms += int((~truth & said).sum())
    metrics, mean = masked.metrics(), loss / max(tokens, 1)
    return {
        **metrics,
        "replaced_loss": mean,
        "replaced_accuracy": 1 - (misses + alarms) / max(tokens, 1),
        "replaced_f1": 2 * hits / max(2 * hits + misses + alarms, 1),
        "objective_loss": metrics["loss"] + WEIGHT * mean,
    }


class _MaskedTokens:
    """What `masked_lm` measures, batch by batch."""

    def __init__(self) -> None:
        self.loss, self.right, self.tokens = 0.0, 0, 0

    def add(self, guesses: torch.Tensor, batch: Batch) -> None:
        """Count the M masked tokens of a batch. Args: guesses: logits (M', V), of which the first M count."""
        guesses = guesses[: len(batch.labels)]
        self.loss += float(nn.functional.cross_entropy(guesses.float(), batch.labels, reduction="sum"))
        self.right += int((guesses.argmax(-1) == batch.labels).sum())
        self.tokens += len(batch.labels)

    def metrics(self) -> dict[str, float]:
        mean = self.loss / max(self.tokens, 1)
        return {
            "loss": mean,
            "perplexity": math.exp(min(mean, 700.0)),
            "accuracy": self.right / max(self.tokens, 1),
        }


def _batches(
    model: nn.Module, examples: MaskedExamples | PackedExamples | PairExamples | DrawnExamples
) -> Iterator[Batch]:
    """The examples of epoch 0 on the model's device, which is put into eval mode."""
    model.eval()
    device = next(model.parameters()).device
    for indices in batches_by_length(examples.lengths, tokens_at_once(device)):
        yield examples.batch(indices, 0).to(device)
