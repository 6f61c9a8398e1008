"""Weight decay falls on the parameters that transformers' Trainer decays, in every family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import Trainer, TrainingArguments

from ftjobs.jobfile.fields import TrainingFields
from ftjobs.models import heads
from ftjobs.training.optimization import adamw
from tests.conftest import FAMILIES


@pytest.mark.parametrize("load", [heads.load_masked_lm, lambda folder: heads.load_classifier(folder, ["a", "b"])])
@pytest.mark.parametrize("family", FAMILIES)
def test_decay_on_the_parameters_that_trainer_decays(
    make_encoder: Callable[..., Path], tmp_path: Path, family: str, load: Callable
) -> None:
    model, _ = load(make_encoder(family, "mlm"))
    optimizer = adamw(model, TrainingFields(weight_decay=0.1))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed = {names[id(p)] for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    others = {names[id(p)] for group in optimizer.param_groups if not group["weight_decay"] for p in group["params"]}
    trainer = Trainer(model, TrainingArguments(str(tmp_path), report_to="none", use_cpu=True))
    expected = set(trainer.get_decay_parameter_names(model)) & set(names.values())  # tied weights have two names
    assert decayed == expected
    assert others == set(names.values()) - expected
