"""The interface between the training loop and a training objective, and forward passes for evaluation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from ftjobs.data.examples.batching import Batch, LabeledExamples, batches_by_length
from ftjobs.training.features import FeatureExamples, tokens_per_batch

#: Loss denominator of a batch: one number, or a tuple with one per loss.
Items = float | tuple[float, ...]


class Examples(Protocol):
    """A training set: examples, and their batches in every epoch."""

    def __len__(self) -> int: ...

    @property
    def lengths(self) -> np.ndarray:
        """Length of each example: int64 (N,). A step takes examples of similar length, which need little padding."""

    def batch(self, indices: np.ndarray, epoch: int) -> Batch:
        """Return the examples at `indices` as they are in `epoch`."""


class TrainingObjective(ABC):
    """Loss, loss denominator, evaluation and score of a training run.

    An objective with L losses returns their sums as a tensor (L,) and their denominators as an L-tuple; training
    minimizes the sum of their means.
    """

    #: Name of the run in progress displays and errors.
    title = "training"

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the summed loss of a batch: scalar, or (L,) for L losses."""

    def num_items(self, batch: Batch) -> Items:
        """Return the loss denominator of a batch: its number of labels, unless overridden."""
        return len(batch.labels)

    @abstractmethod
    def evaluate(self) -> dict[str, Any]:
        """Return metrics of the model in its current state. May leave the model in eval mode."""

    @abstractmethod
    def score(self, metrics: dict[str, Any]) -> float:
        """Return the score of an epoch from its `evaluate` metrics. Higher is better; the first best epoch wins."""

    def set_training_mode(self, model: nn.Module) -> None:
        """Put the model into training mode; called before every epoch."""
        model.train()


@torch.no_grad()
def predict_logits(model: PreTrainedModel, examples: LabeledExamples | FeatureExamples) -> np.ndarray:
    """Return a classifier's logits of every example, in the examples' order: float32 (N, C)."""
    model.eval()
    device = next(model.parameters()).device
    outputs = np.zeros((len(examples), model.config.num_labels), dtype=np.float32)
    for indices in batches_by_length(examples.lengths, tokens_per_batch(device)):
        batch = examples.batch(indices, 0).to(device)
        outputs[indices] = model(**batch.inputs).logits.float().cpu().numpy()
    return outputs


def evaluation_batches(model: nn.Module, examples: Examples) -> Iterator[Batch]:
    """Put a model into eval mode and yield all examples as batches on its device.

    Examples are those of epoch 0 (masks, pairs, ...), so that metrics of different epochs and models are comparable.
    """
    model.eval()
    device = next(model.parameters()).device
    for indices in batches_by_length(examples.lengths, tokens_per_batch(device)):
        yield examples.batch(indices, 0).to(device)
