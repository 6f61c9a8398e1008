"""Layer-wise training: first epoch and learning rate of each layer; frozen layers stay bit-identical.

Depths of parameters are compared with gradients: a layer's weights affect its output and no earlier one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from ftjobs.errors import UserError
from ftjobs.jobfile.fields import Classify
from ftjobs.models import heads
from ftjobs.training import layerwise
from ftjobs.training.optimization import build_lr_scheduler, build_optimizer
from tests.helpers.families import FAMILIES, SIZES, tiny_config, tiny_tokenizer
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


#: Families with separate weights per layer.
SEPARATE = [family for family in FAMILIES if family != "albert"]


def classifier(family: str, **options: Any) -> Any:
    torch.manual_seed(0)
    config = tiny_config(family, tiny_tokenizer(family))
    for name, value in {"num_hidden_layers": 3, **options}.items():
        setattr(config, name, value)
    if family == "modernbert":
        config.layer_types = ["full_attention"] * 3
    return transformers.AutoModelForSequenceClassification.from_config(config).eval()


def first_output_changed(model: Any) -> dict[str, int]:
    """Return the first output with a gradient per parameter: embeddings (0), layers (1 to 3), logits (4)."""
    inputs = torch.arange(5, 80).view(3, 25)
    outputs = model(inputs, output_hidden_states=True)
    depths: dict[str, int] = {}
    named = dict(model.named_parameters())
    weights = torch.Generator().manual_seed(1)
    for depth, output in enumerate([*outputs.hidden_states[:4], outputs.logits]):
        score = (output * torch.randn(output.shape, generator=weights)).sum()
        gradients = torch.autograd.grad(score, list(named.values()), retain_graph=True, allow_unused=True)
        for name, gradient in zip(named, gradients, strict=True):
            if gradient is not None and gradient.abs().max() > 1e-6:
                depths.setdefault(name, depth)
    return depths


@pytest.mark.parametrize("family", SEPARATE)
def test_depth_is_that_of_first_use(family: str) -> None:
    model = classifier(family)
    encoder_layers = layerwise.find_layers(model, "unfreeze: last-1")
    assert (encoder_layers.count, encoder_layers.top) == (3, 4)
    used = first_output_changed(model)
    assert len(used) > 0.8 * len(list(model.named_parameters()))  # a key's bias changes nothing: softmax
    for name, first in used.items():
        depth = encoder_layers.depth(name)
        if depth == 0:
            assert first <= 1, name  # relative positions are first used in the lowest layer, and in all others
        elif "final_norm" in name:
            assert depth == 4, name  # this family's last hidden state is the normed one
        else:
            assert depth == first, name
    assert {encoder_layers.depth(name) for name in used} == {0, 1, 2, 3, 4}


def test_shared_layers_raise() -> None:
    with pytest.raises(UserError, match=r"^layer_decay: 0\.9 .* 3 layers .*`albert` .*freeze_encoder: true$"):
        layerwise.find_layers(classifier("albert"), "layer_decay: 0.9")


def test_unknown_family_has_layers_by_module_list_or_raises() -> None:
    sizes = {**SIZES, "num_hidden_layers": 3, "vocab_size": 60}
    known = transformers.NystromformerConfig(**sizes, segment_means_seq_len=64, num_landmarks=8)
    model = transformers.AutoModelForSequenceClassification.from_config(known)
    encoder_layers = layerwise.find_layers(model, "unfreeze: last-1")
    assert encoder_layers.depth("nystromformer.encoder.layer.2.output.dense.weight") == 3
    funnel = transformers.FunnelConfig(vocab_size=60, d_model=32, n_head=2, d_head=16, d_inner=64, block_sizes=[1, 2])
    with pytest.raises(UserError, match=r"list of 3 .*`funnel`"):
        layerwise.find_layers(transformers.AutoModelForSequenceClassification.from_config(funnel), "layer_decay: 0.9")


@pytest.mark.parametrize("family", SEPARATE)
def test_highest_layers_and_pooler_are_reinitialized(family: str) -> None:
    models = [classifier(family) for _ in range(2)]
    for model in models:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(3.0)
    before = {name: value.clone() for name, value in models[0].state_dict().items()}
    encoder_layers = layerwise.find_layers(models[0], "reinitialise_layers: 2")
    for model in models:
        torch.manual_seed(5)
        layerwise.reinitialize(model, encoder_layers, 2)
    fresh = {name for name, value in models[0].named_parameters() if not torch.equal(value, before[name])}
    expected = {name for name, _ in models[0].named_parameters() if encoder_layers.depth(name) in (2, 3)}
    pooler = {
        name
        for name, _ in models[0].base_model.named_parameters(prefix=encoder_layers.encoder.rstrip("."))
        if "pooler" in name
    }
    assert fresh == expected | pooler | {name for name in before if "final_norm" in name}
    assert bool(pooler) == (family == "bert")
    for name, value in models[0].named_parameters():
        assert torch.equal(value, models[1].get_parameter(name)), "a function of the seed"
        if name in fresh and value.ndim == 1:
            assert value.unique().tolist() in ([0.0], [1.0]), name  # biases and norms
        elif name in fresh:
            assert float(value.detach().std()) < 0.1, name  # initializer_range is 0.02


def test_reinitializing_too_many_layers_raises(make_encoder: Callable[..., Path]) -> None:
    model, _ = heads.load_classifier(make_encoder("bert"), ["a", "b"])
    with pytest.raises(UserError, match=r"reinitialise_layers: 3.* 2 layers"):
        layerwise.reinitialize(model, layerwise.find_layers(model, "reinitialise_layers: 3"), 3)
