"""Published outputs of all stages of a pipeline, loaded for a report, and `predictions.parquet` of the report."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ftjobs.data import prepared
from ftjobs.data.corpora import curation
from ftjobs.data.corpora.curation import CorpusRecord
from ftjobs.data.overlap import shares_text, text_keys
from ftjobs.data.prepared import DataSummary, PreparedData
from ftjobs.plan import Report
from ftjobs.reporting.inputs.runs import Intermediate, Run, Stage, Strategy, read_predictions, read_run
from ftjobs.tasks import Task
from ftjobs.tasks.measures import Measure


@dataclass(frozen=True)
class Evidence:
    """Published outputs of the stages that a report covers."""

    report: Report
    data: PreparedData
    summary: DataSummary
    """Summary of data and encoder by `prepare`."""
    strategies: list[Strategy]
    adaptations: list[Stage]
    intermediate: list[Intermediate]
    corpora: dict[str, CorpusRecord] = field(default_factory=dict)
    """Records of corpora, by the stage that prepared them."""

    @property
    def seeds(self) -> list[int]:
        """The job's seeds."""
        return list(self.report.job["seeds"])

    @property
    def task(self) -> Task:
        """The task of the job's data."""
        return self.data.task

    @property
    def measure(self) -> Measure:
        """The metric that strategies are compared by."""
        return self.task.measure

    @property
    def selected_on(self) -> str:
        """The split that best epochs were chosen on: `validation`, or `test` without one."""
        return self.data.selection_split

    @cached_property
    def in_training(self) -> np.ndarray:
        """Test rows that share a normalized text with the training split: bool (N,)."""
        train, test = (text_keys(self.data.splits[name].columns) for name in ("train", "test"))
        return shares_text(train, test)

    def majority_class(self) -> tuple[float, str]:
        """Return the share of the most frequent class in the test split, and its name."""
        labels = self.data.splits["test"].labels
        assert labels is not None, "called only if there are labels"
        counts = np.bincount(labels, minlength=len(self.data.classes))
        return float(counts.max() / len(labels)), self.data.classes[int(counts.argmax())]

    def lineage(self, name: str) -> list[str]:
        """Return the stages whose encoders a stage builds on, the direct one first."""
        ancestors: list[str] = []
        stages = self.report.job["stages"]
        while (encoder := stages[name].get("encoder")) is not None:
            ancestors.append(name := encoder)
        return ancestors

    def is_adapted(self, name: str, to_texts: bool = False) -> bool:
        """Return whether a stage builds on an adapt stage or, unless `to_texts`, on an intermediate task."""
        stages, tasks = self.report.job["stages"], () if to_texts else self.report.own_data
        return any(stages[ancestor]["kind"] == "adapt" or ancestor in tasks for ancestor in self.lineage(name))

    def strategy(self, name: str) -> Strategy:
        """Return a strategy by name."""
        return next(strategy for strategy in self.strategies if strategy.name == name)


def read_evidence(report: Report, inputs: dict[str, Path]) -> Evidence:
    """Read the published outputs of all stages.

    Args:
        report: settings of the report stage
        inputs: folders by role, of `prepare` and of every `<stage>/seed-<n>`

    Raises:
        CorruptArtifact: the predictions of a stage belong to other test rows than those of `prepare`.
    """
    folder = inputs["prepare"] / "data"
    data = prepared.read(folder)
    strategies: list[Strategy] = []
    adaptations: list[Stage] = []
    intermediate: list[Intermediate] = []
    for name in report.stages:
        settings = report.job["stages"][name]
        runs = [read_run(inputs[f"{name}/seed-{seed}"], seed) for seed in report.job["seeds"]]
        if settings["kind"] == "adapt":
            adaptations.append(Stage(name, settings, runs))
            continue
        if name in report.own_data:
            intermediate.append(_intermediate(name, settings, runs, inputs[report.own_data[name]] / "data"))
            continue
        predictions = np.stack([read_predictions(name, run, data) for run in runs])
        labels = data.splits["test"].labels
        assert labels is not None, "the job file's checks require labels for classify stages"
        strategies.append(Strategy(name, settings, runs, predictions, labels, data.classes, data.label_type))
    summary = prepared.read_summary(folder)
    records = {name: curation.read_record(inputs[name] / "corpus") for name in dict.fromkeys(report.corpora.values())}
    return Evidence(report, data, summary, strategies, adaptations, intermediate, records)


