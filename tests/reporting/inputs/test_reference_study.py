"""The published figures stand beside a job that repeats the study, whatever it is called, and beside no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ftjobs.jobfile.read import read
from ftjobs.reporting.inputs import reference_study
from tests.helpers.published import Pipeline, guesses

JOB = Path(__file__).parents[3] / "jobs/medical-questions.yaml"
FOUR = dict.fromkeys(("head", "behavioural", "adapted-head", "adapted-behavioural"), guesses(0.7))


def study(folder: Path, overrides: list[str] | None = None, **changes: Any) -> Pipeline:
    job = read(JOB, overrides or []).model_dump(exclude_unset=True)
    stages, defaults = job.pop("stages"), job.pop("defaults")
    encoder = {"model": "google-bert/bert-base-cased", "revision": "main", "commit": "beef"}
    seen = {"text_columns": ["question_1", "question_2"], "split": read(JOB, overrides or []).data.split.model_dump()}
    return Pipeline(
        folder, FOUR, test=214, train=2834, validation=0,
        **{**job, "stages": stages, "defaults": defaults, "seen": {"encoder": encoder, **seen}, **changes},
    )  # fmt: skip


def test_the_study_is_recognised_under_any_name(tmp_path: Path) -> None:
    evidence = study(tmp_path, name="another").evidence()
    found = reference_study.published(evidence)
    assert {stage: (one["accuracy"], one["best_epoch"]) for stage, one in found.items()} == {
        "head": (0.6822, 8),
        "behavioural": (0.8224, 4),
        "adapted-head": (0.6963, 5),
        "adapted-behavioural": (0.8505, 5),
    }
    assert reference_study.encoder_differs(evidence) is None


def test_another_encoder_is_named(tmp_path: Path) -> None:
    seen = {
        "encoder": {"folder": "bert-tiny-mlm", "sha256": "00"},
        "text_columns": ["question_1", "question_2"],
        "split": read(JOB).data.split.model_dump(),
    }
    evidence = study(tmp_path, seen=seen).evidence()
    assert len(reference_study.published(evidence)) == 4
    assert reference_study.encoder_differs(evidence) == "bert-tiny-mlm"


@pytest.mark.parametrize(
    ("override", "left"),
    [
        ("stages.head.epochs=7", {"behavioural", "adapted-head", "adapted-behavioural"}),
        ("stages.adapt.learning_rate=2e-5", {"head", "behavioural"}),
        ("defaults.classify.per_device_batch_size=16", set()),
        ("data.split.seed=43", set()),
        ("data.split.group_by=connected", set()),
    ],
)
def test_a_changed_setting_takes_the_figures_away(tmp_path: Path, override: str, left: set[str]) -> None:
    assert set(reference_study.published(study(tmp_path, [override]).evidence())) == left


def test_other_data_with_the_same_settings_has_none(tmp_path: Path) -> None:
    assert reference_study.published(study(tmp_path, seen={"rows": {"train": 2834, "test": 215}}).evidence()) == {}
