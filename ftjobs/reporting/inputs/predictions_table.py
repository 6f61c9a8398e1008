"""`predictions.parquet` of a report: predictions of every strategy and seed for the test split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ftjobs.reporting.inputs.evidence import Evidence


def write_predictions(evidence: Evidence, path: Path) -> None:
    """Write one row per test example, stage and seed, in one row group per stage and seed.

    Columns: `id` (int64, as in the prepared data), `stage`, `seed`, `label`, `prediction` and `probabilities`
    (float32, in the order of the classes in `report.json`). Labels and predictions are class names, numbers or lists
    of names; numbers have no probabilities.
    """
    if not evidence.task.single_class:
        _write_others(evidence, path)
        return
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


def _write_others(evidence: Evidence, path: Path) -> None:
    """Write numbers or lists of names."""
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
