"""Stages with layer-wise training, class weights, early stopping or LoRA: artifacts, cards and report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import log_loss
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from ftjobs.data import prepared
from ftjobs.models import checkpoints
from tests.helpers.messages import mentions
from tests.helpers.pipelines import files_of, job_fields, run_job


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, make_encoder: Callable[..., Path]) -> Any:
    """Run a pipeline. Returns storage and manifests."""
    folder = tmp_path_factory.mktemp("tuned")
    fields = job_fields(make_encoder("bert", "pretraining"), hypotheses=[])
    fields["stages"] = {
        "top": {"kind": "classify", "unfreeze": "last-1", "layer_decay": 0.8, "reinitialise_layers": 1},
        "weighted": {
            "kind": "classify", "class_weights": {"cold": 2.0}, "label_smoothing": 0.3, "early_stopping": 1, "epochs": 9,
            "learning_rate": 0.02,
        },
        "plain": {"kind": "classify"},
        "low-rank": {"kind": "classify", "lora": {"rank": 2}, "learning_rate": 0.01},
        "low-rank-adapt": {"kind": "adapt", "lora": {"rank": 2}, "learning_rate": 0.01, "early_stopping": 3},
        "after": {"kind": "classify", "encoder": "low-rank-adapt", "freeze_encoder": True},
    }  # fmt: skip
    return run_job(folder, fields, folder / "store")


def weights(storage: Any, manifest: Any) -> dict[str, torch.Tensor]:
    return checkpoints.read_weights(storage.root / manifest.folder / "model")


def test_frozen_layers_are_unchanged(tuned: Any) -> None:
    storage, manifests = tuned
    original, trained = (weights(storage, manifests[title]) for title in ("prepare", "top seed 1"))
    same = {name for name, value in trained.items() if name in original and torch.equal(value, original[name])}
    assert same == {name for name in trained if name.startswith(("bert.embeddings", "bert.encoder.layer.0"))}


def test_metrics_card_and_report_count_trained_parameters(tuned: Any) -> None:
    storage, manifests = tuned
    trained = weights(storage, manifests["top seed 1"])
    frozen = sum(v.numel() for n, v in trained.items() if n.startswith(("bert.embeddings", "bert.encoder.layer.0")))
    total = sum(value.numel() for value in trained.values())
    files = files_of(storage, manifests["top seed 1"])
    assert json.loads(files["metrics.json"])["parameters"] == {"trained": total - frozen, "all": total}
    card = files["model/README.md"].decode()
    assert f"Trained {total - frozen:,} of {total:,} parameters." in card
    assert mentions(card, "in its top layer", "reinitialization")
    report = files_of(storage, manifests["report"])["report.md"].decode()
    assert f"`top` {total - frozen:,} of {total:,}" in report
    assert "parameters" not in json.loads(files_of(storage, manifests["plain seed 1"])["metrics.json"])


def test_class_weights_and_smoothing_affect_training_only(tuned: Any) -> None:
    storage, manifests = tuned
    manifest = manifests["weighted seed 1"]
    assert manifest.metrics["class_weights"] == {"cold": 2.0, "fever": 1.0, "rash": 1.0}
    rows = pq.read_table(storage.root / manifest.folder / "predictions.parquet").to_pydict()
    expected = log_loss(rows["label"], rows["probabilities"], labels=["cold", "fever", "rash"])
    assert manifest.metrics["loss"] == pytest.approx(expected, rel=1e-5)
    card = files_of(storage, manifest)["model/README.md"].decode()
    assert mentions(card, "Class weights", "`cold` 2", "`fever` 1", "`rash` 1")
    assert "| `label_smoothing` | `0.3` |" in card


def test_early_stopping_is_reported_with_epochs(tuned: Any) -> None:
    storage, manifests = tuned
    manifest = manifests["weighted seed 1"]
    run, best = manifest.metrics["epochs_run"], manifest.metrics["best_epoch"]
    assert run == best + 1 < 9
    files = files_of(storage, manifest)
    assert len(json.loads(files["metrics.json"])["epochs"]) == run
    card = files["model/README.md"].decode()
    assert mentions(card, f"epoch {best} of {run}", "of 9", "early stopping")
    report = files_of(storage, manifests["report"])["report.md"].decode()
    assert f"`weighted` after epoch {run} of 9" in report


def test_lora_publishes_models_of_the_usual_form(tuned: Any) -> None:
    storage, manifests = tuned
    original = weights(storage, manifests["prepare"])
    plain, trained = (weights(storage, manifests[f"{stage} seed 1"]) for stage in ("plain", "low-rank"))
    assert {name: value.shape for name, value in trained.items()} == {name: v.shape for name, v in plain.items()}
    moved = {name for name, value in trained.items() if name in original and not torch.equal(value, original[name])}
    assert moved == {name for name in original if "bert.encoder.layer" in name and "attention" in name and moves(name)}
    adapted = weights(storage, manifests["low-rank-adapt seed 1"])
    assert adapted.keys() == original.keys()  # pooler, next-sentence and masked-LM head among them
    assert {name for name, value in adapted.items() if not torch.equal(value, original[name])} == moved


def moves(name: str) -> bool:
    return name.endswith(".weight") and "LayerNorm" not in name


def test_metrics_and_predictions_are_those_of_the_merged_model(tuned: Any) -> None:
    """Loaded with transformers alone."""
    storage, manifests = tuned
    folder = storage.root / manifests["low-rank seed 1"].folder
    model = AutoModelForSequenceClassification.from_pretrained(folder / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    data = prepared.read(storage.root / manifests["prepare"].folder / "data")
    test = data.splits["test"]
    rows = pq.read_table(folder / "predictions.parquet").to_pydict()
    inputs = tokenizer(list(test.texts), list(test.pairs), padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = model(**inputs).logits.double().softmax(-1)
    np.testing.assert_allclose(np.array(rows["probabilities"]), expected.numpy(), atol=1e-5)
    metrics = manifests["low-rank-adapt seed 1"].metrics
    assert metrics["best"]["loss"] < metrics["before"]["loss"]
    epochs = json.loads(files_of(storage, manifests["low-rank-adapt seed 1"])["metrics.json"])["epochs"]
    assert metrics["best"]["loss"] == pytest.approx(epochs[metrics["best_epoch"] - 1]["loss"], rel=1e-5)


def test_lora_parameters_are_counted_and_named(tuned: Any) -> None:
    storage, manifests = tuned
    manifest = manifests["low-rank seed 1"]
    counted = manifest.metrics["parameters"]
    adapters, head = 2 * 4 * (2 * 32 + 2 * 32), 3 * 32 + 3
    assert counted["trained"] == adapters + head
    card = files_of(storage, manifest)["model/README.md"].decode()
    assert "LoRA of rank 2" in card
    assert f"Trained {counted['trained']:,} of {counted['all']:,} parameters" in card
    assert manifest.environment["peft"]
    assert "peft" not in manifests["plain seed 1"].environment
    adapted = manifests["low-rank-adapt seed 1"]
    assert adapted.metrics["parameters"]["trained"] == adapters
    adapted_card = files_of(storage, adapted)["model/README.md"].decode()
    assert mentions(adapted_card, "masked language modeling", "LoRA of rank 2")
    report = files_of(storage, manifests["report"])["report.md"].decode()
    assert "`low-rank-adapt` after epoch" not in report  # early stopping did not apply
    for stage, metrics in (("low-rank", manifest.metrics), ("low-rank-adapt", adapted.metrics)):
        assert f"`{stage}` {metrics['parameters']['trained']:,} of {metrics['parameters']['all']:,}" in report
