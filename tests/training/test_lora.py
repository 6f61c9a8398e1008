"""LoRA: trained parameters, merged weights, and parity with peft."""

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
from ftjobs.objectives.compute.mlm import MaskedLMObjective
from ftjobs.training.loop import train
from ftjobs.training.lora import adapters, target_modules
from ftjobs.training.objective import predict_logits
from tests.helpers.families import FAMILIES
from tests.helpers.training import SEED, StepRecorder, ToyObjective, labeled_examples, random_tokens, settings

FIELDS = Lora(rank=2, alpha=6.0)
#: Linear layers in the attention of each of two layers.
PER_LAYER = {"deberta-v2": 4, "modernbert": 2}


def classifier(folder: Path) -> tuple[Any, list[str], list[str]]:
    torch.manual_seed(0)
    model, new = heads.load_classifier(folder, ["a", "b"])
    head = [name for name, _ in model.named_parameters() if name in new or not heads.is_encoder(model, name)]
    return model, new, head


def randomize_adapters(model: Any) -> dict[str, torch.Tensor]:
    """Set adapters, which start at zero, to random values. Returns them by name."""
    torch.manual_seed(1)
    adapters_by_name = {name: p for name, p in model.named_parameters() if "lora_" in name}
    with torch.no_grad():
        for parameter in adapters_by_name.values():
            parameter.copy_(torch.randn_like(parameter) / 4)
    return {name: p.detach().clone() for name, p in adapters_by_name.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_merged_model_equals_adapted_one_and_has_original_modules(
    make_encoder: Callable[..., Path], tmp_path: Path, family: str
) -> None:
    folder = make_encoder(family)
    model, _, head = classifier(folder)
    examples = labeled_examples(family, 20, model.config.vocab_size)
    before, plain = {n: v.clone() for n, v in model.state_dict().items()}, predict_logits(model, examples)
    targets = target_modules(model, FIELDS)
    if family != "albert":  # whose layers share their weights
        assert len(targets) == 2 * PER_LAYER.get(family, 4)
    with adapters(model, FIELDS, head) as counts:
        np.testing.assert_array_equal(predict_logits(model, examples), plain)  # B starts at zero
        trainable = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
        assert {name for name in trainable if "lora_" not in name} == set(head)
        assert counts == {"trained": sum(trainable.values()), "all": sum(v.numel() for v in before.values())}
        low_rank = randomize_adapters(model)
        adapted = predict_logits(model, examples)
    assert np.abs(adapted - plain).max() > 1e-3
    np.testing.assert_allclose(predict_logits(model, examples), adapted, rtol=1e-4, atol=1e-5)
    merged = model.state_dict()
    assert {name: value.shape for name, value in merged.items()} == {n: v.shape for n, v in before.items()}
    for name, value in merged.items():
        target = name.removesuffix(".weight")
        if target not in targets:
            assert torch.equal(value, before[name]), name
            continue
        a, b = (low_rank[f"{target}.lora_{letter}.default.weight"] for letter in "AB")
        torch.testing.assert_close(value, before[name] + 6.0 / 2 * b @ a)
    heads.save(model, checkpoints.load_tokenizer(folder), tmp_path / "model", {})
    again, new = heads.load_classifier(tmp_path / "model", ["a", "b"])
    assert new == []
    np.testing.assert_array_equal(predict_logits(again, examples), predict_logits(model, examples))


def test_training_matches_peft(make_encoder: Callable[..., Path]) -> None:
    """Losses of every step, and the merged weights, with dropout in the adapters."""
    folder = make_encoder("bert")
    fields = settings(lora=Lora(rank=2, alpha=6.0, dropout=0.3), weight_decay=0.1)
    examples = labeled_examples("bert", 40, 50)
    runs = []
    for wrapped in (False, True):
        model, _, head = classifier(folder)
        recorder = StepRecorder()

        def run(trained: Any, recorder: StepRecorder = recorder) -> None:
            train(trained, examples, fields, ToyObjective(), seed=SEED, context=recorder.context)

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
        runs.append((recorder.losses, model.state_dict()))
    assert runs[0][0] == pytest.approx(runs[1][0], rel=1e-5)
    assert len(runs[0][0]) == 10
    for name, value in runs[1][1].items():
        torch.testing.assert_close(runs[0][1][name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_adapters_leave_tied_embeddings_and_masked_lm_head_unchanged(
    make_encoder: Callable[..., Path], tmp_path: Path, family: str
) -> None:
    folder = make_encoder(family, "mlm")
    model, new = heads.load_masked_lm(folder)
    assert new == []
    before = {name: value.clone() for name, value in model.state_dict().items()}
    vocabulary = model.config.vocab_size
    tokens = random_tokens(40, vocabulary, family == "bert")
    examples = MaskedExamples(tokens, SEED, 0.3, mask_token_id=4, vocab_size=vocabulary, pad_token_id=0)
    fields = Adapt(epochs=2, learning_rate=0.01, mixed_precision="bf16")
    objective = MaskedLMObjective(fields, model, new)
    objective.held_out = {"": examples}
    with adapters(model, FIELDS, new):
        train(model, examples, fields, objective, seed=SEED)
        adapted = objective.evaluate()
    moved = {name.removesuffix(".weight") for name, v in model.state_dict().items() if not torch.equal(v, before[name])}
    assert moved == set(target_modules(model, FIELDS))
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert model.config.tie_word_embeddings
    assert objective.evaluate()["loss"] == pytest.approx(adapted["loss"], rel=1e-5)


def test_new_masked_lm_head_is_fully_trained(make_encoder: Callable[..., Path]) -> None:
    model, new = heads.load_masked_lm(make_encoder("bert"))
    assert new
    with adapters(model, FIELDS, new):
        trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name for name in trained if "lora_" not in name} == set(new)


def test_target_modules_select_linear_layers(make_encoder: Callable[..., Path]) -> None:
    model, *_ = classifier(make_encoder("bert"))
    everything = target_modules(model, Lora(target_modules="all-linear"))
    assert len(everything) == 2 * 6
    assert not any("pooler" in name or "classifier" in name for name in everything)
    assert target_modules(model, Lora(target_modules=["query", "value"])) == [
        f"bert.encoder.layer.{layer}.attention.self.{name}" for layer in (0, 1) for name in ("query", "value")
    ]
    with pytest.raises(UserError) as caught:
        target_modules(model, Lora(target_modules=["query", "Wqkv"]))
    assert str(caught.value).startswith("lora.target_modules: ")
    assert "`Wqkv`" in str(caught.value)
    assert str(caught.value).endswith(": query, key, value, dense")


def test_no_settings_no_adapters(make_encoder: Callable[..., Path]) -> None:
    model, *_ = classifier(make_encoder("bert"))
    modules = list(model.modules())
    with adapters(model, None, []) as counts:
        assert counts is None
        assert list(model.modules()) == modules
        assert all(parameter.requires_grad for parameter in model.parameters())
