"""How much each class counts in the training loss, and how sure it wants the model to be. Evaluation knows of neither:
its cross-entropy is unweighted and unsmoothed, so losses of different settings can be compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ftjobs.data.examples.batching import Batch
from ftjobs.errors import UserError


@dataclass(frozen=True)
class Weighting:
    """The loss of `torch.nn.CrossEntropyLoss` with weights and smoothing: its sum, and what that is divided by."""

    weights: torch.Tensor | None = None
    """float32 (C,); all 1 unless given"""
    smoothing: float = 0.0
    """Share of the target that is spread evenly over all classes (Szegedy et al. 2016, section 7)."""

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Summed cross-entropy over the B examples of a batch, each weighted by its class: scalar."""
        logits = model(**batch.inputs).logits  # (B, C)
        weights = None if self.weights is None else self.weights.to(logits.device)
        return functional.cross_entropy(logits, batch.labels, weights, reduction="sum", label_smoothing=self.smoothing)

    def items(self, batch: Batch) -> float:
        """What a batch counts for in the mean of a step: the sum of the weights of its examples."""
        if self.weights is None:
            return len(batch.labels)
        return float(self.weights[batch.labels].sum(dtype=torch.float64))


def of_classes(
    wanted: Literal["balanced"] | dict[str, float] | None, classes: list[str], labels: np.ndarray
) -> torch.Tensor | None:
    """The weight of each class: float32 (C,).

    `balanced` is scikit-learn's: examples / (classes * examples of the class), which follows King and Zeng 2001,
    "Logistic regression in rare events data".

    Args:
        wanted: as in the job file.
        classes: names of the C classes.
        labels: of the training split: int (N,).

    Raises:
        UserError: a class that there is not, or one without training examples that is to be balanced.
    """
    if wanted is None:
        return None
    if wanted == "balanced":
        counts = np.bincount(labels, minlength=len(classes))
        if not counts.all():
            raise UserError(
                f"class_weights: balanced needs training rows of every class, and there is none of "
                f"`{classes[int(counts.argmin())]}`; give the weights by name"
            )
        return torch.from_numpy(len(labels) / (len(classes) * counts)).float()
    unknown = sorted(set(wanted) - set(classes))
    if unknown:
        raise UserError(f"class_weights: there is no class `{unknown[0]}`; the classes are: {', '.join(classes)}")
    return torch.tensor([wanted.get(name, 1.0) for name in classes], dtype=torch.float32)
