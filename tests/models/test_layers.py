"""Depth of parameters, compared with gradients: a layer's weights affect its output and no earlier one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from ftjobs.errors import UserError
from ftjobs.models import heads, layers
from tests.helpers.families import FAMILIES, SIZES, tiny_config, tiny_tokenizer

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
    encoder_layers = layers.find(model, "unfreeze: last-1")
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
    with pytest.raises(
        UserError, match=r"^layer_decay: 0\.9 .* 3 layers .*`albert` share 1 set .*freeze_encoder: true$"
    ):
        layers.find(classifier("albert"), "layer_decay: 0.9")


def test_unknown_family_has_layers_by_module_list_or_raises() -> None:
    sizes = {**SIZES, "num_hidden_layers": 3, "vocab_size": 60}
    known = transformers.NystromformerConfig(**sizes, segment_means_seq_len=64, num_landmarks=8)
    model = transformers.AutoModelForSequenceClassification.from_config(known)
    encoder_layers = layers.find(model, "unfreeze: last-1")
    assert encoder_layers.depth("nystromformer.encoder.layer.2.output.dense.weight") == 3
    funnel = transformers.FunnelConfig(vocab_size=60, d_model=32, n_head=2, d_head=16, d_inner=64, block_sizes=[1, 2])
    with pytest.raises(UserError, match=r"a module list of 3 entries .* this `funnel` has no such list"):
        layers.find(transformers.AutoModelForSequenceClassification.from_config(funnel), "layer_decay: 0.9")


@pytest.mark.parametrize("family", SEPARATE)
def test_highest_layers_and_pooler_are_reinitialized(family: str) -> None:
    models = [classifier(family) for _ in range(2)]
    for model in models:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(3.0)
    before = {name: value.clone() for name, value in models[0].state_dict().items()}
    encoder_layers = layers.find(models[0], "reinitialise_layers: 2")
    for model in models:
        torch.manual_seed(5)
        layers.reinitialize(model, encoder_layers, 2)
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
        layers.reinitialize(model, layers.find(model, "reinitialise_layers: 3"), 3)
