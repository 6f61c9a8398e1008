"""Parity with transformers.Trainer: same losses and learning rates on the same model and batches, dropout 0, fp32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainingArguments

from ftjobs.data.examples.batching import Batch, LabeledExamples, accumulation_windows, epoch_order
from ftjobs.data.examples.masked_examples import MaskedExamples
from ftjobs.jobfile.fields import Adapt, Classify, TrainingFields
from ftjobs.models import heads
from ftjobs.objectives.compute.mlm import MaskedLMObjective
from ftjobs.training.loop import train
from ftjobs.training.objective import predict_logits
from tests.helpers.training import NO_DROPOUT, SEED, StepRecorder, ToyObjective, random_tokens

SETTINGS = {
    "epochs": 4,
    "per_device_batch_size": 8,
    "learning_rate": 1e-3,
    "weight_decay": 0.1,
    "warmup_steps": 7,
    "max_grad_norm": 0.5,
    "mixed_precision": "no",
}


def batches_of(examples: Any, settings: TrainingFields) -> list[Batch]:
    size = settings.per_device_batch_size
    return [
        examples.batch(indices, epoch)
        for epoch in range(1, settings.epochs + 1)
        for window in accumulation_windows(epoch_order(examples.lengths, SEED, epoch, size), size, 1, 0, 1)
        for indices in window
    ]


class RecordingTrainer(Trainer):
    """A Trainer that takes batches in the given order and records loss and learning rate of every step."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.steps: list[tuple[float, float]] = []

    def _get_train_sampler(self, *args: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        self.steps.append((float(loss), self.lr_scheduler.get_last_lr()[0]))
        return loss


def run_trainer(model: Any, batches: list[dict[str, torch.Tensor]], settings: TrainingFields, folder: Path) -> Any:
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,  # all epochs' batches in a row
        per_device_train_batch_size=1,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        warmup_steps=settings.warmup_steps,
        max_grad_norm=settings.max_grad_norm,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = RecordingTrainer(model=model, args=arguments, train_dataset=batches, data_collator=lambda batch: batch[0])
    trainer.train()
    return trainer


def assert_same_steps(ours: list[tuple[float, float]], theirs: list[tuple[float, float]]) -> None:
    assert len(ours) == len(theirs) >= 50
    np.testing.assert_allclose([loss for loss, _ in ours], [loss for loss, _ in theirs], rtol=1e-5)
    np.testing.assert_allclose([rate for _, rate in ours], [rate for _, rate in theirs], rtol=1e-12)


@pytest.mark.parametrize("frozen", [False, True])
def test_classify_matches_trainer(make_encoder: Callable[..., Path], tmp_path: Path, frozen: bool) -> None:
    folder = make_encoder("bert", **NO_DROPOUT)
    settings = Classify(**SETTINGS, freeze_encoder=frozen)
    ours, theirs = (load_classifier(folder, frozen) for _ in range(2))
    tokens = random_tokens(110, ours.config.vocab_size)
    examples = LabeledExamples(tokens, np.random.default_rng(1).integers(0, 3, size=len(tokens)), pad_token_id=0)
    batches = [{**batch.inputs, "labels": batch.labels} for batch in batches_of(examples, settings)]
    trainer = run_trainer(theirs, batches, settings, tmp_path)

    recorder = StepRecorder()
    train(ours, examples, settings, ToyObjective(), seed=SEED, context=recorder.context)
    assert_same_steps(recorder.steps, trainer.steps)
    np.testing.assert_allclose(predict_logits(ours, examples), predict_logits(theirs, examples), rtol=1e-4, atol=1e-5)


def load_classifier(folder: Path, frozen: bool) -> Any:
    torch.manual_seed(0)
    model, new = heads.load_classifier(folder, ["a", "b", "c"])
    if frozen:
        heads.freeze_encoder(model, new)
    return model


def test_adapt_matches_trainer(make_encoder: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_encoder("bert", "mlm", **NO_DROPOUT)
    settings = Adapt(**SETTINGS)
    ours, theirs = heads.load_masked_lm(folder)[0], heads.load_masked_lm(folder)[0]
    tokens = random_tokens(110, ours.config.vocab_size)
    examples = MaskedExamples(tokens, SEED, 0.3, mask_token_id=4, vocab_size=ours.config.vocab_size, pad_token_id=0)
    batches = []
    for batch in batches_of(examples, settings):
        labels = torch.full_like(batch.inputs["input_ids"], -100)
        labels.view(-1)[batch.positions] = batch.labels
        batches.append({**batch.inputs, "labels": labels})
    trainer = run_trainer(theirs, batches, settings, tmp_path)

    recorder, objective = StepRecorder(), MaskedLMObjective(settings, ours, [])
    train(ours, examples, settings, ToyObjective(objective.loss), seed=SEED, context=recorder.context)
    assert_same_steps(recorder.steps, trainer.steps)
    metrics = objective.measure(examples)
    expected = MaskedLMObjective(settings, theirs, []).measure(examples)
    assert metrics["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    assert metrics["accuracy"] == expected["accuracy"]
