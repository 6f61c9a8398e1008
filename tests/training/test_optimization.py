"""Weight decay and schedules match transformers, in every family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import Trainer, TrainingArguments, get_scheduler

from ftjobs.jobfile.fields import TrainingFields
from ftjobs.models import heads
from ftjobs.training.optimization import build_lr_scheduler, build_optimizer
from tests.helpers.families import FAMILIES


@pytest.mark.parametrize("load", [heads.load_masked_lm, lambda folder: heads.load_classifier(folder, ["a", "b"])])
@pytest.mark.parametrize("family", FAMILIES)
def test_weight_decay_applies_to_the_parameters_that_trainer_decays(
    make_encoder: Callable[..., Path], tmp_path: Path, family: str, load: Callable
) -> None:
    model, _ = load(make_encoder(family, "mlm"))
    optimizer = build_optimizer(model, TrainingFields(weight_decay=0.1))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed = {names[id(p)] for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    others = {names[id(p)] for group in optimizer.param_groups if not group["weight_decay"] for p in group["params"]}
    trainer = Trainer(model, TrainingArguments(str(tmp_path), report_to="none", use_cpu=True))
    expected = set(trainer.get_decay_parameter_names(model)) & set(names.values())  # tied weights have two names
    assert decayed == expected
    assert others == set(names.values()) - expected


@pytest.mark.parametrize(
    ("name", "theirs"), [("linear", "linear"), ("cosine", "cosine"), ("constant", "constant_with_warmup")]
)
@pytest.mark.parametrize(("warmup", "steps"), [(0, 97), (3, 97), (7, 7), (9, 7)])
def test_schedules_equal_those_of_transformers(name: str, theirs: str, warmup: int, steps: int) -> None:
    optimizers = [torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-5) for _ in range(2)]
    ours = build_lr_scheduler(optimizers[0], TrainingFields(schedule=name, warmup_steps=warmup), steps)
    expected = get_scheduler(theirs, optimizers[1], num_warmup_steps=warmup, num_training_steps=steps)
    for _ in range(99):
        assert ours.get_last_lr() == expected.get_last_lr()
        for optimizer, lr_scheduler in zip(optimizers, (ours, expected), strict=True):
            optimizer.step()
            lr_scheduler.step()
