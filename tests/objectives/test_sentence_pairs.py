"""Masked tokens with segment pairs: losses and gradients of transformers' pretraining models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForPreTraining

from ftjobs.data.examples.batching import Batch
from ftjobs.data.examples.segment_pairs import PairExamples
from ftjobs.jobfile.fields import Adapt
from ftjobs.models import checkpoints
from ftjobs.objectives.compute.mlm import pad_positions
from ftjobs.training.loop import train
from tests.helpers.families import WORDS
from tests.helpers.objectives import TWO_LOSSES, document_examples, load, train_on_documents
from tests.helpers.training import NO_DROPOUT, SEED

LABELS = {"mlm+nsp": "next_sentence_label", "mlm+sop": "sentence_order_label"}
FAMILIES = {"mlm+nsp": "bert", "mlm+sop": "albert"}


def expected_loss(folder: Path, batch: Batch, name: str) -> tuple[float, dict[str, torch.Tensor]]:
    """Return loss and gradients of transformers' class, which computes logits of all tokens."""
    model = AutoModelForPreTraining.from_pretrained(folder, dtype=torch.float32).eval()
    labels = torch.full_like(batch.inputs["input_ids"], -100)
    labels.view(-1)[batch.positions] = batch.labels
    loss = model(**batch.inputs, labels=labels, **{LABELS[name]: batch.pair_labels}).loss
    loss.backward()
    return loss.item(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("masking", ["token", "whole-word"])
@pytest.mark.parametrize("name", list(FAMILIES))
def test_loss_and_gradients_equal_those_of_transformers(
    make_encoder: Callable[..., Path], name: str, masking: str
) -> None:
    folder = make_encoder(FAMILIES[name], "pretraining")
    settings = Adapt(objective=name, masking=masking, mlm_probability=0.3)
    objective = load(settings, folder)
    assert objective.new == []
    batch = document_examples(objective, folder).batch(np.arange(8), 1)
    assert set(batch.inputs["token_type_ids"].flatten().tolist()) == {0, 1}
    assert set(batch.pair_labels.tolist()) == {0, 1}
    expected, gradients = expected_loss(folder, batch, name)
    objective.model.eval()
    sizes: list[int] = []
    objective.encoder.get_output_embeddings().register_forward_hook(
        lambda _, __, out: sizes.append(out.shape[:-1].numel())
    )
    losses, items = objective.loss(objective.model, batch), objective.num_items(batch)
    assert items == (len(batch.labels), 8)
    assert sizes == [len(pad_positions(batch.positions))]  # logits at masked positions only
    total = sum(loss / count for loss, count in zip(losses, items, strict=True))
    total.backward()
    assert total.item() == pytest.approx(expected, rel=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(objective.model.get_parameter(name).grad, gradient, rtol=1e-4, atol=1e-6)
    everything = objective.model(**batch.inputs)[0]
    assert everything.shape[:2] == batch.inputs["input_ids"].shape  # unchanged outside the loss


def test_evaluation_equals_the_loss_of_epoch_0_and_repeats(make_encoder: Callable[..., Path]) -> None:
    folder = make_encoder("bert", "pretraining")
    settings = Adapt(objective="mlm+nsp")
    objective = load(settings, folder)
    examples = document_examples(objective, folder)
    assert isinstance(examples, PairExamples)
    metrics = objective.measure(examples)
    assert metrics == objective.measure(examples)
    batch = examples.batch(np.arange(len(examples)), 0)
    objective.model.eval()
    losses = objective.loss(objective.model, batch) / torch.tensor(objective.num_items(batch))
    assert [metrics["loss"], metrics["nsp_loss"]] == pytest.approx(losses.tolist(), rel=1e-5)
    assert metrics["objective_loss"] == pytest.approx(losses.sum().item(), rel=1e-5)
    with torch.no_grad():
        guesses = objective.model(**batch.inputs)[1].argmax(-1)
    assert metrics["nsp_accuracy"] == pytest.approx(float((guesses == batch.pair_labels).float().mean()))
    assert objective.score(metrics) == -metrics["objective_loss"]
    assert {"perplexity", "accuracy"} < set(metrics)


@pytest.mark.parametrize("objective", list(TWO_LOSSES))
def test_gradient_accumulation_takes_the_same_steps(make_encoder: Callable[..., Path], objective: str) -> None:
    folder = make_encoder(TWO_LOSSES[objective], "pretraining", **NO_DROPOUT)
    single_pass = train_on_documents(folder, objective, per_device_batch_size=8)
    accumulated = train_on_documents(folder, objective, per_device_batch_size=2, gradient_accumulation_steps=4)
    assert len(single_pass) >= 6
    np.testing.assert_allclose(accumulated, single_pass, rtol=1e-3)


def test_two_processes_take_the_same_steps_as_one(make_encoder: Callable[..., Path], tmp_path: Path) -> None:
    """Including the last step of an epoch: 25 texts leave one, so the other process is idle."""
    folders = {name: make_encoder(family, "pretraining", **NO_DROPOUT) for name, family in TWO_LOSSES.items()}
    out = tmp_path / "steps.json"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    subprocess.run(
        [*launcher, "-m", "tests.helpers.two_processes_two_losses", json.dumps(folders, default=str), str(out)],
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=240,
        cwd=Path(__file__).parent.parent.parent,
    )
    for name, steps in json.loads(out.read_text()).items():
        np.testing.assert_allclose(steps, train_on_documents(folders[name], name, per_device_batch_size=8), rtol=1e-3)


def test_sentence_order_is_learned(make_encoder: Callable[..., Path]) -> None:
    """Documents begin with `pain` and end with `sleep`, so the order of segments is predictable."""
    folder = make_encoder("albert", "pretraining", initializer_range=0.1, classifier_dropout_prob=0.0, **NO_DROPOUT)
    settings = Adapt(objective="mlm+sop", epochs=12, learning_rate=1e-3, mixed_precision="no")
    texts = [f"Pain {WORDS[row % 40]}. Pain {WORDS[row % 7]}. Sleep {WORDS[row % 11]}. Sleep." for row in range(150)]
    torch.manual_seed(0)
    objective = load(settings, folder)
    examples = objective.build_examples(checkpoints.load_tokenizer(folder), texts, 48, SEED)
    objective.held_out = {"": examples}
    before = objective.evaluate()
    train(objective.model, examples, settings, objective, seed=SEED)
    after = objective.evaluate()
    assert before["sop_accuracy"] < 0.7
    assert after["sop_accuracy"] > 0.9
    assert after["loss"] < before["loss"]
