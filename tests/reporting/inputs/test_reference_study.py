"""Published results of the reference study are given for jobs that repeat it, and for no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ftjobs.jobfile.read import read
from ftjobs.reporting.inputs.reference_study import other_encoder, published_results
from tests.helpers.published import Pipeline, guesses

JOB = Path(__file__).parents[3] / "jobs/medical-questions.yaml"
FOUR = dict.fromkeys(("head", "behavioural", "adapted-head", "adapted-behavioural"), guesses(0.7))


def study(folder: Path, overrides: list[str] | None = None, **summary_changes: Any) -> Pipeline:
    """Return the reference experiment, with changes to the job file and to `prepare`'s summary."""
    job = read(JOB, overrides or []).model_dump(exclude_unset=True)
    stages, defaults = job.pop("stages"), job.pop("defaults")
    encoder = {"model": "google-bert/bert-base-cased", "revision": "main", "commit": "beef"}
    split = read(JOB, overrides or []).data.split.model_dump()
    summary = {"encoder": encoder, "text_columns": ["question_1", "question_2"], "split": split}
    return Pipeline(
        folder, FOUR, test=214, train=2834, validation=0,
        **{**job, "stages": stages, "defaults": defaults, "summary": {**summary, **summary_changes}},
    )  # fmt: skip


def test_study_is_recognized(tmp_path: Path) -> None:
    evidence = study(tmp_path, ["name=another"]).evidence()
    results = published_results(evidence)
    assert {stage: (result.accuracy, result.best_epoch) for stage, result in results.items()} == {
        "head": (0.6822, 8),
        "behavioural": (0.8224, 4),
        "adapted-head": (0.6963, 5),
        "adapted-behavioural": (0.8505, 5),
    }
    assert other_encoder(evidence) is None


def test_other_encoder_is_named(tmp_path: Path) -> None:
    evidence = study(tmp_path, encoder={"folder": "bert-tiny-mlm", "sha256": "00"}).evidence()
    assert len(published_results(evidence)) == 4
    assert other_encoder(evidence) == "bert-tiny-mlm"


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
def test_changed_settings_have_no_published_results(tmp_path: Path, override: str, left: set[str]) -> None:
    assert set(published_results(study(tmp_path, [override]).evidence())) == left


def test_other_data_has_no_published_results(tmp_path: Path) -> None:
    assert published_results(study(tmp_path, rows={"train": 2834, "test": 215}).evidence()) == {}
