"""Sparse training of embeddings equals training all rows, in every family; it requires AdamW."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ftjobs.errors import FtjobsError
from ftjobs.jobfile.fields import Classify
from ftjobs.models import heads
from ftjobs.training import layerwise, optimization
from ftjobs.training.loop import train
from ftjobs.training.objective import predict_logits
from ftjobs.training.speedups.sparse_embeddings import (
    UsedRows,
    check_optimizer,
    in_place_embedding_gradients,
    train_used_rows_only,
)
from tests.helpers.families import FAMILIES
from tests.helpers.training import ToyObjective, labeled_examples


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
def test_training_used_rows_gives_the_weights_and_logits_of_training_all(
    make_encoder: Callable[..., Path], family: str, uneven: dict[str, Any]
) -> None:
    folder = make_encoder(family)
    settings = Classify(epochs=3, learning_rate=1e-3, weight_decay=0.5, mixed_precision="no", **uneven)
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(without_dropout(heads.load_classifier(folder, ["a", "b"])[0]))
        layers = layerwise.prepare(models[-1], settings)
    vocabulary = models[0].config.vocab_size
    examples = labeled_examples(family, 40, vocabulary // 2)  # the upper half of the vocabulary is not used
    held_out = labeled_examples(family, 40, vocabulary)
    before = models[0].get_input_embeddings().weight.detach().clone()

    def trained(model: Any) -> list[np.ndarray]:
        seen: list[np.ndarray] = []

        def evaluate() -> dict[str, float]:
            seen.append(predict_logits(model, held_out))
            return {}

        train(model, examples, settings, ToyObjective(evaluate=evaluate), seed=1, layerwise=layers)
        return seen

    all_rows = trained(models[0])
    with train_used_rows_only(models[1], examples.tokens.input_ids):
        used_rows = models[1].get_input_embeddings()
        assert isinstance(used_rows, UsedRows)
        assert len(used_rows.rows) < vocabulary
        used_only = trained(models[1])
        inside = predict_logits(models[1], held_out)
    np.testing.assert_allclose(used_only, all_rows, rtol=1e-3, atol=1e-5)
    expected, actual = models[0].state_dict(), models[1].state_dict()
    assert actual.keys() == expected.keys()
    for name, value in actual.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5)
    unused = models[1].get_input_embeddings().weight.detach()[vocabulary // 2 :]
    first = 10 if settings.unfreeze == "gradual" else 0  # embeddings are unfrozen in the third epoch
    rate = 1e-3 * settings.layer_decay**3
    decayed = np.prod([1 - rate * 0.5 * (1 - step / 15) for step in range(first, 15)])
    torch.testing.assert_close(unused, before[vocabulary // 2 :] * decayed, rtol=1e-5, atol=0.0)
    np.testing.assert_array_equal(
        predict_logits(models[1], held_out), inside
    )  # the published model is the measured one


def test_parameters_and_gradients_have_the_same_layout() -> None:
    """Otherwise DistributedDataParallel copies gradients, with a warning in every process."""
    used_rows = UsedRows(torch.nn.Embedding(8, 4), torch.arange(8) < 5)
    used_rows(torch.tensor([[0, 1]])).sum().backward()
    for parameter in (used_rows.rows, used_rows.decay):
        assert parameter.stride() == torch.empty(parameter.shape).stride()


def test_tied_or_frozen_embeddings_are_unchanged(make_encoder: Callable[..., Path]) -> None:
    tied, _ = heads.load_masked_lm(make_encoder("bert", "mlm"))
    frozen, new = heads.load_classifier(make_encoder("bert"), ["a", "b"])
    heads.freeze_encoder(frozen, new)
    for model in (tied, frozen):
        embedding = model.get_input_embeddings()
        with train_used_rows_only(model, np.arange(10)):
            assert model.get_input_embeddings() is embedding


@pytest.mark.parametrize(
    "optimizer_class",
    [
        torch.optim.Adam,
        torch.optim.SGD,
        torch.optim.RMSprop,
        torch.optim.NAdam,
        type("Other", (torch.optim.AdamW,), {}),
    ],
)
def test_used_rows_refuse_other_optimizers(make_encoder: Callable[..., Path], optimizer_class: Any) -> None:
    """Their updates of rows without gradients are not the decay that the unused rows share."""
    model, _ = heads.load_classifier(make_encoder("bert"), ["a", "b"])
    parameters = list(model.parameters())
    check_optimizer(model, optimizer_class(parameters, lr=0.1))  # without UsedRows, any optimizer
    with train_used_rows_only(model, np.arange(10)):
        check_optimizer(model, torch.optim.AdamW(model.parameters()))
        with pytest.raises(FtjobsError, match=rf"word_embeddings.*AdamW.*{optimizer_class.__name__}"):
            check_optimizer(model, optimizer_class(parameters, lr=0.1))


def test_build_optimizer_checks_speedups(make_encoder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimization, "AdamW", torch.optim.Adam)
    model, _ = heads.load_classifier(make_encoder("bert"), ["a", "b"])
    with train_used_rows_only(model, np.arange(10)), pytest.raises(FtjobsError, match=r"AdamW.*Adam;"):
        optimization.build_optimizer(model, Classify())


@pytest.mark.parametrize("family", FAMILIES)
def test_in_place_gradients_equal_those_of_autograd(make_encoder: Callable[..., Path], family: str) -> None:
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
        actual = gradients()
    assert "forward" not in vars(model.get_input_embeddings())
    assert actual.keys() == expected.keys()
    for name, gradient in actual.items():
        assert not gradient.is_sparse
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6)
