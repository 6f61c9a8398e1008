"""Heads: weights of a checkpoint are kept, and newly initialized weights are never frozen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertForPreTraining,
)

from ftjobs.errors import UserError
from ftjobs.models import checkpoints, heads
from tests.helpers.families import FAMILIES

CLASSES = ["no", "yes", "maybe"]


@pytest.mark.parametrize("head", ["base", "mlm"])
@pytest.mark.parametrize("family", FAMILIES)
def test_frozen_parameters_are_not_randomly_initialized(
    make_encoder: Callable[..., Path], family: str, head: str
) -> None:
    """Loaded with two seeds, frozen parameters are bit-identical, so they are from the checkpoint."""
    folder = make_encoder(family, head)
    models = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model, new = heads.load_classifier(folder, CLASSES)
        heads.freeze_encoder(model, new)
        models.append(model)
    frozen = {name: parameter for name, parameter in models[0].named_parameters() if not parameter.requires_grad}
    assert len(frozen) > 10
    other = dict(models[1].named_parameters())
    for name, parameter in frozen.items():
        assert torch.equal(parameter, other[name]), name
    trained_matrices = [p for p in models[0].parameters() if p.requires_grad and p.ndim == 2]
    assert trained_matrices
    stored = set(checkpoints.read_weights(folder))
    prefix = models[0].base_model_prefix
    assert all(name in stored or name.removeprefix(f"{prefix}.") in stored for name in frozen)


@pytest.mark.parametrize("family", ["bert", "albert"])
def test_pooler_of_checkpoint_is_frozen_and_new_pooler_is_trained(
    make_encoder: Callable[..., Path], family: str
) -> None:
    for head, pooler_is_new in (("base", False), ("mlm", True)):
        model, new = heads.load_classifier(make_encoder(family, head), CLASSES)
        heads.freeze_encoder(model, new)
        poolers = {name: p.requires_grad for name, p in model.named_parameters() if ".pooler" in name}
        assert len(poolers) == 2
        assert set(poolers.values()) == {pooler_is_new}
        assert ("pooler" in heads.new_modules(new)) == pooler_is_new


@pytest.mark.parametrize("family", FAMILIES)
def test_saving_masked_lm_keeps_every_weight(make_encoder: Callable[..., Path], family: str, tmp_path: Path) -> None:
    """Load for masked LM, save, and load again: the encoder with its pooler is unchanged."""
    folder = make_encoder(family, "base")
    model, _ = heads.load_masked_lm(folder)
    tokenizer = checkpoints.load_tokenizer(folder)
    heads.save(model, tokenizer, tmp_path / "model", heads.extra_weights(model, folder))
    before, after = checkpoints.read_weights(folder), checkpoints.read_weights(tmp_path / "model")
    prefix = f"{model.base_model_prefix}."
    for name, value in before.items():
        assert torch.equal(after[prefix + name], value), name
    again, new = heads.load_masked_lm(tmp_path / "model")
    assert new == []
    for name, parameter in again.named_parameters():
        assert torch.equal(parameter, model.get_parameter(name)), name


def test_saving_masked_lm_keeps_next_sentence_head(make_encoder: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_encoder("bert", "pretraining")
    model, new = heads.load_masked_lm(folder)
    assert new == []
    beyond = heads.extra_weights(model, folder)
    assert {name.rpartition(".")[0] for name in beyond} == {"bert.pooler.dense", "cls.seq_relationship"}
    heads.save(model, checkpoints.load_tokenizer(folder), tmp_path / "model", beyond)
    again, loading = BertForPreTraining.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not loading["missing_keys"]
    assert torch.equal(again.cls.seq_relationship.weight, beyond["cls.seq_relationship.weight"])


def test_tied_weights_stay_tied(make_encoder: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_encoder("bert", "pretraining")
    model, _ = heads.load_masked_lm(folder)
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight.mul_(2.0)
    heads.save(model, checkpoints.load_tokenizer(folder), tmp_path / "model", heads.extra_weights(model, folder))
    again = AutoModelForMaskedLM.from_pretrained(tmp_path / "model")
    assert again.cls.predictions.decoder.weight is again.bert.embeddings.word_embeddings.weight
    assert torch.equal(again.cls.predictions.decoder.weight, model.bert.embeddings.word_embeddings.weight)


def test_weights_load_in_fp32(make_encoder: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_encoder("bert", "mlm")
    half = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.bfloat16)
    heads.save(half, checkpoints.load_tokenizer(folder), tmp_path / "half", {})
    for model, _ in (heads.load_masked_lm(tmp_path / "half"), heads.load_classifier(tmp_path / "half", CLASSES)):
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_class_names_are_saved_with_the_model(make_encoder: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_encoder("bert")
    model, _ = heads.load_classifier(folder, CLASSES)
    heads.save(model, checkpoints.load_tokenizer(folder), tmp_path / "model", {})
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    assert again.config.id2label == {0: "no", 1: "yes", 2: "maybe"}
    assert again.config.label2id == {"no": 0, "yes": 1, "maybe": 2}
    assert again.config.architectures == ["BertForSequenceClassification"]


@pytest.mark.parametrize(
    ("classes", "kept"), [(CLASSES, True), (["a", "b", "c"], False), (["no", "yes"], False), ([*CLASSES, "x"], False)]
)
def test_head_is_kept_for_the_same_classes(
    make_encoder: Callable[..., Path], tmp_path: Path, classes: list[str], kept: bool
) -> None:
    folder = make_encoder("bert")
    first, _ = heads.load_classifier(folder, CLASSES)
    heads.save(first, checkpoints.load_tokenizer(folder), tmp_path / "model", {})
    second, new = heads.load_classifier(tmp_path / "model", classes)
    assert second.classifier.out_features == len(classes)
    assert (new == []) == kept
    if kept:
        assert torch.equal(second.classifier.weight, first.classifier.weight)
    else:
        assert new == ["classifier.bias", "classifier.weight"]
        shared = min(len(classes), len(CLASSES))
        assert not torch.equal(second.classifier.weight[:shared], first.classifier.weight[:shared])
    assert torch.equal(second.bert.pooler.dense.weight, first.bert.pooler.dense.weight)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("classes", [CLASSES[::-1], ["a", "b", "c"], ["no", "yes"]])
def test_head_for_other_classes_is_reinitialized(
    make_encoder: Callable[..., Path], tmp_path: Path, family: str, classes: list[str]
) -> None:
    """The same names in another order, as many other names, fewer: no parameter of the old head remains."""
    folder = make_encoder(family)
    first, _ = heads.load_classifier(folder, CLASSES)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(1.0)  # nothing that initialisation could come out as
    heads.save(first, checkpoints.load_tokenizer(folder), tmp_path / "model", {})
    second, new = heads.load_classifier(tmp_path / "model", classes)
    head = {name for name, _ in second.named_parameters() if not heads.is_encoder(second, name)}
    assert set(new) == head
    for name, parameter in second.named_parameters():
        before = first.get_parameter(name)
        if name in head:
            assert parameter.shape != before.shape or not torch.isclose(parameter, before).any(), name
        else:
            assert torch.equal(parameter, before), name


@pytest.mark.parametrize("trained_for", ["regression", "multi_label_classification"])
def test_head_of_another_architecture_is_reinitialized(
    make_encoder: Callable[..., Path], tmp_path: Path, trained_for: str
) -> None:
    folder = make_encoder("bert")
    first, _ = heads.load_classifier(folder, CLASSES)
    first.config.problem_type = trained_for
    heads.save(first, checkpoints.load_tokenizer(folder), tmp_path / "model", {})
    second, new = heads.load_classifier(tmp_path / "model", CLASSES)
    assert new == ["classifier.bias", "classifier.weight"]
    assert not torch.equal(second.classifier.weight, first.classifier.weight)
    assert second.config.problem_type == "single_label_classification"


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        (("float", ["score"]), ("float", ["score"]), True),
        (("float", ["score"]), ("float", ["price"]), False),
        (("float", ["score"]), ("class", ["no", "yes"]), False),
        (("class", CLASSES), ("float", ["score"]), False),
        (("class", CLASSES), ("multi", CLASSES), False),
        (("multi", CLASSES), ("multi", CLASSES), True),
        (("multi", CLASSES), ("class", CLASSES), False),
    ],
)
def test_head_is_kept_for_the_same_label_type(
    make_encoder: Callable[..., Path], tmp_path: Path, first: Any, second: Any, kept: bool
) -> None:
    before, _ = heads.load_classifier(make_encoder("bert"), first[1], first[0])
    heads.save(before, checkpoints.load_tokenizer(make_encoder("bert")), tmp_path / "model", {})
    assert heads.label_type_of(checkpoints.load_config(tmp_path / "model")) == first[0]
    after, new = heads.load_classifier(tmp_path / "model", second[1], second[0])
    assert after.classifier.out_features == len(second[1])
    assert (new == []) == kept
    assert kept == (
        after.classifier.weight.shape == before.classifier.weight.shape
        and torch.equal(after.classifier.weight, before.classifier.weight)
    )
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    assert again.config.num_labels == len(first[1])


def test_token_classification_head_is_reinitialized(make_encoder: Callable[..., Path], tmp_path: Path) -> None:
    """Its parameters have the same names."""
    folder = make_encoder("bert")
    config = checkpoints.load_config(folder)
    config.id2label = dict(enumerate(CLASSES))
    tokens = AutoModelForTokenClassification.from_pretrained(folder, config=config)
    heads.save(tokens, checkpoints.load_tokenizer(folder), tmp_path / "model", {})
    model, new = heads.load_classifier(tmp_path / "model", CLASSES)
    assert {"classifier.bias", "classifier.weight"} <= set(new)
    assert not torch.equal(model.classifier.weight, tokens.classifier.weight)


def test_class_names_are_ordered_by_index(make_encoder: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_encoder("bert")
    first, _ = heads.load_classifier(folder, CLASSES)
    heads.save(first, checkpoints.load_tokenizer(folder), tmp_path / "model", {})
    written = json.loads((tmp_path / "model/config.json").read_text())
    written["id2label"] = dict(reversed(written["id2label"].items()))
    (tmp_path / "model/config.json").write_text(json.dumps(written))
    assert checkpoints.class_names(checkpoints.load_config(tmp_path / "model")) == CLASSES
    assert heads.load_classifier(tmp_path / "model", CLASSES)[1] == []


def test_weights_of_another_encoder_raise(make_encoder: Callable[..., Path], tmp_path: Path) -> None:
    """A checkpoint without matching names or shapes would silently train from scratch."""
    folder = make_encoder("bert")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    weights = {f"renamed.{name}": value for name, value in checkpoints.read_weights(folder).items()}
    checkpoints.write_weights(weights, tmp_path)
    for load in (heads.load_masked_lm, lambda path: heads.load_classifier(path, CLASSES)):
        with pytest.raises(UserError, match=r"\d+ of its \d+ encoder weights"):
            load(tmp_path)
