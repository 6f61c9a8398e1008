"""Predictions equal those of the model for every file format and size."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from scipy.stats import binomtest
from sklearn.metrics import f1_score, log_loss
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from ftjobs import artifacts, cli
from ftjobs.artifacts import Manifest
from ftjobs.cards import ModelInfo
from ftjobs.data.readers import columns
from ftjobs.jobfile.read import read
from ftjobs.models import checkpoints, heads
from ftjobs.plan import plan, select
from ftjobs.predicting import inference
from ftjobs.storage import open_storage
from tests.fakes.s3_server import BUCKET
from tests.helpers.commands import JOB
from tests.helpers.families import WORDS
from tests.helpers.messages import mentions

CLASSES = ["cold", "fever", "rash"]
FACTS: dict[str, Any] = {
    "pipeline": "p",
    "stage": "s",
    "kind": "classify",
    "seed": 1,
    "identity": "a" * 64,
    "text_columns": ["a", "b"],
    "label_column": "topic",
    "classes": CLASSES,
    "max_length": 16,
}
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def model(make_encoder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of pairs that was never trained, but has all its weights and facts."""
    folder = tmp_path_factory.mktemp("model")
    encoder = make_encoder("bert", "pretraining")
    torch.manual_seed(3)
    model, _ = heads.load_classifier(encoder, CLASSES)
    for weight in (weight for weight in model.parameters() if weight.dim() > 1):
        torch.nn.init.normal_(weight, std=0.5)  # large enough for its answers to differ
    heads.save(model, checkpoints.load_tokenizer(encoder), folder, {})
    ModelInfo(**FACTS).write(folder)
    return folder


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    generator = np.random.default_rng(4)

    def text() -> str:
        return " ".join(generator.choice(WORDS, size=generator.integers(1, 14)))

    return [{"a": text(), "b": f'{text()},\n"{text()}"', "topic": CLASSES[row % 3]} for row in range(50)]


@pytest.fixture(scope="module")
def expected(model: Path, rows: list[dict[str, str]]) -> np.ndarray:
    """Probabilities as transformers alone gives them, row by row."""
    alone = AutoModelForSequenceClassification.from_pretrained(model).eval()
    tokenizer = AutoTokenizer.from_pretrained(model)
    probabilities = []
    for row in rows:
        inputs = tokenizer(row["a"], row["b"], truncation=True, max_length=16, return_tensors="pt")
        with torch.no_grad():
            probabilities.append(alone(**inputs).logits[0].double().softmax(-1).numpy())
    return np.array(probabilities)


@pytest.fixture
def ftjobs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ftjobs", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
            sys.exit(0)
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run


def write(rows: list[dict[str, str]], name: str) -> Path:
    path = Path(name)
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=9)
    elif name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(row) + "\n\n" for row in rows))
    else:
        with gzip.open(path, "wt", newline="") if name.endswith(".gz") else path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if ".tsv" in name else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize("source", ["rows.csv", "rows.tsv.gz", "rows.jsonl", "rows.parquet"])
@pytest.mark.parametrize("out", ["new/out.csv", "out.jsonl", "out.parquet"])
def test_predict_reads_and_writes_every_format_in_chunks(
    ftjobs: Run,
    model: Path,
    rows: list[dict[str, str]],
    expected: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    out: str,
) -> None:
    monkeypatch.setattr(columns, "_BATCH_ROWS", 3)
    monkeypatch.setattr(inference, "_CHUNK_ROWS", 7)
    code, printed, err = ftjobs("predict", model, write(rows, source), "--out", out)
    assert code == 0, err
    assert printed == f"{out}\n"
    assert "50 rows; " in err
    assert "than 16 tokens" in err
    if out.endswith(".parquet"):
        predictions = pq.read_table(out).to_pylist()
    elif out.endswith(".jsonl"):
        predictions = [json.loads(line) for line in Path(out).read_text().splitlines()]
    else:
        predictions = list(csv.DictReader(Path(out).read_text().splitlines()))
    assert [int(row["row"]) for row in predictions] == list(range(50))
    assert [row["prediction"] for row in predictions] == [CLASSES[index] for index in expected.argmax(axis=1)]
    assert len({row["prediction"] for row in predictions}) > 1
    probabilities = [[float(row[f"probability_{name}"]) for name in CLASSES] for row in predictions]
    np.testing.assert_allclose(probabilities, expected, rtol=1e-3, atol=1e-5)


