"""Masked tokens and pairs: the losses and gradients of transformers' own pretraining models, for less."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForPreTraining

from ftjobs.data.examples.batching import Batch
from ftjobs.data.examples.segment_pairs import PairExamples
from ftjobs.jobfile.fields import Adapt
from ftjobs.models import checkpoints
from ftjobs.objectives import pretraining
from ftjobs.objectives.mlm import rounded
from ftjobs.training.loop import train
from tests.helpers.documents import documents_of
from tests.helpers.families import WORDS
from tests.training.test_trainer_parity import NO_DROPOUT, SEED

LABELS = {"mlm+nsp": "next_sentence_label", "mlm+sop": "sentence_order_label"}
FAMILIES = {"mlm+nsp": "bert", "mlm+sop": "albert"}


def examples_of(folder: Path, settings: Adapt, count: int = 25) -> Any:
    tokenizer = checkpoints.load_tokenizer(folder)
    return pretraining.examples(settings, tokenizer, documents_of(count), 48, SEED)


def expected_loss(folder: Path, batch: Batch, objective: str) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of the family's own class, all tokens going to the vocabulary."""
    model = AutoModelForPreTraining.from_pretrained(folder, dtype=torch.float32).eval()
    labels = torch.full_like(batch.inputs["input_ids"], -100)
    labels.view(-1)[batch.positions] = batch.labels
    loss = model(**batch.inputs, labels=labels, **{LABELS[objective]: batch.pair_labels}).loss
    loss.backward()
    return loss.item(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("masking", ["token", "whole-word"])
@pytest.mark.parametrize("objective", list(FAMILIES))
def test_same_loss_and_gradients_as_transformers(
    make_encoder: Callable[..., Path], objective: str, masking: str
) -> None:
    folder = make_encoder(FAMILIES[objective], "pretraining")
    settings = Adapt(objective=objective, masking=masking, mlm_probability=0.3)
    trainee = pretraining.load(settings, folder)
    assert trainee.new == []
    batch = examples_of(folder, settings).batch(np.arange(8), 1)
    assert set(batch.inputs["token_type_ids"].flatten().tolist()) == {0, 1}
    assert set(batch.pair_labels.tolist()) == {0, 1}
    expected, gradients = expected_loss(folder, batch, objective)
    trainee.model.eval()
    sizes: list[int] = []
    trainee.encoder.get_output_embeddings().register_forward_hook(
        lambda _, __, out: sizes.append(out.shape[:-1].numel())
    )
    losses, items = trainee.loss(trainee.model, batch), trainee.items(batch)
    assert items == (len(batch.labels), 8)
    assert sizes == [len(rounded(batch.positions))]  # only masked positions reach the vocabulary
    found = sum(loss / count for loss, count in zip(losses, items, strict=True))
    found.backward()
    assert found.item() == pytest.approx(expected, rel=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(trainee.model.get_parameter(name).grad, gradient, rtol=1e-4, atol=1e-6)
    everything = trainee.model(**batch.inputs)[0]
    assert everything.shape[:2] == batch.inputs["input_ids"].shape  # unchanged outside of the loss


def test_evaluation_is_the_loss_of_epoch_0_and_repeats(make_encoder: Callable[..., Path]) -> None:
    folder = make_encoder("bert", "pretraining")
    settings = Adapt(objective="mlm+nsp")
    trainee, examples = pretraining.load(settings, folder), examples_of(folder, settings)
    assert isinstance(examples, PairExamples)
    found = trainee.evaluate(examples)
    assert found == trainee.evaluate(examples)
    batch = examples.batch(np.arange(len(examples)), 0)
    trainee.model.eval()
    losses = trainee.loss(trainee.model, batch) / torch.tensor(trainee.items(batch))
    assert [found["loss"], found["nsp_loss"]] == pytest.approx(losses.tolist(), rel=1e-5)
    assert found["objective_loss"] == pytest.approx(losses.sum().item(), rel=1e-5)
    with torch.no_grad():
        guesses = trainee.model(**batch.inputs)[1].argmax(-1)
    assert found["nsp_accuracy"] == pytest.approx(float((guesses == batch.pair_labels).float().mean()))
    assert trainee.score(found) == -found["objective_loss"]
    assert {"perplexity", "accuracy"} < set(found)


def train_on(folder: Path, objective: str, **fields: Any) -> list[tuple[float, float]]:
    """Mean loss and learning rate of every step."""
    settings = Adapt(objective=objective, **{"epochs": 2, "learning_rate": 1e-3, "mixed_precision": "no", **fields})
    torch.manual_seed(0)
    trainee, examples = pretraining.load(settings, folder), examples_of(folder, settings)
    steps: list[tuple[float, float]] = []
    train(
        trainee.model,
        examples,
        settings,
        seed=SEED,
        loss=trainee.loss,
        items=trainee.items,
        evaluate=dict,
        score=lambda _: len(steps),
        on_step=lambda step, loss, rate: steps.append((float(loss), rate)),
    )
    return steps


#: One objective with pairs, one with a generator: each has two losses with items of their own.
TWO_LOSSES = {"mlm+nsp": "bert", "replaced-token": "electra"}


@pytest.mark.parametrize("objective", list(TWO_LOSSES))
def test_accumulated_passes_are_one_step(make_encoder: Callable[..., Path], objective: str) -> None:
    folder = make_encoder(TWO_LOSSES[objective], "pretraining", **NO_DROPOUT)
    whole = train_on(folder, objective, per_device_batch_size=8)
    parts = train_on(folder, objective, per_device_batch_size=2, gradient_accumulation_steps=4)
    assert len(whole) >= 6
    np.testing.assert_allclose(parts, whole, rtol=1e-3)


def test_two_processes_take_the_steps_of_one(make_encoder: Callable[..., Path], tmp_path: Path) -> None:
    """Also the last step of an epoch: 25 texts leave one, and the other process without."""
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
        np.testing.assert_allclose(steps, train_on(folders[name], name, per_device_batch_size=8), rtol=1e-3)


def test_order_is_learned_where_there_is_any(make_encoder: Callable[..., Path]) -> None:
    """Documents that begin with pain and end with sleep: the order of two segments can be told, and is."""
    folder = make_encoder("albert", "pretraining", initializer_range=0.1, classifier_dropout_prob=0.0, **NO_DROPOUT)
    settings = Adapt(objective="mlm+sop", epochs=12, learning_rate=1e-3, mixed_precision="no")
    texts = [f"Pain {WORDS[row % 40]}. Pain {WORDS[row % 7]}. Sleep {WORDS[row % 11]}. Sleep." for row in range(150)]
    torch.manual_seed(0)
    trainee, tokenizer = pretraining.load(settings, folder), checkpoints.load_tokenizer(folder)
    examples = pretraining.examples(settings, tokenizer, texts, 48, SEED)
    before = trainee.evaluate(examples)
    train(
        trainee.model,
        examples,
        settings,
        seed=SEED,
        loss=trainee.loss,
        items=trainee.items,
        evaluate=lambda: trainee.evaluate(examples),
        score=trainee.score,
    )
    after = trainee.evaluate(examples)
    assert before["sop_accuracy"] < 0.7
    assert after["sop_accuracy"] > 0.9
    assert after["loss"] < before["loss"]