def _intermediate(name: str, settings: dict[str, Any], runs: list[Run], folder: Path) -> Intermediate:
    data = prepared.read(folder)
    predictions = np.stack([read_predictions(name, run, data) for run in runs])
    return Intermediate(name, settings, runs, data, prepared.read_summary(folder), predictions)


def write_predictions(evidence: Evidence, path: Path) -> None:
    """Write one row per test example, stage and seed, in one row group per stage and seed.

    Columns: `id` (int64, as in the prepared data), `stage`, `seed`, `label`, `prediction` and `probabilities`
    (float32, in the order of the classes in `report.json`). Labels and predictions are class names, numbers or lists
    of names; numbers have no probabilities.
    """
    write = _write_classes if evidence.task.single_class else _write_numbers_or_sets
    write(evidence, path)


def _write_classes(evidence: Evidence, path: Path) -> None:
    """Write class names as dictionaries, with compact encodings."""
    names = pa.dictionary(pa.int32(), pa.string())
    schema = pa.schema(
        {
            "id": pa.int64(),
            "stage": names,
            "seed": pa.int64(),
            "label": names,
            "prediction": names,
            "probabilities": pa.list_(pa.float32()),
        }
    )
    classes = pa.array(evidence.data.classes, pa.string())
    encodings = {
        "id": "DELTA_BINARY_PACKED",
        "seed": "DELTA_BINARY_PACKED",
        "probabilities.list.element": "BYTE_STREAM_SPLIT",
    }
    with pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        use_dictionary=["stage", "label", "prediction"],
        column_encoding=encodings,
    ) as writer:
        for strategy in evidence.strategies:
            rows = len(strategy.labels)
            stage = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([strategy.name]))
            label = pa.DictionaryArray.from_arrays(pa.array(strategy.labels.astype(np.int32)), classes)
            offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * len(classes))
            for run, predicted, probabilities in zip(
                strategy.runs, strategy.predictions, strategy.probabilities(), strict=True
            ):
                columns = [
                    pa.array(evidence.data.splits["test"].ids),
                    stage,
                    pa.array(np.full(rows, run.seed, np.int64)),
                    label,
                    pa.DictionaryArray.from_arrays(pa.array(predicted), classes),
                    pa.ListArray.from_arrays(offsets, pa.array(probabilities.reshape(-1))),
                ]
                writer.write_table(pa.table(columns, schema=schema), row_group_size=max(rows, 1))


def _write_numbers_or_sets(evidence: Evidence, path: Path) -> None:
    """Write numbers, or lists of label names."""
    names = pa.dictionary(pa.int32(), pa.string())
    value = evidence.task.decoded_type()
    schema = pa.schema({"id": pa.int64(), "stage": names, "seed": pa.int64(), "label": value, "prediction": value})
    if evidence.task.has_probabilities:
        schema = schema.append(pa.field("probabilities", pa.list_(pa.float32())))
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for strategy in evidence.strategies:
            for run in strategy.runs:
                table = pq.read_table(run.folder / "predictions.parquet")
                rows = len(table)
                stage = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([strategy.name]))
                added = {"stage": stage, "seed": pa.array(np.full(rows, run.seed, np.int64))}
                columns = [
                    added[column.name] if column.name in added else table[column.name].cast(column.type)
                    for column in schema
                ]
                writer.write_table(pa.table(columns, schema=schema), row_group_size=max(rows, 1))
