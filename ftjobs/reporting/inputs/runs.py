"""Published metrics, timing and predictions of a stage, with one seed and over all seeds."""

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
    """The content of `timing.json`: measured cost, and the device."""

    @property
    def step_losses(self) -> tuple[np.ndarray, np.ndarray]:
        """Position in epochs, and training loss, of every logged step: float64 (P,) each; empty without a log.

        Not cached: the logs of long trainings are large.
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
    """Fields of the stage in the resolved job."""
    runs: list[Run]

    @property
    def seeds(self) -> list[int]:
        """The seeds, in the job's order."""
        return [run.seed for run in self.runs]

    @property
    def best_epochs(self) -> list[int]:
        """Best epoch of every seed, from 1."""
        return [run.metrics["best_epoch"] for run in self.runs]

    @property
    def processes(self) -> list[int]:
        """Distinct numbers of processes over seeds; the effective batch grows with them."""
        return sorted({run.timing["processes"] for run in self.runs})

    def figures(self, *path: str) -> list[float]:
        """Return a number from the metrics of every seed, such as `figures("last", "accuracy")`."""
        values = []
        for run in self.runs:
            value: Any = run.metrics
            for key in path:
                value = value[key]
            values.append(value)
        return values


@dataclass(frozen=True)
class Strategy(Stage):
    """A `classify` stage with its predictions for the job's test split."""

    predictions: np.ndarray
    """Encoded predictions of S seeds for N test rows: (S, N), or (S, N, C) for sets of C labels."""
    labels: np.ndarray
    """Encoded labels: (N,) or (N, C)."""
    classes: list[str]
    label_type: str = DEFAULT_LABEL_TYPE

    @cached_property
    def right(self) -> np.ndarray:
        """True where a prediction equals the label, for label sets every label: bool (S, N)."""
        return self.task.right(self.predictions, self.labels)

    @cached_property
    def scores(self) -> np.ndarray:
        """Score of every row, by which strategies are compared: (S, N), higher is better."""
        return self.task.scores(self.predictions, self.labels)

    @property
    def task(self) -> Task:
        """The task that the strategy was trained for."""
        return get_task(self.label_type)

    @property
    def measure(self) -> Measure:
        """The metric that strategies are compared by."""
        return self.task.measure

    @property
    def selected_on(self) -> str:
        """The split that the best epochs were chosen on."""
        return str(self.runs[0].metrics["selected_on"])

    @property
    def selection(self) -> list[float]:
        """The metric of the best epoch on the split that it was chosen on, per seed."""
        return [run.best[self.selected_on][self.measure.key] for run in self.runs]

    @property
    def rank(self) -> float:
        """Sort key of strategies by selection score: lower is better."""
        return mean(self.selection) * (1 if self.measure.minimize else -1)

    def probabilities(self) -> Iterator[np.ndarray]:
        """Yield the probabilities of each seed: float32 (N, C). All seeds together may not fit into memory."""
        for run in self.runs:
            yield _probabilities(_predictions(run), len(self.classes))


@dataclass(frozen=True)
class Intermediate(Stage):
    """A `classify` stage on its own data."""

    data: PreparedData
    summary: DataSummary
    """Summary of that data by the stage that prepared it."""
    predictions: np.ndarray
    """Encoded predictions, per seed and row of its own test split, as in `Strategy`."""

    @property
    def task(self) -> Task:
        """The task of its data."""
        return self.data.task


def read_run(folder: Path, seed: int) -> Run:
    """Read the metrics and timing of a run."""

    def content(name: str) -> dict[str, Any]:
        record: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
        return record

    return Run(seed, folder, content("metrics.json"), content("timing.json"))


def _predictions(run: Run) -> pa.Table:
    return pq.read_table(run.folder / "predictions.parquet")


def read_predictions(stage: str, run: Run, data: PreparedData) -> np.ndarray:
    """Return the predictions of one run: int32 (N,), classes; float64 (N,), numbers; or uint8 (N, C), labels."""
    table = _predictions(run)
    if not np.array_equal(table["id"].to_numpy(), data.splits["test"].ids):
        raise CorruptArtifact(
            f"{stage} seed {run.seed}: predictions.parquet has other ids than the test split of `prepare`; run "
            "`ftjobs verify`, then the stage again"
        )
    return data.task.encode_column(table["prediction"], data.classes)


def _probabilities(table: pa.Table, classes: int) -> np.ndarray:
    """Return the probabilities: float32 (N, C)."""
    flat = table["probabilities"].combine_chunks().flatten()
    return np.asarray(flat.to_numpy(zero_copy_only=False), dtype=np.float32).reshape(-1, classes)
