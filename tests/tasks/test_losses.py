"""Training losses and their denominators match PyTorch and transformers."""

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
from ftjobs.jobfile.fields import Classify
from ftjobs.models import heads
from ftjobs.tasks import get_task
from ftjobs.tasks.classification import WeightedCrossEntropy, class_weights
from tests.helpers.families import WITH_TOKEN_TYPES
from tests.helpers.training import NO_DROPOUT, SEED, random_tokens, settings, train_classifier

WEIGHTS = torch.tensor([0.2, 1.0, 7.5])


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_loss_divided_by_num_items_is_weighted_mean_of_torch(weights: torch.Tensor | None, smoothing: float) -> None:
    """Also for a batch in parts, as with gradient accumulation or several processes."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(40, 3, generator=generator).requires_grad_()
    labels = torch.randint(0, 3, (40,), generator=generator)
    expected = torch.nn.CrossEntropyLoss(weight=weights, label_smoothing=smoothing)(logits, labels)
    (gradient,) = torch.autograd.grad(expected, logits)
    criterion = WeightedCrossEntropy(weights, smoothing)
    batches = [
        Batch({"inputs": part}, labels[at]) for part, at in ((logits[:7], slice(7)), (logits[7:], slice(7, None)))
    ]

    def model(inputs: Any) -> Any:
        return SimpleNamespace(logits=inputs)

    loss = sum(criterion.loss(model, batch) for batch in batches) / sum(criterion.num_items(batch) for batch in batches)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, logits)[0], gradient)


def test_first_training_step_has_weighted_loss_of_torch(make_encoder: Callable[..., Path]) -> None:
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


def test_balanced_class_weights_match_sklearn() -> None:
    labels = np.repeat([0, 1, 2], [70, 4, 26])
    weights = class_weights("balanced", ["a", "b", "c"], labels)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(weights.numpy(), expected, rtol=1e-6)


def test_class_weights_by_name_default_to_one_and_reject_unknown_classes() -> None:
    labels = np.array([0, 0, 2])
    assert class_weights({"c": 2.5}, ["a", "b", "c"], labels).tolist() == [1.0, 1.0, 2.5]
    assert class_weights(None, ["a", "b", "c"], labels) is None
    with pytest.raises(UserError, match=r"^class_weights: .*`d`.*a, b, c"):
        class_weights({"a": 1.0, "d": 2.0}, ["a", "b", "c"], labels)
    with pytest.raises(UserError, match=r"^class_weights: .*`b`"):
        class_weights("balanced", ["a", "b", "c"], labels)


@pytest.mark.parametrize("label_type", ["float", "multi"])
@pytest.mark.parametrize("family", ["bert", "distilbert", "modernbert"])
def test_loss_and_gradients_match_transformers_problem_type(
    make_encoder: Callable[..., Path], family: str, label_type: str
) -> None:
    """The criterion sums over examples; transformers takes the mean."""
    classes = ["score"] if label_type == "float" else ["a", "b", "c"]
    model, _ = heads.load_classifier(make_encoder(family), classes, label_type)
    model.eval()
    rng = np.random.default_rng(0)
    labels = (rng.normal(2, 3, 5) if label_type == "float" else rng.random((5, 3)) < 0.4).astype(np.float32)
    examples = LabeledExamples(random_tokens(5, model.config.vocab_size, family in WITH_TOKEN_TYPES), labels, 0)
    batch = examples.batch(np.arange(5), 0)
    expected = model(**batch.inputs, labels=batch.labels).loss
    expected.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    loss = get_task(label_type).criterion(Classify(), classes, labels).loss(model, batch) / len(batch.labels)
    loss.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    for name, gradient in gradients.items():
        torch.testing.assert_close(model.get_parameter(name).grad, gradient, rtol=1e-4, atol=1e-6)
