"""Layer-wise training: first epoch and learning rate of each layer; frozen layers stay bit-identical."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from ftjobs.errors import UserError
from ftjobs.jobfile.fields import Classify
from ftjobs.models import heads
from ftjobs.training import layerwise
from ftjobs.training.optimization import build_lr_scheduler, build_optimizer
from tests.helpers.training import settings, train_classifier

#: Embeddings, layers from the lowest, pooler and head.
GROUPS = ("bert.embeddings", "bert.encoder.layer.0", "bert.encoder.layer.1", "bert.pooler", "classifier")


def changed_by_epoch(folder: Path, fields: Classify, **options: Any) -> tuple[list[set[str]], Any]:
    """Return the groups whose weights each epoch changed; also the model and its weights by epoch."""
    seen: list[dict[str, torch.Tensor]] = []
    model: Any = None
    load = heads.load_classifier

    def loaded(*arguments: Any) -> Any:
        nonlocal model
        model, new = load(*arguments)
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return model, new

    def evaluate() -> dict[str, float]:
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return {}

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(heads, "load_classifier", loaded)
        train_classifier(folder, fields, evaluate=evaluate, **options)
    changed = []
    for before, after in pairwise(seen):
        names = {name for name in after if not torch.equal(before[name], after[name])}
        changed.append({group for group in GROUPS if any(name.startswith(group) for name in names)})
    return changed, (model, seen)


def test_last_n_trains_the_highest_layers_only(make_encoder: Callable[..., Path]) -> None:
    fields = settings(unfreeze="last-1", weight_decay=0.5)
    changed, _ = changed_by_epoch(make_encoder("bert"), fields)
    assert changed == [{"bert.encoder.layer.1", "bert.pooler", "classifier"}] * 2
    changed, _ = changed_by_epoch(make_encoder("bert"), settings(unfreeze="last-2", weight_decay=0.5))
    assert changed == [set(GROUPS) - {"bert.embeddings"}] * 2


def test_gradual_unfreezes_one_layer_per_epoch_and_restores_the_best_epoch(
    make_encoder: Callable[..., Path],
) -> None:
    """With weight decay, which must not change frozen layers."""
    scores = iter([0.1, 0.2, 0.9, 0.3, 0.4])
    changed, (model, seen) = changed_by_epoch(
        make_encoder("bert"), settings(epochs=5, unfreeze="gradual", weight_decay=0.5), score=lambda _: next(scores)
    )
    assert changed == [set(GROUPS[3:]), set(GROUPS[2:]), set(GROUPS[1:]), set(GROUPS), set(GROUPS)]
    for name, value in model.state_dict().items():
        assert torch.equal(value, seen[3][name]), name


def test_gradual_with_more_layers_than_epochs_and_with_reinitialized_layers(make_encoder: Callable[..., Path]) -> None:
    """Reinitialized layers are trained from the first epoch; layers that no epoch reaches stay unchanged."""
    changed, _ = changed_by_epoch(make_encoder("bert"), settings(epochs=2, unfreeze="gradual"))
    assert changed == [set(GROUPS[3:]), set(GROUPS[2:])]
    model, _ = heads.load_classifier(make_encoder("bert"), ["a", "b"])
    layers = layerwise.prepare(model, settings(epochs=2, unfreeze="gradual"))
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        name for name, _ in model.named_parameters() if name.startswith(GROUPS[2:])
    }
    assert layers.trained_layers == 1
    changed, _ = changed_by_epoch(make_encoder("bert"), settings(epochs=2, unfreeze="gradual", reinitialise_layers=1))
    assert [set(GROUPS[2:]), set(GROUPS[1:])] == changed


@pytest.mark.parametrize("family", ["bert", "distilbert", "modernbert"])
def test_first_step_moves_each_layer_by_its_learning_rate(make_encoder: Callable[..., Path], family: str) -> None:
    """AdamW's first step moves every weight that has a gradient by the learning rate."""
    model, _ = heads.load_classifier(make_encoder(family), ["a", "b"])
    layers = layerwise.prepare(model, settings(layer_decay=0.25))
    before = {name: p.detach().double().clone() for name, p in model.named_parameters()}
    optimizer = build_optimizer(model, settings(layer_decay=0.25, adam_epsilon=1e-12), layers.lr_factor)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        if layer := re.search(r"\.layers?\.(\d)\.", name):
            factor = [0.25**2, 0.25][int(layer[1])]
        else:
            factor = 0.25**3 if "embeddings" in name else 1.0
        moved = before[name] - parameter.detach().double()
        torch.testing.assert_close(moved, torch.full_like(moved, 1e-3 * factor), rtol=1e-2, atol=1e-7)
    assert optimizer.param_groups[0]["lr"] == 1e-3  # the logged learning rate is the head's


def test_learning_rates_of_all_layers_follow_the_schedule(make_encoder: Callable[..., Path]) -> None:
    model, _ = heads.load_classifier(make_encoder("bert"), ["a", "b"])
    fields = settings(layer_decay=0.5, warmup_steps=2)
    optimizer = build_optimizer(model, fields, layerwise.prepare(model, fields).lr_factor)
    lr_scheduler = build_lr_scheduler(optimizer, fields, 6)
    for share in (0.0, 0.5, 1.0, 0.75, 0.5, 0.25):
        expected = [1e-3 * share * 0.5**below for below in range(4) for _ in ("with decay", "without")]
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(expected)
        optimizer.step()
        lr_scheduler.step()


def test_default_settings_need_no_layerwise_training(make_encoder: Callable[..., Path]) -> None:
    model, _ = heads.load_classifier(make_encoder("albert"), ["a", "b"])
    assert layerwise.prepare(model, Classify()) is None
    model, _ = heads.load_classifier(make_encoder("bert"), ["a", "b"])
    with pytest.raises(UserError, match=r"unfreeze: last-3.* 2 layers; write last-2"):
        layerwise.prepare(model, Classify(unfreeze="last-3"))
