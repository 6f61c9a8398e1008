"""Frozen encoders run in eval mode and once, unless `encoder_dropout` is set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftjobs.training import features
from tests.helpers.pipelines import job_fields, run_job


def encoder_passes(
    make_encoder: Callable[..., Path], folder: Path, monkeypatch: pytest.MonkeyPatch, **stage: Any
) -> list[tuple[bool, bool, int]]:
    """Return per forward pass of the encoder in a classify stage: head in training mode, encoder in training mode, rows."""
    from ftjobs.models import heads

    passes: list[tuple[bool, bool, int]] = []
    load = heads.load_classifier

    def load_watched(*arguments: Any) -> Any:
        model, new = load(*arguments)

        def watch(encoder: Any, positional: Any, named: Any, output: Any) -> None:
            dropouts = {module.training for name, module in encoder.named_modules() if "dropout" in name}
            assert len(dropouts) == 1
            passes.append((model.classifier.training, dropouts.pop(), len(output.last_hidden_state)))

        model.base_model.register_forward_hook(watch, with_kwargs=True)
        return model, new

    monkeypatch.setattr(heads, "load_classifier", load_watched)
    fields = job_fields(make_encoder("bert"), hypotheses=[])
    fields["stages"] = {"head": {"kind": "classify", "freeze_encoder": True, "epochs": 3, **stage}}
    run_job(folder, fields, folder / "store")
    return passes


def test_frozen_encoder_runs_once_in_eval_mode(
    make_encoder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = encoder_passes(make_encoder, tmp_path, monkeypatch)
    assert {in_training for _, in_training, _ in passes} == {False}
    tried, features_of_all, published_model = 2 * 8, 72 + 18, 18
    assert sum(rows for *_, rows in passes) == tried + features_of_all + published_model  # and not once per epoch


def test_frozen_encoder_without_feature_cache_runs_in_eval_mode(
    make_encoder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "supports_feature_cache", lambda *_: False)
    passes = encoder_passes(make_encoder, tmp_path, monkeypatch)
    assert {in_training for _, in_training, _ in passes} == {False}
    assert sum(rows for head_in_training, _, rows in passes if head_in_training) == 3 * 72


def test_encoder_dropout_runs_encoder_in_training_mode(
    make_encoder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = encoder_passes(make_encoder, tmp_path, monkeypatch, encoder_dropout=True)
    assert sum(rows for _, in_training, rows in passes if in_training) == 3 * 72
    assert {head for head, in_training, _ in passes if in_training} == {True}
