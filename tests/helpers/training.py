"""Toy data, objectives and callbacks for tests that train."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ftjobs.data.examples.batching import Batch, LabeledExamples
from ftjobs.data.examples.tokenization import Tokens
from ftjobs.jobfile.fields import Classify, Lora
from ftjobs.models import heads
from ftjobs.tasks.classification import Classification, WeightedCrossEntropy
from ftjobs.training import layerwise, lora
from ftjobs.training.callbacks import Callback, StepEnd, TrainingContext
from ftjobs.training.loop import train
from ftjobs.training.objective import Items, TrainingObjective
from ftjobs.training.output import TrainOutput
from tests.helpers.families import WITH_TOKEN_TYPES, tiny_tokenizer

SEED = 3
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
Steps = list[tuple[float, float]]

#: Settings that train alike on one process in batches of eight, and on two in batches of four.
PARALLEL_SETTINGS: list[dict[str, Any]] = [
    {"warmup_steps": 3},
    {"epochs": 4, "unfreeze": "gradual", "layer_decay": 0.5, "weight_decay": 0.1},
    {"epochs": 5, "early_stopping": 2, "class_weights": {"a": 0.1, "b": 3.0}, "label_smoothing": 0.2},
    {"lora": Lora(rank=2)},
]


def random_tokens(examples: int, vocab_size: int, types: bool = True) -> Tokens:
    """Return texts of 4 to 19 random tokens, the first and last of them special."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(4, 20, size=examples)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = generator.integers(5, vocab_size, size=offsets[-1]).astype(np.int32)
    special = np.zeros(len(ids), dtype=bool)
    special[offsets[:-1]] = special[offsets[1:] - 1] = True
    return Tokens(ids, special, np.zeros(len(ids), dtype=np.int8) if types else None, offsets, truncated=0)


def labeled_examples(family: str, examples: int, vocab_size: int) -> LabeledExamples:
    """Return random texts for an encoder family, with alternating labels of two classes."""
    tokens = random_tokens(examples, vocab_size, family in WITH_TOKEN_TYPES)
    return LabeledExamples(tokens, np.arange(examples) % 2, tiny_tokenizer(family).pad_token_id)


def settings(**fields: Any) -> Classify:
    """Return settings of a short training in fp32."""
    return Classify(**{"epochs": 2, "learning_rate": 1e-3, "mixed_precision": "no", **fields})


class ToyObjective(TrainingObjective):
    """An objective made of functions; classifies with the usual loss and calls the last epoch the best by default."""

    def __init__(
        self,
        loss: Callable[[nn.Module, Batch], torch.Tensor] | None = None,
        num_items: Callable[[Batch], Items] | None = None,
        evaluate: Callable[[], dict[str, Any]] = dict,
        score: Callable[[dict[str, Any]], float] | None = None,
    ) -> None:
        self.functions = loss or WeightedCrossEntropy().loss, num_items, evaluate, score
        self.evaluations = 0

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        return self.functions[0](model, batch)

    def num_items(self, batch: Batch) -> Items:
        return super().num_items(batch) if self.functions[1] is None else self.functions[1](batch)

    def evaluate(self) -> dict[str, Any]:
        return self.functions[2]()

    def score(self, metrics: dict[str, Any]) -> float:
        self.evaluations += 1
        return self.evaluations if self.functions[3] is None else self.functions[3](metrics)


class StepRecorder(Callback):
    """Record losses and learning rates of all steps."""

    def __init__(self) -> None:
        self.steps: Steps = []
        """Mean loss and learning rate of each step."""
        self.numbers: list[int] = []

    def on_step_end(self, event: StepEnd) -> None:
        self.numbers.append(event.step)
        self.steps.append((float(event.loss), event.learning_rate))

    @property
    def context(self) -> TrainingContext:
        return TrainingContext(callbacks=(self,))

    @property
    def losses(self) -> list[float]:
        return [loss for loss, _ in self.steps]


def train_classifier(
    folder: Path,
    fields: Classify,
    evaluate: Callable[[], dict[str, Any]] = dict,
    score: Callable[[dict[str, Any]], float] | None = None,
) -> tuple[Any, Steps, TrainOutput]:
    """Train a classifier of two classes on 52 random texts.

    Returns:
        The model, mean loss and learning rate of each step, and the output of training.
    """
    torch.manual_seed(0)
    model, _ = heads.load_classifier(folder, ["a", "b"])
    layers = layerwise.prepare(model, fields)
    tokens = random_tokens(52, model.config.vocab_size)
    examples = LabeledExamples(tokens, np.random.default_rng(1).integers(0, 2, size=len(tokens)), pad_token_id=0)
    criterion = Classification().criterion(fields, ["a", "b"], examples.labels)
    recorder = StepRecorder()
    sign = 1 if fields.early_stopping is None else -1  # the last epoch is the best, or the first
    objective = ToyObjective(
        criterion.loss, criterion.num_items, evaluate, score or (lambda metrics: sign * len(recorder.steps))
    )
    head = [name for name, _ in model.named_parameters() if not heads.is_encoder(model, name)]
    with lora.adapters(model, fields.lora, head):
        trained = train(model, examples, fields, objective, seed=SEED, layerwise=layers, context=recorder.context)
    return model, recorder.steps, trained
