"""Running a model over a whole split without training it, in fp32 and in batches of similar length."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from ftjobs.data.batching import LabelledExamples, MaskedExamples, by_length
from ftjobs.data.packed import PackedExamples
from ftjobs.training.features import FeatureExamples
from ftjobs.training.objectives import MaskedLM

_BATCH = 64


@torch.no_grad()
def logits(model: PreTrainedModel, examples: LabelledExamples | FeatureExamples) -> np.ndarray:
    """Logits of a classifier for every example, in the examples' order: float32 (N, C)."""
    model.eval()
    device = next(model.parameters()).device
    found = np.zeros((len(examples), model.config.num_labels), dtype=np.float32)
    for indices in by_length(examples.lengths, _BATCH):
        batch = examples.batch(indices, 0).to(device)
        found[indices] = model(**batch.inputs).logits.float().cpu().numpy()
    return found


@torch.no_grad()
def masked_lm(
    model: nn.Module, objective: MaskedLM, examples: MaskedExamples | PackedExamples, batch_size: int = _BATCH
) -> dict[str, float]:
    """Mean cross-entropy per masked token, its exponential, and the share of masked tokens guessed right.

    Always with the masks of epoch 0, so that figures of different epochs and models can be compared.
    """
    model.eval()
    device = next(model.parameters()).device
    loss, right, tokens = 0.0, 0, 0
    for indices in by_length(examples.lengths, batch_size):
        batch = examples.batch(indices, 0).to(device)
        if not len(batch.labels):
            continue
        guesses = objective.logits(model, batch).float()  # (M, V)
        loss += float(nn.functional.cross_entropy(guesses, batch.labels, reduction="sum"))
        right += int((guesses.argmax(-1) == batch.labels).sum())
        tokens += len(batch.labels)
    mean = loss / max(tokens, 1)
    return {"loss": mean, "perplexity": math.exp(min(mean, 700.0)), "accuracy": right / max(tokens, 1)}
