"""Low-rank adapters: what they are, that nothing else moves, and that what is published is the adapted model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from ftjobs.data.examples.masked_examples import MaskedExamples
from ftjobs.errors import UserError
from ftjobs.jobfile.fields import Adapt, Lora
from ftjobs.models import checkpoints, heads
from ftjobs.objectives.mlm import MaskedLM
from ftjobs.tasks.classification import WeightedCrossEntropy
from ftjobs.training import evaluation
from ftjobs.training.loop import train
from ftjobs.training.lora import adapters, target_modules
from tests.helpers.families import FAMILIES
from tests.training.test_features import labelled
from tests.training.test_loop import settings
from tests.training.test_trainer_parity import SEED, random_tokens

FIELDS = Lora(rank=2, alpha=6.0)
#: Linear layers in the attention of each of two layers.
PER_LAYER = {"deberta-v2": 4, "modernbert": 2}


def classifier(folder: Path) -> tuple[Any, list[str], list[str]]:
    torch.manual_seed(0)
    model, new = heads.load_classifier(folder, ["a", "b"])
    head = [name for name, _ in model.named_parameters() if name in new or not heads.is_encoder(model, name)]
    return model, new, head


def randomised(model: Any) -> dict[str, torch.Tensor]:
    """Give adapters that start at zero something to add; returns the adapters by name."""
    torch.manual_seed(1)
    found = {name: p for name, p in model.named_parameters() if "lora_" in name}
    with torch.no_grad():
        for parameter in found.values():
            parameter.copy_(torch.randn_like(parameter) / 4)
    return {name: p.detach().clone() for name, p in found.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_merged_model_is_the_adapted_one_and_has_the_form_it_had(
    make_encoder: Callable[..., Path], tmp_path: Path, family: str
) -> None:
    folder = make_encoder(family)
    model, _, head = classifier(folder)
    examples = labelled(family, 20, model.config.vocab_size)
    before, plain = {n: v.clone() for n, v in model.state_dict().items()}, evaluation.logits(model, examples)
    targets = target_modules(model, FIELDS)
    if family != "albert":  # whose layers share their weights
        assert len(targets) == 2 * PER_LAYER.get(family, 4)
    with adapters(model, FIELDS, head) as counted:
        np.testing.assert_array_equal(evaluation.logits(model, examples), plain)  # B starts at zero
        trainable = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
        assert {name for name in trainable if "lora_" not in name} == set(head)
        assert counted == {"trained": sum(trainable.values()), "all": sum(v.numel() for v in before.values())}
        low_rank = randomised(model)
        adapted = evaluation.logits(model, examples)
    assert np.abs(adapted - plain).max() > 1e-3
    np.testing.assert_allclose(evaluation.logits(model, examples), adapted, rtol=1e-4, atol=1e-5)
    found = model.state_dict()
    assert {name: value.shape for name, value in found.items()} == {n: v.shape for n, v in before.items()}
    for name, value in found.items():
        target = name.removesuffix(".weight")
        if target not in targets:
            assert torch.equal(value, before[name]), name
            continue
        a, b = (low_rank[f"{target}.lora_{letter}.default.weight"] for letter in "AB")
        torch.testing.assert_close(value, before[name] + 6.0 / 2 * b @ a)
    heads.save(model, checkpoints.load_tokenizer(folder), tmp_path / "model", {})
    again, new = heads.load_classifier(tmp_path / "model", ["a", "b"])
    assert new == []
    np.testing.assert_array_equal(evaluation.logits(again, examples), evaluation.logits(model, examples))


def test_the_same_training_as_pefts_own_wrapper(make_encoder: Callable[..., Path]) -> None:
    """Losses of every step, and the merged weights, with dropout in the adapters."""
    folder = make_encoder("bert")
    fields = settings(lora=Lora(rank=2, alpha=6.0, dropout=0.3), weight_decay=0.1)
    examples = labelled("bert", 40, 50)
    found = []
    for wrapped in (False, True):
        model, _, head = classifier(folder)
        losses: list[float] = []

        def run(trained: Any, losses: list[float] = losses) -> None:
            train(
                trained, examples, fields, seed=SEED, loss=WeightedCrossEntropy().loss, evaluate=dict,
                score=lambda _: len(losses), on_step=lambda step, loss, rate: losses.append(float(loss)),
            )  # fmt: skip

        if wrapped:
            config = LoraConfig(
                r=2,
                lora_alpha=6.0,
                lora_dropout=0.3,
                target_modules=["query", "key", "value", "attention.output.dense"],
            )
            peft_model = get_peft_model(model, config)
            assert isinstance(peft_model, PeftModel)
            for name in head:
                model.get_parameter(name).requires_grad = True
            run(peft_model)
            model = peft_model.merge_and_unload()
        else:
            with adapters(model, fields.lora, head):
                run(model)
        found.append((losses, model.state_dict()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert len(found[0][0]) == 10
    for name, value in found[1][1].items():
        torch.testing.assert_close(found[0][1][name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_adaptation_keeps_tied_embeddings_and_the_masked_lm_head(
    make_encoder: Callable[..., Path], tmp_path: Path, family: str
) -> None:
    folder = make_encoder(family, "mlm")
    model, new = heads.load_masked_lm(folder)
    assert new == []
    before = {name: value.clone() for name, value in model.state_dict().items()}
    vocabulary = model.config.vocab_size
    tokens = random_tokens(40, vocabulary, family == "bert")
    examples = MaskedExamples(tokens, SEED, 0.3, mask_token_id=4, vocab_size=vocabulary, pad_token_id=0)
    objective = MaskedLM(model)
    fields = Adapt(epochs=2, learning_rate=0.01, mixed_precision="bf16")
    with adapters(model, FIELDS, new):
        train(
            model, examples, fields, seed=SEED, loss=objective.loss,
            evaluate=lambda: evaluation.masked_lm(model, objective, examples), score=lambda found: -found["loss"],
        )  # fmt: skip
        adapted = evaluation.masked_lm(model, objective, examples)
    moved = {name.removesuffix(".weight") for name, v in model.state_dict().items() if not torch.equal(v, before[name])}
    assert moved == set(target_modules(model, FIELDS))
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert model.config.tie_word_embeddings
    assert evaluation.masked_lm(model, objective, examples)["loss"] == pytest.approx(adapted["loss"], rel=1e-5)


def test_a_masked_lm_head_that_is_new_is_trained_wholly(make_encoder: Callable[..., Path]) -> None:
    model, new = heads.load_masked_lm(make_encoder("bert"))
    assert new
    with adapters(model, FIELDS, new):
        trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name for name in trained if "lora_" not in name} == set(new)


def test_which_layers(make_encoder: Callable[..., Path]) -> None:
    model, *_ = classifier(make_encoder("bert"))
    everything = target_modules(model, Lora(target_modules="all-linear"))
    assert len(everything) == 2 * 6
    assert not any("pooler" in name or "classifier" in name for name in everything)
    assert target_modules(model, Lora(target_modules=["query", "value"])) == [
        f"bert.encoder.layer.{layer}.attention.self.{name}" for layer in (0, 1) for name in ("query", "value")
    ]
    with pytest.raises(UserError) as caught:
        target_modules(model, Lora(target_modules=["query", "Wqkv"]))
    assert str(caught.value) == (
        "lora.target_modules: no linear layer of this `bert` is named `Wqkv`; those of its layers are: query, key, "
        "value, dense"
    )


def test_without_settings_nothing_is_done(make_encoder: Callable[..., Path]) -> None:
    model, *_ = classifier(make_encoder("bert"))
    modules = list(model.modules())
    with adapters(model, None, []) as counted:
        assert counted is None
        assert list(model.modules()) == modules
        assert all(parameter.requires_grad for parameter in model.parameters())
