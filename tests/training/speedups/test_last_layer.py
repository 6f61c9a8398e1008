"""The last layer, reduced to the first token, gives the same logits and gradients, in every family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ftjobs.models import heads
from ftjobs.tasks.classification import WeightedCrossEntropy
from ftjobs.training.speedups import last_layer
from tests.helpers.families import FAMILIES
from tests.helpers.training import labeled_examples

BUILT_LIKE_BERT = ("bert", "roberta", "xlm-roberta", "electra", "deberta-v2")


@pytest.mark.parametrize("family", FAMILIES)
def test_reduced_layer_gives_the_same_logits_and_gradients(make_encoder: Callable[..., Path], family: str) -> None:
    torch.manual_seed(0)
    model, _ = heads.load_classifier(make_encoder(family), ["no", "yes"])
    model.eval()  # no dropout: its masks would differ
    batch = labeled_examples(family, 6, model.config.vocab_size).batch(np.arange(6), 1)
    expected = WeightedCrossEntropy().loss(model, batch)
    expected.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()

    assert last_layer.keep_first_token(model) is (family in BUILT_LIKE_BERT)
    loss = WeightedCrossEntropy().loss(model, batch)
    loss.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    assert {name for name, p in model.named_parameters() if p.grad is not None} == set(gradients)
    for name, parameter in model.named_parameters():
        if name in gradients:
            torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-5)
    width = 1 if family in BUILT_LIKE_BERT else batch.inputs["input_ids"].shape[1]
    assert model.base_model(**batch.inputs).last_hidden_state.shape[1] == width


@pytest.mark.parametrize(
    ("family", "options"),
    [("bert", {"chunk_size_feed_forward": 8}), ("deberta-v2", {"num_hidden_layers": 1, "conv_kernel_size": 3})],
)
def test_layer_that_mixes_positions_is_not_reduced(
    make_encoder: Callable[..., Path], family: str, options: dict[str, int]
) -> None:
    model, _ = heads.load_classifier(make_encoder(family, **options), ["no", "yes"])
    batch = labeled_examples(family, 6, model.config.vocab_size).batch(np.arange(6), 1)
    expected = model(**batch.inputs).logits
    assert not last_layer.keep_first_token(model)
    torch.testing.assert_close(model(**batch.inputs).logits, expected)
