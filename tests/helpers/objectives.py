"""Objectives on toy documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ftjobs.jobfile.fields import Adapt
from ftjobs.models import checkpoints
from ftjobs.objectives import get_objective
from ftjobs.training.loop import train
from tests.helpers.documents import documents_of
from tests.helpers.training import SEED, StepRecorder, Steps, ToyObjective

#: Objectives with two losses, each with its own denominator: one with pairs, one with a generator.
TWO_LOSSES = {"mlm+nsp": "bert", "replaced-token": "electra"}


def load(settings: Adapt, folder: Path) -> Any:
    """Load the objective of the settings."""
    return get_objective(settings.objective).load(settings, folder)


def document_examples(objective: Any, folder: Path, count: int = 25) -> Any:
    """Build examples from toy documents."""
    return objective.build_examples(checkpoints.load_tokenizer(folder), documents_of(count), 48, SEED)


def train_on_documents(folder: Path, name: str, **fields: Any) -> Steps:
    """Train by an objective on toy documents. Returns mean loss and learning rate of each step."""
    settings = Adapt(objective=name, **{"epochs": 2, "learning_rate": 1e-3, "mixed_precision": "no", **fields})
    torch.manual_seed(0)
    objective = load(settings, folder)
    recorder = StepRecorder()
    toy = ToyObjective(objective.loss, objective.num_items)
    examples = document_examples(objective, folder)
    train(objective.model, examples, settings, toy, seed=SEED, context=recorder.context)
    return recorder.steps
