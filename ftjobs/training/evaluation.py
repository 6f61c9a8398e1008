"""Forward passes over a whole split without training: in fp32 and in batches of similar length."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from ftjobs.data.examples.batching import Batch, LabeledExamples, batches_by_length
from ftjobs.training.features import FeatureExamples, tokens_per_batch
from ftjobs.training.objective import Examples


@torch.no_grad()
def logits(model: PreTrainedModel, examples: LabeledExamples | FeatureExamples) -> np.ndarray:
    """Return a classifier's logits of every example, in the examples' order: float32 (N, C)."""
    model.eval()
    device = next(model.parameters()).device
    outputs = np.zeros((len(examples), model.config.num_labels), dtype=np.float32)
    for indices in batches_by_length(examples.lengths, tokens_per_batch(device)):
        batch = examples.batch(indices, 0).to(device)
        outputs[indices] = model(**batch.inputs).logits.float().cpu().numpy()
    return outputs


def batches(model: nn.Module, examples: Examples) -> Iterator[Batch]:
    """Put a model into eval mode and yield all examples as batches on its device.

    Examples are those of epoch 0 (masks, pairs, ...), so that metrics of different epochs and models are comparable.
    """
    model.eval()
    device = next(model.parameters()).device
    for indices in batches_by_length(examples.lengths, tokens_per_batch(device)):
        yield examples.batch(indices, 0).to(device)
