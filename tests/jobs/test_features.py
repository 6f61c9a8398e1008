"""`jobs/features/`: every setting has a small job file that is valid and runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ftjobs
from ftjobs.execution import runner
from ftjobs.jobfile.fields import Adapt, Classify, Corpus, Data, Lora, Replace, Split, Streaming, Vocabulary
from ftjobs.plan import plan
from ftjobs.storage import open_storage
from tests.helpers import feature_data

FEATURES = Path(__file__).parents[2] / "jobs" / "features"
FILES = sorted(FEATURES.glob("*.yaml"))
NAMES = [path.stem for path in FILES]
#: Jobs for checkpoints of a family that the scratch encoder does not belong to.
FAMILIES = {"sentence_order": "albert", "replaced_tokens": "electra"}
#: Fields of data sets on the hub, which a test without a network cannot read.
OF_THE_HUB = {"revision", "config"}


def keys(node: Any) -> Iterator[str]:
    """Every key of nested mappings, and the keys within lists."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield key
            yield from keys(value)
    if isinstance(node, list):
        for value in node:
            yield from keys(value)


def test_data_files_are_those_of_the_generator() -> None:
    expected = feature_data.files()
    actual = {
        path.relative_to(FEATURES).as_posix(): path.read_text()
        for path in FEATURES.rglob("*")
        if path.is_file() and path.suffix != ".yaml"
    }
    assert actual == expected


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_feature_job_is_valid_and_short(path: Path) -> None:
    text = path.read_text()
    job = ftjobs.load(path)
    assert job.name == path.stem.replace("_", "-")
    assert text.startswith("# ")
    assert len(text.splitlines()) <= 30
    runs = plan(job)
    assert {run.stage for run in runs} >= {"prepare", "report", *job.stages}


def test_every_setting_has_a_feature_job() -> None:
    used = {key for path in FILES for key in keys(ftjobs.load(path).model_dump(exclude_unset=True))}
    settings = {
        name
        for model in (Adapt, Classify, Corpus, Data, Lora, Replace, Split, Streaming, Vocabulary)
        for name in model.model_fields
    }
    assert settings - used - OF_THE_HUB == set()


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_feature_job_runs(
    path: Path, tmp_path: Path, make_encoder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One epoch of every stage on few rows; `tests/reporting` and `tests/stages` have the reports."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    job = ftjobs.load(path)
    few: dict[str, Any] = {f"stages.{name}.epochs": 1 for name in job.stages}
    if str(job.data.source).endswith("quickstart.csv"):
        few["data.split.test_fraction"] = 0.95
    if family := FAMILIES.get(path.stem):
        few["encoder.model"] = str(make_encoder(family))
    runs = [run for run in plan(ftjobs.load(path, set=few)) if run.kind != "report"]
    manifests = runner.run_all(runs, open_storage(str(tmp_path)))
    trained = {run.stage: manifest for run, manifest in zip(runs, manifests, strict=True) if run.has_seed}
    assert trained.keys() == job.stages.keys()
    for stage, manifest in trained.items():
        assert manifest.metrics["best_epoch"] == 1, stage
