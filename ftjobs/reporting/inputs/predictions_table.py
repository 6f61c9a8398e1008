"""`predictions.parquet` of a report: what every stage and seed predicted for the test rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ftjobs.reporting.inputs.evidence import Evidence


def write_predictions(evidence: Evidence, path: Path) -> None:
    """`predictions.parquet`: one row per test example, stage and seed, a row group per stage and seed.

    Columns: `id` (int64, as in the prepared data), `stage`, `seed`, `label`, `prediction` (class names) and
    `probabilities` (float32, in the order of the classes in `report.json`). Where the job's labels are numbers, or
    several at once, so are labels and predictions; numbers have no probabilities.
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
    coded = {
        "id": "DELTA_BINARY_PACKED",
        "seed": "DELTA_BINARY_PACKED",
        "probabilities.list.element": "BYTE_STREAM_SPLIT",
    }
    with pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        use_dictionary=["stage", "label", "prediction"],
        column_encoding=coded,
    ) as writer:
        for strategy in evidence.strategies:
            rows = len(strategy.labels)
            stage = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([strategy.name]))
            label = pa.DictionaryArray.from_arrays(pa.array(strategy.labels.astype(np.int32)), classes)
            offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * len(classes))
            for run, predicted, found in zip(
                strategy.runs, strategy.predictions, strategy.probabilities(), strict=True
            ):
                columns = [
                    pa.array(evidence.data.splits["test"].ids),
                    stage,
                    pa.array(np.full(rows, run.seed, np.int64)),
                    label,
                    pa.DictionaryArray.from_arrays(pa.array(predicted), classes),
                    pa.ListArray.from_arrays(offsets, pa.array(found.reshape(-1))),
                ]
                writer.write_table(pa.table(columns, schema=schema), row_group_size=max(rows, 1))


def _write_others(evidence: Evidence, path: Path) -> None:
    """The same of labels that are no classes."""
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
                columns = [added[one.name] if one.name in added else table[one.name].cast(one.type) for one in schema]
                writer.write_table(pa.table(columns, schema=schema), row_group_size=max(rows, 1))
