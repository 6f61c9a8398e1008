"""The interface between the training loop and a training objective."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from ftjobs.data.examples.batching import Batch

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
