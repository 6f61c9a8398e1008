"""Stages that train a part of the encoder, or parts of it differently: what they publish, and say of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ftjobs.models import checkpoints
from tests.stages.test_pipeline import files_of, job_fields, run_job


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, make_encoder: Callable[..., Path]) -> Any:
    """A finished pipeline: storage and manifests."""
    folder = tmp_path_factory.mktemp("tuned")
    fields = job_fields(make_encoder("bert", "pretraining"), hypotheses=[])
    fields["stages"] = {
        "top": {"kind": "classify", "unfreeze": "last-1", "layer_decay": 0.8, "reinitialise_layers": 1},
        "plain": {"kind": "classify"},
    }
    return run_job(folder, fields, folder / "store")


def weights(storage: Any, manifest: Any) -> dict[str, torch.Tensor]:
    return checkpoints.read_weights(storage.root / manifest.folder / "model")


def test_layers_that_were_frozen_are_published_bit_for_bit(tuned: Any) -> None:
    storage, manifests = tuned
    given, found = (weights(storage, manifests[title]) for title in ("prepare", "top seed 1"))
    same = {name for name, value in found.items() if name in given and torch.equal(value, given[name])}
    assert same == {name for name in found if name.startswith(("bert.embeddings", "bert.encoder.layer.0"))}


def test_what_was_trained_is_counted_in_metrics_card_and_report(tuned: Any) -> None:
    storage, manifests = tuned
    found = weights(storage, manifests["top seed 1"])
    frozen = sum(v.numel() for n, v in found.items() if n.startswith(("bert.embeddings", "bert.encoder.layer.0")))
    total = sum(value.numel() for value in found.values())
    files = files_of(storage, manifests["top seed 1"])
    assert json.loads(files["metrics.json"])["parameters"] == {"trained": total - frozen, "all": total}
    card = files["model/README.md"].decode()
    assert f"Of the model's {total:,} parameters, {total - frozen:,} were trained." in card
    assert "fine-tuned in its highest layer, after new weights for the highest layer on" in card
    report = files_of(storage, manifests["report"])["report.md"].decode()
    assert f"Parameters trained: `top` {total - frozen:,} of {total:,}." in report
    assert "parameters" not in json.loads(files_of(storage, manifests["plain seed 1"])["metrics.json"])
