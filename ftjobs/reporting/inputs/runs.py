"""What one stage published, with one seed and with all of them: metrics, timing, predictions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ftjobs.data.prepared import DataSummary, PreparedData
from ftjobs.errors import CorruptArtifact
from ftjobs.tasks import DEFAULT_LABEL_TYPE, Task, get_task
from ftjobs.tasks.measures import Measure


@dataclass(frozen=True)
class Run:
    """One stage with one seed."""

    seed: int
    folder: Path
    metrics: dict[str, Any]
    """The content of `metrics.json`."""
    timing: dict[str, Any]
    """The content of `timing.json`: what was measured, and on what."""

    @property
    def step_losses(self) -> tuple[np.ndarray, np.ndarray]:
        """Position in epochs, and training loss, of every step that `metrics.jsonl` has; empty where there is none.

        Read one run after the other: long trainings have many.
        """
        path = self.folder / "metrics.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
        steps = [line for line in lines if line.get("train/loss") is not None]
        last = max((line["step"] / line["epoch"] for line in lines if line.get("epoch")), default=1.0)
        positions = np.array([line["step"] for line in steps], dtype=np.float64) / last
        return positions, np.array([line["train/loss"] for line in steps], dtype=np.float64)

    @property
    def best(self) -> dict[str, Any]:
        """The record of the best epoch, whose weights were published."""
        record: dict[str, Any] = self.metrics["epochs"][self.metrics["best_epoch"] - 1]
        return record


@dataclass(frozen=True)
class Stage:
    """One stage with all its seeds."""

    name: str
    settings: dict[str, Any]
    """Its fields in the resolved job."""
    runs: list[Run]

    @property
    def seeds(self) -> list[int]:
        """The seeds, in the job's order."""
        return [run.seed for run in self.runs]

    @property
    def processes(self) -> list[int]:
        """How many processes trained together, each number that there was once: the batch grows with them."""
        return sorted({run.timing["processes"] for run in self.runs})

    def figures(self, *path: str) -> list[float]:
        """One metric of every seed: `figures("last", "accuracy")`."""
        found = []
        for run in self.runs:
            value: Any = run.metrics
            for key in path:
                value = value[key]
            found.append(value)
        return found


@dataclass(frozen=True)
class Strategy(Stage):
    """A `classify` stage, with what it predicted for every test row."""

    predictions: np.ndarray
    """int32 (S, N): index of the predicted class, per seed and test row; or float64 (S, N), or uint8 (S, N, C)."""
    labels: np.ndarray
    """int64 (N,): index of the true class; or float64 (N,), or uint8 (N, C)."""
    classes: list[str]
    label_type: str = DEFAULT_LABEL_TYPE

    @cached_property
    def right(self) -> np.ndarray:
        """bool (S, N): whether the prediction is the label; of several labels, whether every one is."""
        return self.task.right(self.predictions, self.labels)

    @cached_property
    def scores(self) -> np.ndarray:
        """Score of each row by which strategies are compared, higher is better: bool or float (S, N)."""
        return self.task.scores(self.predictions, self.labels)

    @property
    def task(self) -> Task:
        """The task that the strategy was trained for."""
        return get_task(self.label_type)

    @property
    def measure(self) -> Measure:
        """The measure by which strategies are compared."""
        return self.task.measure

    @property
    def selected_on(self) -> str:
        """The split that the best epochs were chosen on."""
        return str(self.runs[0].metrics["selected_on"])

    @property
    def selection(self) -> list[float]:
        """Accuracy, or mean squared error, of the published epoch on the split that it was chosen on, per seed."""
        return [run.best[self.selected_on][self.measure.key] for run in self.runs]

    @property
    def rank(self) -> float:
        """What strategies are ordered by before the test rows have a say: the lower the better."""
        return mean(self.selection) * (1 if self.measure.minimize else -1)

    def probabilities(self) -> Iterator[np.ndarray]:
        """Per seed, float32 (N, C). Read one after the other: all of them together may not fit into memory."""
        for run in self.runs:
            yield _probabilities(_predictions(run), len(self.classes))


@dataclass(frozen=True)
class Intermediate(Stage):
    """A `classify` stage on data of its own."""

    data: PreparedData
    summary: DataSummary
    """What the stage that brought the data found out about it."""
    predictions: np.ndarray
    """As a `Strategy` has them, per seed and row of its own test split."""

    @property
    def task(self) -> Task:
        """The task of its data."""
        return self.data.task


def read_run(folder: Path, seed: int) -> Run:
    """What one stage published with one seed."""

    def content(name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
        return found

    return Run(seed, folder, content("metrics.json"), content("timing.json"))


def _predictions(run: Run) -> pa.Table:
    return pq.read_table(run.folder / "predictions.parquet")


def read_predictions(stage: str, run: Run, data: PreparedData) -> np.ndarray:
    """The predictions of one run: int32 (N,), classes; float64 (N,), numbers; or uint8 (N, C), labels."""
    table = _predictions(run)
    if not np.array_equal(table["id"].to_numpy(), data.splits["test"].ids):
        raise CorruptArtifact(
            f"{stage} seed {run.seed}: predictions.parquet is not about the test rows that `prepare` published; "
            "run `ftjobs verify`, and the stage again"
        )
    return data.task.encode_column(table["prediction"], data.classes)


def _probabilities(table: pa.Table, classes: int) -> np.ndarray:
    """float32 (N, C)"""
    flat = table["probabilities"].combine_chunks().flatten()
    return np.asarray(flat.to_numpy(zero_copy_only=False), dtype=np.float32).reshape(-1, classes)
