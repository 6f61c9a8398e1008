"""Cached features of a frozen encoder give the same logits as texts, in every family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ftjobs.models import heads
from ftjobs.training import features
from ftjobs.training.objective import predict_logits
from tests.helpers.families import FAMILIES
from tests.helpers.training import labeled_examples


@pytest.mark.parametrize("head", ["base", "mlm"])
@pytest.mark.parametrize("family", FAMILIES)
def test_features_give_the_same_logits_as_texts(make_encoder: Callable[..., Path], family: str, head: str) -> None:
    model, new = heads.load_classifier(make_encoder(family, head), ["a", "b"])
    heads.freeze_encoder(model, new)
    examples = labeled_examples(family, 30, model.config.vocab_size)
    assert features.supports_feature_cache(model, examples)
    expected = predict_logits(model, examples)
    encoder = model.base_model
    computed = features.compute(model, examples, "features")
    with features.feature_encoder(model):
        np.testing.assert_allclose(predict_logits(model, computed), expected, rtol=1e-4, atol=1e-5)
    assert model.base_model is encoder


def test_features_computed_in_bf16_are_stored_in_fp32(make_encoder: Callable[..., Path]) -> None:
    model, _ = heads.load_classifier(make_encoder("bert"), ["a", "b"])
    examples = labeled_examples("bert", 30, model.config.vocab_size)
    full_precision = features.compute(model, examples, "features").features
    rounded = features.compute(model, examples, "features", "bf16").features
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, full_precision)
    torch.testing.assert_close(rounded, full_precision, rtol=0.05, atol=0.05)


def test_mean_pooling_heads_support_features(make_encoder: Callable[..., Path]) -> None:
    model, new = heads.load_classifier(make_encoder("modernbert", classifier_pooling="mean"), ["a", "b"])
    heads.freeze_encoder(model, new)
    assert features.supports_feature_cache(model, labeled_examples("modernbert", 30, model.config.vocab_size))


def test_head_that_reads_every_token_does_not_support_features(make_encoder: Callable[..., Path]) -> None:
    model, new = heads.load_classifier(make_encoder("roberta"), ["a", "b"])
    heads.freeze_encoder(model, new)
    head = model.classifier
    forward = head.forward
    head.forward = lambda hidden, **options: forward(hidden.mean(1, keepdim=True), **options)
    assert not features.supports_feature_cache(model, labeled_examples("roberta", 30, model.config.vocab_size))


def test_new_pooler_trains_on_features(make_encoder: Callable[..., Path]) -> None:
    model, new = heads.load_classifier(make_encoder("bert", "mlm"), ["a", "b"])
    heads.freeze_encoder(model, new)
    examples = labeled_examples("bert", 8, model.config.vocab_size)
    with features.feature_encoder(model):
        trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trainable == {
        *("bert.pooler.dense.weight", "bert.pooler.dense.bias"),
        *("classifier.weight", "classifier.bias"),
    }
    computed = features.compute(model, examples, "features")
    with features.feature_encoder(model):
        model(**computed.batch(np.arange(8), 0).inputs).logits.sum().backward()
    assert torch.any(model.bert.pooler.dense.weight.grad != 0)
    assert all(p.grad is None for name, p in model.named_parameters() if name not in trainable)
