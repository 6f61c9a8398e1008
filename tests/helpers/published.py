"""Published pipelines without training: artifacts with chosen metrics and predictions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ftjobs.artifacts import Manifest
from ftjobs.artifacts.manifest import FileEntry
from ftjobs.data import prepared
from ftjobs.data.overlap import normalize
from ftjobs.data.prepared import PreparedData, Rows
from ftjobs.jobfile.fields import Job
from ftjobs.plan import Report, plan
from ftjobs.reporting.findings.collect import Findings, collect_findings
from ftjobs.reporting.inputs.evidence import Evidence, read_evidence
from ftjobs.stages import report
from ftjobs.tasks import get_task

Classifier = Callable[[np.random.Generator, np.ndarray], np.ndarray]
"""Return logits (N, C) on the test rows, from their labels (N,)."""
STAGES = {
    "adapt": {"kind": "adapt", "epochs": 2},
    "head": {"kind": "classify", "freeze_encoder": True},
    "behavioural": {"kind": "classify"},
    "adapted-head": {"kind": "classify", "encoder": "adapt", "freeze_encoder": True},
    "adapted-behavioural": {"kind": "classify", "encoder": "adapt"},
}


def guesses(accuracy: float, classes: int = 2) -> Classifier:
    """Classify each row correctly with this probability, and with more confidence then."""

    def logits(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
        right = rng.random(len(labels)) < accuracy
        predicted = np.where(right, labels, (labels + rng.integers(1, classes, len(labels))) % classes)
        noisy = rng.normal(0, 0.1, (len(labels), classes))
        noisy[np.arange(len(labels)), predicted] += np.where(right, 2.0, 1.0)
        return noisy.astype(np.float32)

    return logits


def always(predicted: int, classes: int = 2) -> Classifier:
    """Predict one class for every row."""

    def logits(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
        constant = np.zeros((len(labels), classes), np.float32)
        constant[:, predicted] = 1
        return constant

    return logits


#: Test accuracy of the four strategies of the study.
STRATEGIES = {
    "head": guesses(0.6),
    "behavioural": guesses(0.75),
    "adapted-head": guesses(0.65),
    "adapted-behavioural": guesses(0.85),
}
#: Hypotheses on them.
HYPOTHESES = ["adapted-head > head", "adapted-behavioural > behavioural by 0.02"]
#: Plots of a report on them.
PLOTS = {"results", "hypotheses", "accuracy", "training-loss", "adaptation", "confusion", "calibration"}


class Pipeline:
    """The artifacts of a job, in folders by role, as the report stage receives them.

    Args:
        folder: of the artifacts
        classifiers: by classify stage
        test, train, validation: rows of the splits
        classes: of the labels; empty for data without labels
        shared: test rows whose first text is that of a training row, in capitals
        texts: first text of a row, by split and index
        pairs: rows have two texts
        truncated: texts that were truncated in every stage
        summary: keys that replace those of `prepare`'s summary
        fields: of the job file
    """

    def __init__(
        self,
        folder: Path,
        classifiers: dict[str, Classifier],
        *,
        test: int = 200,
        train: int = 100,
        validation: int = 50,
        classes: tuple[str, ...] = ("different", "similar"),
        shared: int = 0,
        texts: Callable[[str, int], str] = lambda split, row: f"{split} question {row}",
        pairs: bool = True,
        truncated: int = 0,
        summary: dict[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        self.folder, self.classifiers, self.classes = folder, classifiers, list(classes)
        stages = fields.pop("stages", STAGES)
        defaults = {
            "name": "published",
            "encoder": {"model": "me/encoder"},
            "data": {"source": "me/pairs", "text": ["a", "b"] if pairs else "a", "split": {"test_fraction": 0.1}},
            "seeds": [1, 2, 3],
        }
        defaults["data"] |= {"label": "same"} if classes else {}
        self.job = Job.model_validate({**defaults, "stages": stages, **fields})
        self.runs = plan(self.job)
        assert isinstance(self.runs[-1].settings, Report)
        self.settings = self.runs[-1].settings
        self.truncated, self.summary = truncated, summary or {}
        sizes = {"train": train, **({"validation": validation} if validation else {}), "test": test}
        self.data = self._data(sizes, texts, pairs, shared)
        self.inputs = {role: folder / role for role in self.runs[-1].inputs}
        for role in self.inputs:
            self.inputs[role].mkdir(parents=True)
        self._write_prepare(sizes, pairs)
        for run in self.runs[1:-1]:
            self._write(self.inputs[f"{run.stage}/seed-{run.seed}"], run)

    def update(self, stage: str, seed: int, file: str, **values: Any) -> None:
        """Replace values in `metrics.json` or `timing.json` of a run."""
        path = self.inputs[f"{stage}/seed-{seed}"] / file
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    def evidence(self) -> Evidence:
        """Return the evidence of the report."""
        return read_evidence(self.settings, self.inputs)

    def findings(self) -> Findings:
        """Return the findings of the report."""
        return collect_findings(self.evidence(), self.published())

    def published(self) -> dict[str, Manifest]:
        """Return the manifests by role."""
        manifests = {}
        for role, run in self.runs[-1].inputs.items():
            manifests[role] = Manifest(
                pipeline=run.pipeline, stage=run.stage, kind=run.kind, seed=run.seed, identity=run.identity,
                attempt="0", settings={"path": "/home/user"}, inputs={}, metrics={},
                environment={"python": "3.11.0", "torch": "2.13.0"},
                files=[FileEntry(path="model/model.safetensors", size=1_000, sha256="ab" * 32)],
            )  # fmt: skip
        return manifests

    def report(self, output: Path) -> dict[str, Any]:
        """Write the report, and return the metrics of its manifest."""
        output.mkdir(parents=True)
        return report.run(self.settings, 0, self.inputs, output, self.published())

    def _data(self, sizes: dict[str, int], texts: Any, pairs: bool, shared: int) -> PreparedData:
        start, splits = 0, {}
        for name, size in sizes.items():
            first = [texts(name, row) for row in range(size)]
            if name == "test":
                first[:shared] = [f"  {texts('train', row).upper()}" for row in range(shared)]
            splits[name] = Rows(
                ids=np.arange(start, start + size),
                texts=first,
                pairs=[f"{texts(name, row)} again" for row in range(size)] if pairs else None,
                labels=np.arange(size) % len(self.classes) if self.classes else None,
            )
            start += size
        return PreparedData(splits, self.classes)

    def _write_prepare(self, sizes: dict[str, int], pairs: bool) -> None:
        trained = {normalize(text) for text in self.data.splits["train"].all_texts}
        test = self.data.splits["test"]
        distinct = {normalize(text) for text in test.all_texts}
        balance = {
            split: {name: int((rows.labels == index).sum()) for index, name in enumerate(self.classes)}
            for split, rows in self.data.splits.items()
        }
        summary = {
            "rows": sizes,
            "labels": balance if self.classes else {},
            "overlap": {"test": {
                "texts": len(distinct), "texts_in_training": len(distinct & trained), "rows": len(test),
                "rows_in_training": sum(normalize(text) in trained for text in test.texts),
            }},
            "text_columns": self.job.data.text_columns,
            "split": self.job.data.split.model_dump(),
            "provenance": {"hub_id": "me/pairs", "revision": "main", "commit": "c0ffee", "config": None},
            "tokens": {split: {"mean": 9.0, "median": 9.0, "p95": 12.0, "max": 700, "total": 900} for split in sizes},
            "encoder": {"model": "me/encoder", "revision": "main", "commit": "beef"},
        }  # fmt: skip
        prepared.write(self.data, {**summary, **self.summary}, self.inputs["prepare"] / "data")

    def _write(self, folder: Path, run: Any) -> None:
        rng = np.random.default_rng([run.seed, *run.stage.encode()])
        timing = {"train_seconds": 8.0, "stage_seconds": 10.0, "examples_per_second": 1234.5, "device": "cpu",
                  "mixed_precision": "no", "processes": 1, "peak_memory_bytes": 512_000_000, "peak_memory_of": "process"}  # fmt: skip
        (folder / "timing.json").write_text(json.dumps(timing))
        content = self._adapted(run) if run.kind == "adapt" else self._classified(run, folder, rng)
        (folder / "metrics.json").write_text(json.dumps(content))

    def _adapted(self, run: Any) -> dict[str, Any]:
        def record(loss: float) -> dict[str, float]:
            return {"loss": loss, "perplexity": float(np.exp(loss)), "accuracy": 1 / (1 + loss)}

        epochs = [
            {"epoch": epoch, "train_loss": 4 / epoch, **record(3 / epoch + run.seed / 100)}
            for epoch in range(1, run.settings.epochs + 1)
        ]
        return {
            "texts": 100, "tokens": 900, "truncated": self.truncated, "newly_initialised": [],
            "evaluated_on": self.data.selection_split, "evaluation_texts_also_trained_on": run.settings.corpus == "all",
            "before": record(6.0), "best_epoch": len(epochs), "best": epochs[-1], "last": epochs[-1], "epochs": epochs,
        }  # fmt: skip

    def _classified(self, run: Any, folder: Path, rng: np.random.Generator) -> dict[str, Any]:
        """Write predictions and return metrics: epoch 2 is the best, and validation equals test."""
        test = self.data.splits["test"]
        assert test.labels is not None
        logits = self.classifiers[run.stage](rng, test.labels)
        names = np.array(self.classes)
        table = {
            "id": test.ids, "label": names[test.labels], "prediction": names[logits.argmax(axis=1)],
            "probabilities": list(get_task("class").probabilities(logits)),
        }  # fmt: skip
        pq.write_table(pa.table(table), folder / "predictions.parquet")
        best = get_task("class").compute_metrics(logits, test.labels)
        other = {**best, "accuracy": best["accuracy"] - 0.02}
        epochs = [
            {"epoch": epoch, "train_loss": 1 / epoch, **{name: metrics for name in self.data.splits if name != "train"}}
            for epoch, metrics in enumerate([other, best, *[other] * (run.settings.epochs - 2)], start=1)
        ]
        return {
            **best, "best_epoch": 2, "selected_on": self.data.selection_split, "last": epochs[-1]["test"],
            "newly_initialised": ["classifier.bias"], "truncated": {"train": 0, "test": self.truncated}, "epochs": epochs,
        }  # fmt: skip


#: Predictions of strategies where adapting pays, and where all are alike.
BETTER = {
    "head": guesses(0.6),
    "behavioural": guesses(0.7),
    "adapted-head": guesses(0.75),
    "adapted-behavioural": guesses(0.9),
}
SAME = dict.fromkeys(BETTER, guesses(0.7))
