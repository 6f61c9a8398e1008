"""Label cells of every file format are read alike; unreadable cells are reported with their place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ftjobs.data import preparation, prepared
from ftjobs.errors import UserError
from ftjobs.jobfile.fields import Data

TEXTS = ["a b", "c d", "e f", "g h", "i j"]
NUMBERS = [1, 2.5, -0.5, 1e3, 0]
SETS: list[list[str]] = [["x", "y"], [], ["y"], ["x"], ["z", "x"]]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def data(source: str, label: Any, label_type: str, **more: Any) -> Data:
    split = {"test_fraction": 0.2}
    return Data(source=source, text="q", label=label, label_type=label_type, split=split, **more)  # type: ignore[arg-type]


def prepare_data(settings: Data) -> tuple[prepared.PreparedData, dict[str, Any]]:
    prepared_data, summary = preparation.prepare_data(settings, Path("out"))
    prepared.write_summary(prepared_data.classes, summary, Path("out"))
    assert prepared.read(Path("out")).label_type == settings.label_type
    return prepared_data, summary


def in_order(prepared_data: prepared.PreparedData) -> np.ndarray:
    """The labels of all rows in the order of the source."""
    ids = np.concatenate([rows.ids for rows in prepared_data.splits.values()])
    return np.concatenate([np.asarray(rows.labels) for rows in prepared_data.splits.values()])[np.argsort(ids)]


def write(name: str, columns: dict[str, list[Any]], joined: str = ",") -> str:
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    if name.endswith(".jsonl"):
        Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), name)
    else:
        cells = [[joined.join(cell) if isinstance(cell, list) else str(cell) for cell in row.values()] for row in rows]
        lines = [list(columns), *cells]
        Path(name).write_text("".join(",".join(f'"{cell}"' for cell in line) + "\n" for line in lines))
    return name


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_numbers_are_read_as_float64_from_every_format(name: str) -> None:
    values = [float(value) for value in NUMBERS] if name == "a.parquet" else NUMBERS
    prepared_data, summary = prepare_data(data(write(name, {"q": TEXTS, "score": values}), "score", "float"))
    assert prepared_data.classes == ["score"]
    labels = in_order(prepared_data)
    assert labels.dtype == np.float64
    assert labels.tolist() == NUMBERS
    train = np.asarray(prepared_data.splits["train"].labels)
    assert summary["labels"]["train"] == pytest.approx(
        {"mean": train.mean(), "sd": train.std(), "min": train.min(), "median": np.median(train), "max": train.max()}
    )
    assert summary["label_type"] == "float"


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_joined_names_become_label_sets(name: str) -> None:
    prepared_data, summary = prepare_data(
        data(write(name, {"q": TEXTS, "tags": SETS}, " ; "), "tags", "multi", label_separator=";")
    )
    assert set(prepared_data.classes) <= {"x", "y", "z"}
    labels = in_order(prepared_data)
    assert labels.dtype == np.uint8
    assert [[prepared_data.classes[i] for i in np.flatnonzero(row)] for row in labels] == [
        sorted(names) for names in SETS
    ]
    counts = {split: sum(counts.values()) for split, counts in summary["labels"].items()}
    assert sum(counts.values()) == sum(map(len, SETS))


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
@pytest.mark.parametrize("spelled", [(0, 1), (False, True), (0.0, 1.0), ("0", "1")])
def test_flag_columns_keep_the_order_of_the_job_file(name: str, spelled: tuple[Any, Any]) -> None:
    columns = {tag: [spelled[tag in names] for names in SETS] for tag in ("z", "x")}
    prepared_data, _ = prepare_data(data(write(name, {"q": TEXTS, **columns}), ["z", "x"], "multi"))
    assert prepared_data.classes == ["z", "x"]  # in the order of the job file
    assert in_order(prepared_data).tolist() == [[int("z" in names), int("x" in names)] for names in SETS]


def test_class_numbers_of_hub_lists_become_names() -> None:
    import datasets

    features = datasets.Features(
        {"q": datasets.Value("string"), "tags": datasets.List(datasets.ClassLabel(names=["x", "y", "z"]))}
    )
    column = pa.chunked_array([pa.array([[0, 1], [], [2]], pa.list_(pa.int64()))])
    from ftjobs.data.readers.columns import normalize_types

    table = normalize_types(pa.table({"q": ["a", "b", "c"], "tags": column}), features)
    assert table["tags"].to_pylist() == [["x", "y"], [], ["z"]]


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("a.csv", ["1", "2", "nan", "3", "x"], "cannot be read in 2 of 5 rows: line 4 is no finite number: 'nan'"),
        ("a.csv", ["1", "", "2", "3", "4"], "cannot be read in 1 of 5 rows: line 3 is no finite number: ''"),
        ("a.csv", ["1", "1_0", "2", "3", "4"], "cannot be read in 1 of 5 rows: line 3 is no finite number: '1_0'"),
        ("a.jsonl", [1, float("inf"), 2, 3, 4], "cannot be read in 1 of 5 rows: line 2 is no finite number: inf"),
        ("a.jsonl", [1, True, 2, 3, 4], "is True, a boolean; data.label, label_type: float requires"),
        ("a.jsonl", [1, "2", 2, 3, 4], "mixes a number"),
        ("a.jsonl", [1, None, 2, 3, 4], "line 2 is missing"),
        ("a.parquet", [1.0, float("nan"), 2.0, 3.0, 4.0], "row 2 is no finite number: nan"),
        ("a.parquet", [["x"], ["y"], [], [], []], "but data.label, label_type: float requires numbers"),
    ],
)
def test_unreadable_number_is_reported_with_place_and_value(name: str, values: list[Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        prepare_data(data(write(name, {"q": TEXTS, "score": values}), "score", "float"))
    assert message in str(caught.value)
    assert "'score'" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("a.csv", ["0", "1", "2", "0", "1"], "line 4 is neither 0 nor 1: '2'"),
        ("a.jsonl", [0, 1, 0.5, 0, 1], "mixes a whole number"),
        ("a.parquet", [0, 1, 1, 0, 3], "row 5 is neither 0 nor 1: 3"),
    ],
)
def test_unreadable_flag_is_reported_with_place_and_value(name: str, values: list[Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        prepare_data(data(write(name, {"q": TEXTS, "x": values, "y": ["0", "1"] * 2 + ["0"]}), ["x", "y"], "multi"))
    assert message in str(caught.value)


def test_missing_label_column_is_reported() -> None:
    with pytest.raises(UserError, match=r"'score' \(data.label, label_type: float\).*set data.label"):
        prepare_data(data(write("a.csv", {"q": TEXTS, "z": [1] * 5}), "score", "float"))


def test_unreadable_list_of_names_is_reported() -> None:
    with pytest.raises(UserError, match=r"line 2: column 'tags' is \[1.5\]"):
        prepare_data(data(write("a.jsonl", {"q": TEXTS, "tags": [["x"], [1.5], [], [], []]}), "tags", "multi"))
    with pytest.raises(UserError, match=r"training split .*label 'x'"):
        prepare_data(data(write("b.jsonl", {"q": TEXTS, "tags": [["x"]] * 5}), "tags", "multi"))


def test_constant_numbers_are_rejected() -> None:
    with pytest.raises(UserError, match=r"'score' is 2 .*4 training rows"):
        prepare_data(data(write("a.csv", {"q": TEXTS, "score": [2] * 5}), "score", "float"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"label_type": "float"}, "label_type: float needs `label`"),
        ({"label": ["a", "b"]}, "several label columns need label_type: multi, not class"),
        ({"label": ["a"], "label_type": "multi"}, "at least 2"),
        ({"label": "a", "label_separator": ";"}, "label_separator applies only to label_type: multi"),
        ({"label": ["a", "b"], "label_type": "multi", "label_separator": ";"}, "a single label column"),
    ],
)
def test_label_fields_that_contradict_label_type_are_rejected(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Data(source="a.csv", text="q", **fields)
