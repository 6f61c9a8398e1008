"""Weighted and smoothed losses are torch's, and what they are divided by is the sum of the weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from ftjobs.data.examples.batching import Batch, LabeledExamples, epoch_order
from ftjobs.errors import UserError
from ftjobs.models import heads
from ftjobs.training.weighting import Weighting, of_classes
from tests.training.test_loop import settings, train_classifier
from tests.training.test_trainer_parity import NO_DROPOUT, SEED, random_tokens

WEIGHTS = torch.tensor([0.2, 1.0, 7.5])


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_sum_over_sum_is_the_mean_of_torch(weights: torch.Tensor | None, smoothing: float) -> None:
    """Also in parts of a batch, as gradient accumulation and processes divide it."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(40, 3, generator=generator).requires_grad_()
    labels = torch.randint(0, 3, (40,), generator=generator)
    expected = torch.nn.CrossEntropyLoss(weight=weights, label_smoothing=smoothing)(logits, labels)
    (gradient,) = torch.autograd.grad(expected, logits)
    weighting = Weighting(weights, smoothing)
    batches = [
        Batch({"inputs": part}, labels[at]) for part, at in ((logits[:7], slice(7)), (logits[7:], slice(7, None)))
    ]

    def model(inputs: Any) -> Any:
        return SimpleNamespace(logits=inputs)

    found = sum(weighting.loss(model, batch) for batch in batches) / sum(weighting.items(batch) for batch in batches)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, logits)[0], gradient)


def test_a_training_step_has_the_loss_of_torch(make_encoder: Callable[..., Path]) -> None:
    """The first step of a run in the loop, against the untrained model's logits."""
    folder = make_encoder("bert", **NO_DROPOUT)
    weights = {"a": 0.1, "b": 3.0}
    _, steps, _ = train_classifier(folder, settings(epochs=1, class_weights=weights, label_smoothing=0.3))
    torch.manual_seed(0)
    model = heads.load_classifier(folder, ["a", "b"])[0].eval()
    tokens = random_tokens(52, model.config.vocab_size)
    labels = np.random.default_rng(1).integers(0, 2, size=len(tokens))
    batch = LabeledExamples(tokens, labels, 0).batch(epoch_order(tokens.lengths, SEED, 1, 8)[:8], 1)
    loss = torch.nn.CrossEntropyLoss(weight=torch.tensor([0.1, 3.0]), label_smoothing=0.3)
    with torch.no_grad():
        expected = float(loss(model(**batch.inputs).logits, batch.labels))
    assert steps[0][0] == pytest.approx(expected, rel=1e-5)


def test_balanced_is_scikit_learns() -> None:
    labels = np.repeat([0, 1, 2], [70, 4, 26])
    found = of_classes("balanced", ["a", "b", "c"], labels)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_weights_by_name_and_what_is_refused() -> None:
    labels = np.array([0, 0, 2])
    assert of_classes({"c": 2.5}, ["a", "b", "c"], labels).tolist() == [1.0, 1.0, 2.5]
    assert of_classes(None, ["a", "b", "c"], labels) is None
    with pytest.raises(UserError, match="there is no class `d`; the classes are: a, b, c"):
        of_classes({"a": 1.0, "d": 2.0}, ["a", "b", "c"], labels)
    with pytest.raises(UserError, match="there is none of `b`; give the weights by name"):
        of_classes("balanced", ["a", "b", "c"], labels)
