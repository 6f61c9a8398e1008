"""The Python API: `import ftjobs` is instant, and its functions return what the commands print."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import ftjobs
from ftjobs.cli import app
from ftjobs.errors import InputsNotPublished, UserError
from ftjobs.jobfile.fields import Job

ROOT = Path(__file__).parents[1]
QUICKSTART = ROOT / "jobs" / "quickstart.yaml"
FEW_STEPS = {
    "seeds": [1, 2],
    "data.split": {"test_fraction": 0.9, "validation_fraction": 0.2, "seed": 42},
    "encoder.scratch.vocab_size": 200,
    "stages": {"adapt": {"kind": "adapt", "epochs": 1}, "head": {"kind": "classify", "encoder": "adapt", "epochs": 1}},
    "hypotheses": [],
}


@pytest.fixture(scope="module")
def job() -> Job:
    return ftjobs.load(QUICKSTART, set=FEW_STEPS)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def report(job: Job, store: str) -> ftjobs.Report:
    return ftjobs.run(job, store=store)


def test_import_loads_nothing_slow() -> None:
    code = "import sys, ftjobs; print(*(name for name in sys.modules if '.' not in name))"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "ftjobs" in modules
    assert not {"torch", "transformers", "datasets", "boto3", "numpy", "pydantic", "yaml", "typer"} & set(modules)


def test_load_applies_overrides_of_every_type() -> None:
    job = ftjobs.load(
        str(QUICKSTART),
        set={"seeds": [7], "stages.head.learning_rate": 1e-5, "defaults.adapt.mixed_precision": "no", "data.source": QUICKSTART.with_suffix(".csv")},
    )  # fmt: skip
    assert job.seeds == [7]
    assert job.stage("head").learning_rate == 1e-5
    assert job.stage("adapt").mixed_precision == "no"
    assert job.data.source == str(QUICKSTART.with_suffix(".csv"))


def test_load_names_the_override_that_is_wrong() -> None:
    with pytest.raises(UserError, match=r"stages\.head\.epoch=3.*`epochs`"):
        ftjobs.load(QUICKSTART, set={"stages.head.epoch": 3})


def test_report_has_headline_recommendation_and_strategies(report: ftjobs.Report) -> None:
    assert f"**{report.headline}**" in report.markdown
    assert str(report) == report.markdown
    (strategy,) = report.strategies
    assert (strategy.stage, strategy.metric) == ("head", "accuracy")
    assert set(strategy.by_seed) == {1, 2}
    assert strategy.mean == pytest.approx(sum(strategy.by_seed.values()) / 2)
    assert strategy.interval[0] <= strategy.mean <= strategy.interval[1]
    recommended = report.recommendation
    assert recommended.stage == "head"
    assert recommended.value == strategy.by_seed[recommended.seed]
    assert report.data["pipeline"] == "quickstart"


def test_report_of_published_stages_equals_that_of_run(job: Job, store: str, report: ftjobs.Report) -> None:
    assert ftjobs.report(job, store=store) == report


def test_report_needs_published_stages(job: Job, tmp_path: Path) -> None:
    with pytest.raises(InputsNotPublished):
        ftjobs.report(job, store=str(tmp_path))


def test_command_prints_the_report_of_the_api(store: str, report: ftjobs.Report) -> None:
    overrides = [f"--set={name}={json.dumps(value)}" for name, value in FEW_STEPS.items()]
    result = CliRunner().invoke(app, ["report", str(QUICKSTART), "--store", store, *overrides])
    assert result.exit_code == 0, result.output
    assert result.stdout == report.markdown


def test_store_is_that_of_the_environment_unless_given(
    job: Job, store: str, report: ftjobs.Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTJOBS_STORE", store)
    assert ftjobs.report(job) == report


def test_pull_copies_the_recommended_or_a_chosen_checkpoint(
    job: Job, store: str, report: ftjobs.Report, tmp_path: Path
) -> None:
    recommended = ftjobs.pull(job, tmp_path / "recommended", store=store)
    by_address = ftjobs.pull(report.recommendation.artifact, tmp_path / "by-address")
    seed = report.recommendation.seed
    by_stage = ftjobs.pull(job, tmp_path / "by-stage", stage="head", seed=seed, store=store)
    weights = [(folder / "model.safetensors").read_bytes() for folder in (recommended, by_address, by_stage)]
    assert weights[0] == weights[1] == weights[2]
    with pytest.raises(UserError, match="exists"):
        ftjobs.pull(job, recommended, store=store)


def test_predict_returns_a_label_and_probabilities_for_each_pair(report: ftjobs.Report) -> None:
    pairs = [("Do I oil the rusty chain?", "The pedal squeaks."), ("Do I iron the seam?", "My radiator drips.")]
    predictions = ftjobs.predict(report.recommendation.artifact, pairs)
    assert len(predictions) == 2
    for prediction in predictions:
        assert set(prediction.probabilities) == {"similar", "different"}
        assert prediction.label == max(prediction.probabilities, key=lambda name: prediction.probabilities[name])
        assert sum(prediction.probabilities.values()) == pytest.approx(1, abs=1e-6)
    assert ftjobs.predict(report.recommendation.artifact, []) == []


def test_predict_refuses_single_texts_for_a_model_of_pairs(report: ftjobs.Report) -> None:
    with pytest.raises(UserError, match=r"texts\[0\].*pair"):
        ftjobs.predict(report.recommendation.artifact, ["Do I oil the rusty chain?"])
