"""The reference experiment on the real data, with a small pretrained encoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import datasets
import pyarrow.parquet as pq
import pytest

from ftjobs.execution import runner
from ftjobs.jobfile.fields import Classify
from ftjobs.jobfile.read import read
from ftjobs.plan import plan
from ftjobs.storage import open_storage

ROOT = Path(__file__).parents[2]
JOB = ROOT / "jobs/medical-questions.yaml"


def overrides(shared: Path) -> list[str]:
    return [
        f"data.source={shared}/data/medical_question_pairs.csv",
        f"encoder.model={shared}/models/bert-tiny-mlm",
    ]


@pytest.mark.shared
def test_split_equals_that_of_the_study(shared: Path, tmp_path: Path) -> None:
    runs = plan(read(JOB, overrides(shared)))
    storage = open_storage(str(tmp_path))
    manifest = runner.run_stage(runs[0], storage)
    assert manifest.metrics["rows"] == {"train": 2834, "test": 214}
    folder = tmp_path / manifest.folder / "data"
    rows = datasets.load_dataset("csv", data_files=f"{shared}/data/medical_question_pairs.csv", split="train",
                                 cache_dir=str(tmp_path / "cache"))  # fmt: skip
    for name, expected in rows.train_test_split(test_size=0.07, seed=42).items():
        split = pq.read_table(folder / f"{name}.parquet").to_pydict()
        assert split["text"] == expected["question_1"][:]
        assert split["text_pair"] == expected["question_2"][:]
        assert split["label"] == expected["label"][:]
    assert manifest.metrics["overlap"]["test"]["rows_in_training"] == 210


@pytest.mark.shared
@pytest.mark.slow
def test_adaptation_lowers_held_out_loss_and_every_stage_publishes(
    shared: Path, tmp_path: Path, make_encoder: Callable[..., Path]
) -> None:
    """One epoch of each stage on all the data."""
    short = ["defaults.adapt.epochs=1", "defaults.classify.epochs=1"]
    manifests = runner.run_all(plan(read(JOB, overrides(shared) + short)), open_storage(str(tmp_path)))
    kinds = [manifest.kind for manifest in manifests]
    assert kinds == ["prepare", "adapt", "classify", "classify", "classify", "classify", "report"]
    adapted = manifests[1].metrics
    assert adapted["texts"] == 5668
    assert adapted["best"]["loss"] < adapted["before"]["loss"] - 1.0


def test_adaptation_job_evaluates_every_encoder_frozen_and_fine_tuned() -> None:
    job = read(ROOT / "jobs" / "medical-adaptation.yaml")
    evaluated: dict[str | None, list[bool]] = {}
    for name in job.stages:
        settings = job.stage(name)
        if isinstance(settings, Classify):
            evaluated.setdefault(settings.encoder, []).append(settings.freeze_encoder)
    assert evaluated == {
        encoder: [True, False] for encoder in (None, "task", "corpus", "both", "both-words", "both-vocab")
    }
    assert len(job.seeds) == 5


@pytest.mark.shared
def test_adaptation_job_plans_its_corpora(shared: Path) -> None:
    stages = {run.stage for run in plan(read(ROOT / "jobs" / "medical-adaptation.yaml"))}
    assert {"corpus-corpus", "corpus-vocab", "both-vocab"} <= stages
