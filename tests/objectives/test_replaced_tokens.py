"""Replaced-token detection: losses of transformers' classes, samples of the generator, shared embeddings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score

from ftjobs.jobfile.fields import Adapt
from ftjobs.objectives.compute.mlm import pad_positions
from ftjobs.objectives.compute.replaced_tokens import WEIGHT, sample_tokens
from tests.helpers.objectives import document_examples, load

SETTINGS = Adapt(objective="replaced-token", mlm_probability=0.3)


@pytest.fixture
def loaded(make_encoder: Callable[..., Path]) -> tuple[Any, Any]:
    folder = make_encoder("electra", "pretraining")
    objective = load(SETTINGS, folder)
    return objective, document_examples(objective, folder)


def test_losses_equal_those_of_transformers(loaded: tuple[Any, Any]) -> None:
    objective, examples = loaded
    model = objective.model.eval()
    batch = examples.batch(np.arange(12), 1)
    output = model(batch)
    original = batch.inputs["input_ids"].flatten().index_copy(0, batch.positions, batch.labels)
    assert (batch.inputs["input_ids"].flatten()[batch.positions] == 4).all()  # [MASK], always
    drawn = sample_tokens(output.generator_logits, batch.draws)
    corrupted = original.index_copy(0, batch.positions, drawn)
    replaced = (corrupted != original).view(batch.inputs["input_ids"].shape)
    assert 0 < int(replaced.sum()) <= len(batch.labels)
    real = batch.inputs["attention_mask"].bool()
    assert torch.equal(output.replaced, replaced[real])
    inputs = {**batch.inputs, "input_ids": corrupted.view(replaced.shape)}
    binary = model.discriminator(**inputs, labels=replaced.long()).loss.item()
    labels = torch.full_like(original, -100).index_copy(0, batch.positions, batch.labels).view(replaced.shape)
    generator = model.generator(**batch.inputs, labels=labels).loss.item()
    losses, items = objective.loss(model, batch), objective.num_items(batch)
    assert items == (len(batch.labels), int(real.sum()))
    assert losses[0].item() / items[0] == pytest.approx(generator, rel=1e-5)
    assert losses[1].item() / items[1] == pytest.approx(WEIGHT * binary, rel=1e-5)


def test_logits_are_at_masked_positions_and_sampling_has_no_gradient(loaded: tuple[Any, Any]) -> None:
    objective, examples = loaded
    sizes: list[int] = []
    objective.model.generator.generator_lm_head.register_forward_hook(
        lambda _, __, out: sizes.append(out.shape[:-1].numel())
    )
    batch = examples.batch(np.arange(6), 1)
    losses = objective.loss(objective.model.eval(), batch)
    assert sizes == [len(pad_positions(batch.positions))]
    losses[1].backward(retain_graph=True)  # the discriminator's
    generator = objective.model.generator
    assert generator.generator_predictions.dense.weight.grad.abs().sum() == 0
    assert objective.model.discriminator.electra.embeddings.word_embeddings.weight.grad.abs().sum() > 0
    losses[0].backward()
    assert generator.generator_predictions.dense.weight.grad.abs().sum() > 0


def test_embeddings_are_shared_and_new_generator_is_a_quarter_as_wide(loaded: tuple[Any, Any]) -> None:
    objective, _ = loaded
    model = objective.model
    assert model.generator.electra.embeddings is model.discriminator.electra.embeddings
    assert model.generator.generator_lm_head.weight is model.discriminator.get_input_embeddings().weight
    small, full = model.generator.config, model.discriminator.config
    assert (small.num_hidden_layers, small.embedding_size) == (full.num_hidden_layers, full.embedding_size)
    assert (small.num_attention_heads, small.hidden_size, small.intermediate_size) == (1, 16, 16)  # of 2, 32, 64
    assert objective.new
    assert all(name.startswith("generator.") for name in objective.new)
    assert not [name for name in objective.new if "embeddings." in name]


def test_samples_follow_the_distribution_and_the_draws() -> None:
    logits = torch.randn(1, 7, generator=torch.Generator().manual_seed(0)).expand(40_000, 7)
    draws = torch.rand(40_000, generator=torch.Generator().manual_seed(1))
    shares = np.bincount(sample_tokens(logits, draws).numpy(), minlength=7) / 40_000
    expected = logits[0].softmax(-1).numpy()
    np.testing.assert_allclose(shares, expected, atol=4 * 0.5 / 200)
    certain = torch.tensor([[-100.0, 100.0, -100.0]])
    assert all(int(sample_tokens(certain, torch.tensor([draw]))) == 1 for draw in (0.0, 0.5, 1 - 2**-24))


def test_draws_do_not_depend_on_the_batch(loaded: tuple[Any, Any]) -> None:
    _, examples = loaded
    order = np.arange(20)[::-1]
    together = examples.batch(order, 2)
    width = together.inputs["input_ids"].shape[1]
    for row, index in enumerate(order):
        alone = examples.batch(np.array([index]), 2)
        assert torch.equal(together.draws[together.positions // width == row], alone.draws)
    assert len(together.draws) == len(together.positions)
    assert not torch.equal(examples.batch(order, 3).draws[:5], together.draws[:5])
    assert len(examples.batch(np.zeros(0, dtype=np.int64), 1).draws) == 0


def test_evaluation_equals_scikit_learn_and_repeats(loaded: tuple[Any, Any]) -> None:
    objective, examples = loaded
    metrics = objective.measure(examples)
    assert metrics == objective.measure(examples)
    batch = examples.batch(np.arange(len(examples)), 0)
    with torch.no_grad():
        output = objective.model.eval()(batch)
    predicted = output.discriminator_logits > 0
    assert metrics["replaced_accuracy"] == pytest.approx(accuracy_score(output.replaced, predicted), abs=1e-3)
    assert metrics["replaced_f1"] == pytest.approx(f1_score(output.replaced, predicted, zero_division=0.0), abs=1e-2)
    assert metrics["objective_loss"] == pytest.approx(metrics["loss"] + WEIGHT * metrics["replaced_loss"])
    assert objective.score(metrics) == -metrics["objective_loss"]
