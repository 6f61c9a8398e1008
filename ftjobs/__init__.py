"""ftjobs: does adapting a language model to our domain pay, and which model do we ship?

The Python API, for notebooks and tests. Every function does what the command of the same name does:

    import ftjobs

    job = ftjobs.load("jobs/quickstart.yaml", set={"seeds": [1], "defaults.adapt.epochs": 5})
    report = ftjobs.run(job, store="runs")
    print(report.headline, report.recommendation.stage)
    ftjobs.pull(job, "model")
    ftjobs.predict("model", [("How do I iron the seam?", "The cotton puckers, what do I do?")])

Importing `ftjobs` is instant: torch, transformers and the storage client are imported by the functions that need them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftjobs.artifacts import Manifest
    from ftjobs.jobfile.fields import Job
    from ftjobs.plan import StageRun
    from ftjobs.predicting import Prediction
    from ftjobs.storage import Storage

__all__ = ["Recommendation", "Report", "Strategy", "__version__", "load", "predict", "pull", "report", "run"]

__version__ = "0.1.0"


@dataclass(frozen=True)
class Strategy:
    """Test results of a strategy over the seeds of a job."""

    stage: str
    metric: str
    """`accuracy`; `mse` where labels are numbers (`label_type: float`)."""
    mean: float
    """Mean over seeds. Accuracy is a fraction."""
    sd: float | None
    """Standard deviation over seeds; None with one seed."""
    interval: tuple[float, float]
    """95 % interval of the mean."""
    by_seed: dict[int, float]


@dataclass(frozen=True)
class Recommendation:
    """The checkpoint to ship."""

    stage: str
    seed: int
    metric: str
    """As in `Strategy`; `loss` for a job that only adapts an encoder."""
    value: float
    """The metric of this checkpoint, on the test split where the job has classifiers."""
    artifact: str
    """Address of the artifact, for `ftjobs.pull` and `ftjobs pull`."""


@dataclass(frozen=True)
class Report:
    """The report of a pipeline. `str(report)` is its Markdown."""

    headline: str
    """The answer in one line."""
    recommendation: Recommendation
    strategies: list[Strategy]
    """In the order of the job file. Empty for a job that only adapts an encoder."""
    folder: str
    """Address of the published files: `report.html`, `predictions.parquet`, `plots/`."""
    markdown: str = field(repr=False)
    data: dict[str, Any] = field(repr=False)
    """The content of `report.json`."""

    def __str__(self) -> str:
        return self.markdown


def load(path: str | os.PathLike[str], set: Mapping[str, Any] | None = None) -> Job:
    """Read and validate a job file.

    Args:
        path: the YAML file. Relative paths in it are relative to its folder.
        set: overrides, such as `{"seeds": [1, 2], "stages.head.epochs": 3}`. Relative paths in them are relative to the
            working directory.

    Raises:
        UserError: the file or an override is invalid; lists every problem with its place, value and remedy.
    """
    from ftjobs.jobfile.read import read

    overrides = [f"{name}={json.dumps(value, ensure_ascii=False, default=str)}" for name, value in (set or {}).items()]
    return read(Path(path), overrides)


def run(job: Job | str | os.PathLike[str], store: str | None = None, parallel: int = 1) -> Report:
    """Run every stage of a job on this machine, skip those that are published, and return the report.

    Args:
        job: a loaded job, or the path of a job file.
        store: a folder or `s3://bucket/prefix`; `FTJOBS_STORE`, or else `runs`, unless set.
        parallel: number of stages to run at once.

    Raises:
        UserError: the job or its data is wrong.
        FtjobsError: a stage failed; run again to resume.
    """
    runs, storage = _plan(job, store)
    from ftjobs.execution import process_pool, runner

    manifests = runner.run_all(runs, storage) if parallel == 1 else process_pool.run_all(runs, storage, parallel)
    return _report(storage, manifests[-1])


def report(job: Job | str | os.PathLike[str], store: str | None = None) -> Report:
    """Return the report of a job whose stages are published; build and publish it if it does not exist yet.

    Args:
        job: a loaded job, or the path of a job file.
        store: as in `run`.

    Raises:
        InputsNotPublished: a stage is not published; `run` the job first.
    """
    runs, storage = _plan(job, store)
    return _report(storage, _report_manifest(runs, storage))


def pull(
    source: Job | str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    stage: str | None = None,
    seed: int | None = None,
    store: str | None = None,
    everything: bool = False,
) -> Path:
    """Copy a published checkpoint into a new folder that `from_pretrained` loads, and return the folder.

    Args:
        source: a loaded job, the path of a job file (with `stage`), or the address of an artifact (without).
        folder: the folder to create.
        stage: the stage; the recommended checkpoint of a loaded job unless set.
        seed: the seed, where the job has several.
        store: as in `run`. Not used with the address of an artifact.
        everything: copy metrics and predictions too.

    Raises:
        UserError: the folder exists, or there is no such stage or seed.
        InputsNotPublished: the stage is not published.
        CorruptArtifact: a stored file differs from its manifest.
    """
    from ftjobs import artifacts
    from ftjobs.plan import select

    if stage is None and isinstance(source, str | os.PathLike):
        storage, manifest = artifacts.resolve_uri(os.fspath(source))
    else:
        runs, storage = _plan(source, store)
        if stage is None:
            recommended = _report_manifest(runs, storage).metrics["to_ship"]
            stage, seed = recommended["stage"], recommended["seed"]
        manifest = artifacts.require_manifest(storage, select(runs, stage, seed))
    artifacts.pull(storage, manifest, Path(folder), everything=everything)
    return Path(folder)


def predict(model: str | os.PathLike[str], texts: Sequence[str] | Sequence[tuple[str, str]]) -> list[Prediction]:
    """Classify texts, or pairs of texts.

    Args:
        model: a model folder, the address of an artifact, or `s3://bucket/prefix`.
        texts: the texts (N); pairs for a model that was trained on pairs.

    Returns:
        A prediction for each text, with the probability of every class.

    Raises:
        UserError: there is no classifier at `model`.
    """
    import tempfile

    from ftjobs import predicting

    with tempfile.TemporaryDirectory(prefix="ftjobs-") as work:
        return predicting.predict_texts(predicting.Classifier.load(os.fspath(model), Path(work)), texts)


def _plan(job: Job | str | os.PathLike[str], store: str | None) -> tuple[list[StageRun], Storage]:
    from ftjobs.plan import plan
    from ftjobs.storage import open_storage

    loaded = load(job) if isinstance(job, str | os.PathLike) else job
    return plan(loaded), open_storage(store or os.environ.get("FTJOBS_STORE") or "runs")


def _report_manifest(runs: list[StageRun], storage: Storage) -> Manifest:
    from ftjobs import artifacts

    if (manifest := artifacts.find_manifest(storage, runs[-1])) is not None:
        return manifest
    from ftjobs.execution import runner

    return runner.run_stage(runs[-1], storage)


def _report(storage: Storage, manifest: Manifest) -> Report:
    from ftjobs import artifacts
    from ftjobs.reporting.text.renderers import rendered_headline
    from ftjobs.tasks import DEFAULT_LABEL_TYPE, get_task

    data = json.loads(artifacts.read_text(storage, manifest, "report.json"))
    markdown = artifacts.read_text(storage, manifest, "report.md")
    chosen = data["to_ship"]
    task = get_task(chosen.get("label_type", data["data"].get("label_type", DEFAULT_LABEL_TYPE)))
    metric = task.default_metric.key if task.default_metric.key in chosen else "loss"
    return Report(
        headline=rendered_headline(markdown),
        recommendation=Recommendation(
            chosen["stage"], chosen["seed"], metric, chosen[metric], storage.uri(chosen["artifact"])
        ),
        strategies=[_strategy(row, metric) for row in data["results"]],
        folder=storage.uri(manifest.folder),
        markdown=markdown,
        data=data,
    )


def _strategy(row: dict[str, Any], metric: str) -> Strategy:
    low, high = row[metric]["interval"]
    return Strategy(
        stage=row["stage"],
        metric=metric,
        mean=row[metric]["mean"],
        sd=row[metric]["sd"],
        interval=(low, high),
        by_seed={int(seed): result[metric] for seed, result in row["seeds"].items()},
    )
