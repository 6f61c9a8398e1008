"""Training only the rows in use is training them all, in every family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ftjobs.jobfile.fields import Classify
from ftjobs.models import heads
from ftjobs.tasks.classification import WeightedCrossEntropy
from ftjobs.training import evaluation, layerwise
from ftjobs.training.loop import train
from ftjobs.training.speedups.sparse_embeddings import UsedRows, in_place_embedding_gradients, train_used_rows_only
from tests.helpers.families import FAMILIES
from tests.training.test_features import labelled


def without_dropout(model: Any) -> Any:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for name in ("attention_probs_dropout_prob", "attention_dropout"):
        if hasattr(model.config, name):
            setattr(model.config, name, 0.0)
    return model


@pytest.mark.parametrize(
    ("family", "uneven"),
    [
        *((family, {}) for family in FAMILIES),
        ("bert", {"layer_decay": 0.7}),
        ("bert", {"unfreeze": "gradual", "reinitialise_layers": 1}),
    ],
)
def test_the_same_weights_and_figures_as_training_all_rows(
    make_encoder: Callable[..., Path], family: str, uneven: dict[str, Any]
) -> None:
    folder = make_encoder(family)
    settings = Classify(epochs=3, learning_rate=1e-3, weight_decay=0.5, mixed_precision="no", **uneven)
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(without_dropout(heads.load_classifier(folder, ["a", "b"])[0]))
        tuned = layerwise.prepare(models[-1], settings)
    vocabulary = models[0].config.vocab_size
    examples = labelled(family, 40, vocabulary // 2)  # the upper half of the vocabulary is not used
    held_out = labelled(family, 40, vocabulary)
    before = models[0].get_input_embeddings().weight.detach().clone()

    def trained(model: Any) -> list[np.ndarray]:
        seen: list[np.ndarray] = []

        def evaluate() -> dict[str, float]:
            seen.append(evaluation.logits(model, held_out))
            return {}

        train(
            model, examples, settings, seed=1, loss=WeightedCrossEntropy().loss, evaluate=evaluate,
            score=lambda _: float(len(seen)), tuning=tuned,
        )  # fmt: skip
        return seen

    whole = trained(models[0])
    with train_used_rows_only(models[1], examples.tokens.input_ids):
        stand_in = models[1].get_input_embeddings()
        assert isinstance(stand_in, UsedRows)
        assert len(stand_in.rows) < vocabulary
        parts = trained(models[1])
        inside = evaluation.logits(models[1], held_out)
    np.testing.assert_allclose(parts, whole, rtol=1e-3, atol=1e-5)
    expected, found = models[0].state_dict(), models[1].state_dict()
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5)
    unused = models[1].get_input_embeddings().weight.detach()[vocabulary // 2 :]
    first = 10 if settings.unfreeze == "gradual" else 0  # embeddings are unfrozen in the third epoch
    rate = 1e-3 * settings.layer_decay**3
    decayed = np.prod([1 - rate * 0.5 * (1 - step / 15) for step in range(first, 15)])
    torch.testing.assert_close(unused, before[vocabulary // 2 :] * decayed, rtol=1e-5, atol=0.0)
    np.testing.assert_array_equal(evaluation.logits(models[1], held_out), inside)  # what was measured is published


def test_what_is_trained_lies_in_memory_as_its_gradient_does() -> None:
    """Or processes copy it before they exchange it, and PyTorch warns of that in every one of them."""
    stand_in = UsedRows(torch.nn.Embedding(8, 4), torch.arange(8) < 5)
    stand_in(torch.tensor([[0, 1]])).sum().backward()
    for parameter in (stand_in.rows, stand_in.decay):
        assert parameter.stride() == torch.empty(parameter.shape).stride()


def test_embeddings_that_are_tied_or_frozen_are_left_alone(make_encoder: Callable[..., Path]) -> None:
    tied, _ = heads.load_masked_lm(make_encoder("bert", "mlm"))
    frozen, new = heads.load_classifier(make_encoder("bert"), ["a", "b"])
    heads.freeze_encoder(frozen, new)
    for model in (tied, frozen):
        embedding = model.get_input_embeddings()
        with train_used_rows_only(model, np.arange(10)):
            assert model.get_input_embeddings() is embedding


@pytest.mark.parametrize("family", FAMILIES)
def test_lookups_added_in_place_are_the_same_gradient(make_encoder: Callable[..., Path], family: str) -> None:
    torch.manual_seed(0)
    model, _ = heads.load_masked_lm(make_encoder(family))
    tokens = torch.randint(5, model.config.vocab_size // 2, (4, 12))  # the upper half is not looked up
    tokens[0, -3:] = model.config.pad_token_id

    def gradients() -> dict[str, torch.Tensor]:
        model.eval().zero_grad()
        logits = model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten()).backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    expected = gradients()
    with in_place_embedding_gradients(model):
        assert ("forward" in vars(model.get_input_embeddings())) == model.config.tie_word_embeddings
        found = gradients()
    assert "forward" not in vars(model.get_input_embeddings())
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        assert not gradient.is_sparse
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6)