def test_evaluate_metrics_match_sklearn(
    ftjobs: Run, model: Path, rows: list[dict[str, str]], expected: np.ndarray
) -> None:
    code, printed, err = ftjobs("evaluate", model, write(rows, "rows.csv"), "--json")
    assert code == 0, err
    report = json.loads(printed)
    labels = np.arange(50) % 3
    right = int((expected.argmax(axis=1) == labels).sum())
    interval = binomtest(right, 50).proportion_ci(method="wilson")
    assert report["rows"] == 50
    assert report["accuracy"] == right / 50
    assert (report["interval"]["low"], report["interval"]["high"]) == pytest.approx((interval.low, interval.high))
    assert report["f1"] == pytest.approx(f1_score(labels, expected.argmax(axis=1), average="macro"))
    assert report["loss"] == pytest.approx(log_loss(labels, expected), rel=1e-4)
    table = ftjobs("evaluate", model, "rows.csv")[1].splitlines()
    assert table[1].split() == ["accuracy", f"{right / 50:.4f}", f"{interval.low:.4f}", "to", f"{interval.high:.4f}"]


def test_evaluate_reads_class_numbers_as_names(
    ftjobs: Run, model: Path, rows: list[dict[str, str]], expected: np.ndarray
) -> None:
    """Data sets store classes as numbers, with their names in the features."""
    kept = datasets.Dataset.from_list(rows).cast_column("topic", datasets.ClassLabel(names=CLASSES))
    kept.to_parquet("rows.parquet")
    assert pq.read_table("rows.parquet")["topic"].type == pa.int64()
    code, printed, err = ftjobs("evaluate", model, "rows.parquet", "--json")
    assert code == 0, err
    assert json.loads(printed)["accuracy"] == (expected.argmax(axis=1) == np.arange(50) % 3).mean()


def test_columns_can_be_renamed_and_are_required_without_model_info(
    ftjobs: Run, model: Path, rows: list[dict[str, str]], tmp_path: Path
) -> None:
    renamed = [{"x": row["a"], "y": row["b"], "z": row["topic"]} for row in rows]
    write(renamed, "renamed.csv")
    write(rows, "rows.csv")
    columns = ("--text", "x", "--text", "y")
    assert ftjobs("predict", model, "renamed.csv", *columns, "--out", "one.csv")[0] == 0
    assert ftjobs("predict", model, "rows.csv", "--out", "two.csv")[0] == 0
    assert Path("one.csv").read_bytes() == Path("two.csv").read_bytes()
    assert ftjobs("evaluate", model, "renamed.csv", *columns, "--label", "z")[0] == 0
    Path("lines.txt").write_text("a cold\n\nmy head\r\n")
    shutil.copytree(model, "bare")
    Path("bare/ftjobs.json").unlink()  # as any classifier from elsewhere
    assert ftjobs("predict", "bare", "lines.txt", "--text", "text", "--out", "lines.csv")[0] == 0
    assert len(Path("lines.csv").read_text().splitlines()) == 3
    code, _, err = ftjobs("predict", "bare", "lines.txt", "--out", "more.csv")
    assert code == 2
    assert mentions(err, "error: MODEL: ", "ftjobs.json", "--text")
    code, _, err = ftjobs("evaluate", "bare", "rows.csv", "--text", "a")
    assert code == 2
    assert mentions(err, "error: MODEL: ", "ftjobs.json", "--label")


def published(model: Path, folder: Path, store: str) -> Manifest:
    (folder / "job.yaml").write_text(JOB)
    run = select(plan(read(folder / "job.yaml")), "head", 1)
    shutil.copytree(model, folder / "output/model")
    return artifacts.publish(open_storage(store), run, folder / "output", {}, {})


def test_predict_loads_artifact_by_address_and_verifies_it(
    ftjobs: Run, model: Path, rows: list[dict[str, str]], tmp_path: Path
) -> None:
    manifest = published(model, tmp_path, "runs")
    write(rows, "rows.csv")
    for number, address in enumerate((manifest.key, f"runs/{manifest.key}", f"{tmp_path}/runs/{manifest.folder}")):
        code, _, err = ftjobs("predict", address, "rows.csv", "--out", f"{number}.csv")
        assert code == (2 if number == 0 else 0), err
    assert Path("1.csv").read_bytes() == Path("2.csv").read_bytes()
    damaged = tmp_path / "runs" / manifest.folder / "model/model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    code, _, err = ftjobs("predict", f"runs/{manifest.key}", "rows.csv", "--out", "3.csv")
    assert code == 1
    assert "another sha256" in err


def test_predict_loads_models_from_object_storage(
    ftjobs: Run, model: Path, rows: list[dict[str, str]], tmp_path: Path, s3: Any
) -> None:
    """An artifact, checked against its manifest, or any prefix that holds a checkpoint."""
    store = f"s3://{BUCKET}/{tmp_path.name}"
    manifest = published(model, tmp_path, store)
    write(rows, "rows.csv")
    for number, address in enumerate((str(model), f"{store}/{manifest.key}", f"{store}/{manifest.folder}/model")):
        code, _, err = ftjobs("predict", address, "rows.csv", "--out", f"{number}.csv")
        assert code == 0, err
    assert Path("0.csv").read_bytes() == Path("1.csv").read_bytes() == Path("2.csv").read_bytes()
    code, _, err = ftjobs("predict", f"{store}/nowhere", "rows.csv", "--out", "4.csv")
    assert code == 2
    assert err.splitlines()[-1].startswith(f"error: MODEL: no object at {store}/nowhere; ")


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("x.csv", "a,c\n1,2\n", ("x.csv: ", "'b' (--text)", "'a', 'c'")),
        ("x.csv", "a,b\n1,2,3\n", ("x.csv, line 2: 3 cell", "2 columns")),
        ("x.csv", "a,b\nx,y\nx,\n", ("x.csv: ", "'b' (--text)", "1 of 2 rows", "line 3", "fill in")),
        ("x.csv", 'a,b\n"x,y\n', ("x.csv, line 2: ", "quotes")),
        ("x.csv", "", ("x.csv: ", "empty", "header row")),
        ("x.csv", "a,b,a\nx,y,z\n", ("x.csv, line 1: ", "'a'", "more than once", "rename")),
        ("x.csv", "a,b\n", ("x.csv: ", "header row", "add rows")),
        ("x.csv", b"a,b\nx,\xff\n", ("x.csv, line 2: byte 0xff", "UTF-8")),
        ("x.jsonl", '{"a": "x", "b": 1}\n', ("x.jsonl, line 1: column 'b' is 1, a whole number", "--text", "a string")),
        ("x.jsonl", '{"a": "x"}\n', ("x.jsonl: ", "'b' (--text)", "'a'", "set --text")),
        ("x.jsonl", '{"a": "x", "b": "y"}\n{"a": "x"}\n', ("x.jsonl: ", "'b' (--text)", "1 of 2 rows")),
        ("x.jsonl", '{"a": "x", "b": "\\ud800"}\n', ("x.jsonl, line 1: column 'b' is '\\ud800'", "surrogate")),
        ("x.jsonl", "[1]\n", ("x.jsonl, line 1: is not a JSON object",)),
        ("x.jsonl", "{\n", ("x.jsonl, line 1: is not JSON",)),
        ("x.txt", "one\n", ("x.txt: ", "'a' (--text)", "'b' (--text)", "use csv")),
        ("x.parquet", "PAR1", ("x.parquet: ", "not a parquet file")),
        ("x.doc", "x", ("x.doc: ", "format", ".csv, .tsv")),
        (None, "", ("INPUT: ", "'absent.csv'", "looked at ")),
    ],
)
def test_invalid_input_is_a_one_line_error_without_output(
    ftjobs: Run, model: Path, tmp_path: Path, name: str | None, content: str | bytes, parts: tuple[str, ...]
) -> None:
    if name:
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    code, out, err = ftjobs("predict", model, name or "absent.csv", "--out", "out.csv")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {parts[0]}")
    assert mentions(err, *parts)
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


def test_invalid_outputs_models_and_labels_are_rejected(
    ftjobs: Run, model: Path, rows: list[dict[str, str]], make_encoder: Callable[..., Path], tmp_path: Path
) -> None:
    write(rows, "rows.csv")
    Path("there.csv").write_text("mine")
    for out, parts in (("there.csv", ("exists", "another name")), ("out.xlsx", ("format", ".csv, .jsonl, .parquet"))):
        code, printed, err = ftjobs("predict", model, "rows.csv", "--out", out)
        assert (code, printed) == (2, "")
        assert mentions(err, f"error: --out {out}: ", *parts)
    assert Path("there.csv").read_text() == "mine"
    encoder = make_encoder("bert", "mlm")
    code, _, err = ftjobs("predict", encoder, "rows.csv", "--out", "out.csv")
    assert code == 2
    assert mentions(err, str(encoder), "trained classifier", "bert.pooler.dense, classifier", "`classify`")
    code, _, err = ftjobs("predict", tmp_path, "rows.csv", "--out", "out.csv")
    assert code == 2
    assert "no config.json" in err
    write([*rows, {"a": "x", "b": "y", "topic": "flu"}], "more.csv")
    code, _, err = ftjobs("evaluate", model, "more.csv")
    assert code == 2
    assert mentions(err, "error: more.csv: ", "'topic'", "'flu'", "3 classes", "('cold', 'fever', 'rash')")
