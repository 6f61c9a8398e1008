"""Pipelines with numeric labels and with several labels per row."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import f1_score
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from ftjobs import predicting
from ftjobs.data import preparation, prepared
from ftjobs.errors import UserError
from ftjobs.execution.status import summarize
from ftjobs.jobfile.fields import Data, Split
from tests.helpers.families import WORDS
from tests.helpers.messages import mentions
from tests.helpers.pipelines import files_of, job_fields, run_job

TAGS = ["cold", "fever", "pain"]
SPLIT = Split(test_fraction=0.25)
OWN = {"source": "classes.csv", "text": "text", "label": "kind", "split": {"test_fraction": 0.2}}


def write(folder: Path) -> None:
    """Write a score (occurrences of `fever` minus `cold`) and the tags that occur in the text."""
    generator = random.Random(3)
    with (folder / "rows.csv").open("w", newline="") as file, (folder / "classes.csv").open("w", newline="") as other:
        rows, classes = csv.writer(file), csv.writer(other)
        rows.writerow(["text", "score", "tags", *TAGS])
        classes.writerow(["text", "kind"])
        for row in range(120):
            words = [*generator.choices(WORDS, k=4), *generator.choices(TAGS, k=generator.randint(0, 2))]
            generator.shuffle(words)
            score = words.count("fever") - words.count("cold") + generator.gauss(0, 0.05)
            flags = [int(tag in words) for tag in TAGS]
            rows.writerow([f"{row} {' '.join(words)}", round(score, 4), "|".join({*TAGS} & {*words}), *flags])
            classes.writerow([" ".join(generator.choices(WORDS, k=5)), "ab"[row % 2]])


STAGES = {
    "first": {"kind": "classify", "data": OWN, "epochs": 1},
    "head": {"kind": "classify", "freeze_encoder": True},
    "after": {"kind": "classify", "encoder": "first"},
}


def ran(folder: Path, encoder: Path, data: dict[str, Any], epochs: int = 4, **changes: Any) -> Any:
    write(folder)
    data = {"source": "rows.csv", "text": "text", "split": SPLIT.model_dump(include={"test_fraction"}), **data}
    stages = {**STAGES, "full": {"kind": "classify", "epochs": epochs}}
    fields = job_fields(encoder, data=data, stages=stages, seeds=[1, 2], **changes)
    fields["defaults"]["classify"] = {"epochs": 2, "learning_rate": 3e-3}
    return (folder, *run_job(folder, fields, folder / "store"))


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory, make_encoder: Callable[..., Path]) -> Any:
    data = {"label": "score", "label_type": "float"}
    folder = tmp_path_factory.mktemp("numbers")
    return ran(folder, make_encoder("bert"), data, hypotheses=["full > head by 0.01", "after > full by 500"])


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory, make_encoder: Callable[..., Path]) -> Any:
    data = {"label": "tags", "label_type": "multi", "label_separator": "|"}
    folder = tmp_path_factory.mktemp("several")
    return ran(folder, make_encoder("bert"), data, epochs=12, hypotheses=["full > head"])


def model_of(job: Any, title: str) -> Path:
    _, storage, manifests = job
    folder: Path = storage.root / manifests[title].folder
    return folder


def plain_outputs(folder: Path, texts: list[str]) -> np.ndarray:
    """Predict with transformers alone."""
    model = AutoModelForSequenceClassification.from_pretrained(folder / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    with torch.no_grad():
        return np.concatenate([model(**tokenizer(text, return_tensors="pt")).logits.numpy() for text in texts])


class TestNumbers:
    def test_are_learnt_and_the_published_model_gives_the_figures(self, numbers: Any) -> None:
        folder = model_of(numbers, "full seed 1")
        metrics = numbers[2]["full seed 1"].metrics
        assert metrics["pearson"] > 0.5
        test = pq.read_table(model_of(numbers, "prepare") / "data/test.parquet")
        outputs, labels = plain_outputs(folder, test["text"].to_pylist())[:, 0], test["label"].to_numpy()
        assert metrics["mse"] == pytest.approx(((outputs - labels) ** 2).mean(), rel=1e-3)
        assert metrics["pearson"] == pytest.approx(pearsonr(outputs, labels).statistic, abs=1e-3)
        assert metrics["spearman"] == pytest.approx(spearmanr(outputs, labels).statistic, abs=2e-2)
        config = json.loads((folder / "model/config.json").read_text())
        assert (config["problem_type"], config["id2label"]) == ("regression", {"0": "score"})
        table = pq.read_table(folder / "predictions.parquet")
        assert table["prediction"].to_numpy() == pytest.approx(outputs, abs=1e-4)
        assert table["label"].to_numpy().tolist() == labels.tolist()
        epochs = json.loads((folder / "metrics.json").read_text())["epochs"]
        errors = [epoch["test"]["mse"] for epoch in epochs]
        assert metrics["best_epoch"] == 1 + errors.index(min(errors))

    def test_report_compares_mean_squared_errors(self, numbers: Any) -> None:
        _, storage, manifests = numbers
        files = files_of(storage, manifests["report"])
        report, text = json.loads(files["report.json"]), files["report.md"].decode()
        assert report["data"]["label_type"] == "float"
        full = next(row for row in report["results"] if row["stage"] == "full")
        assert full["mse"]["mean"] == pytest.approx(
            np.mean([manifests[f"full seed {seed}"].metrics["mse"] for seed in (1, 2)])
        )
        assert full["mse"]["interval"][0] <= full["mse"]["mean"] <= full["mse"]["interval"][1]
        assert "mean squared error" in text
        assert "| Pearson" in " ".join(text.split())
        assert "McNemar" not in text
        assert "Wilcoxon" in text
        assert "confusion" not in text
        assert "accuracy, %" not in text.partition("## Intermediate tasks")[0]
        lowest = min(report["results"], key=lambda row: row["selection_mse"]["mean"])
        assert report["to_ship"]["stage"] == lowest["stage"]
        impossible = report["hypotheses"][1]
        assert impossible["verdict"] == "contradicted"
        head = next(row for row in report["results"] if row["stage"] == "head")
        assert report["hypotheses"][0]["difference"] == pytest.approx(head["mse"]["mean"] - full["mse"]["mean"])
        constant = next(caveat["figures"] for caveat in report["caveats"] if caveat["kind"] == "constant answer")
        train, test = (
            pq.read_table(model_of(numbers, "prepare") / f"data/{split}.parquet")["label"].to_numpy()
            for split in ("train", "test")
        )
        assert constant["level"] == pytest.approx(((test - train.mean()) ** 2).mean())
        assert manifests["report"].metrics["stages"]["full"] == full["mse"]
        written = pq.read_table(storage.root / manifests["report"].folder / "predictions.parquet")
        assert written["prediction"].type == "double"
        assert len(written) == 3 * 2 * len(test)

    def test_cards_and_words(self, numbers: Any) -> None:
        card = (model_of(numbers, "full seed 1") / "model/README.md").read_text()
        assert mentions(card, "regression model", "`score`", "(`text`)")
        assert "type: pearsonr" in card
        assert "lowest mean squared" in card
        assert summarize(numbers[2]["full seed 1"]).startswith("mean squared error ")

    def test_are_predicted_and_evaluated(self, numbers: Any, tmp_path: Path) -> None:
        folder = model_of(numbers, "full seed 1")
        classifier = predicting.Classifier.load(str(folder / "model"), tmp_path)
        rows, _ = predicting.predict(classifier, str(numbers[0] / "rows.csv"), None, tmp_path / "out.parquet")
        table = pq.read_table(tmp_path / "out.parquet")
        assert table.schema.names == ["row", "prediction"]
        with (numbers[0] / "rows.csv").open(newline="") as file:
            test_rows = list(csv.DictReader(file))
        expected = plain_outputs(folder, [row["text"] for row in test_rows])[:, 0]
        assert rows == len(test_rows)
        assert table["prediction"].to_numpy() == pytest.approx(expected, abs=1e-4)
        evaluation = predicting.evaluate(classifier, str(numbers[0] / "rows.csv"), None, None)
        errors = (expected - [float(row["score"]) for row in test_rows]) ** 2
        assert evaluation.metrics["mse"] == pytest.approx(errors.mean(), rel=1e-3)
        assert evaluation.interval.low < errors.mean() < evaluation.interval.high


class TestSeveral:
    def test_are_learnt_and_the_published_model_gives_the_figures(self, several: Any) -> None:
        folder = model_of(several, "full seed 1")
        metrics = several[2]["full seed 1"].metrics
        assert metrics["f1"] > 0.5
        test = pq.read_table(model_of(several, "prepare") / "data/test.parquet")
        flags = np.array(test["label"].to_pylist())
        predicted = plain_outputs(folder, test["text"].to_pylist()) >= 0
        assert metrics["accuracy"] == (predicted == flags).all(axis=1).mean()
        assert metrics["f1"] == pytest.approx(f1_score(flags, predicted, average="micro"))
        config = json.loads((folder / "model/config.json").read_text())
        assert config["problem_type"] == "multi_label_classification"
        assert list(config["id2label"].values()) == TAGS
        table = pq.read_table(folder / "predictions.parquet")
        tags = [[tag for tag, flag in zip(TAGS, row, strict=True) if flag] for row in predicted]
        assert table["prediction"].to_pylist() == tags
        assert len(table["probabilities"][0].as_py()) == 3

    def test_column_of_names_equals_one_column_per_label(self, several: Any, tmp_path: Path) -> None:
        write(tmp_path)
        flags = Data(source=str(tmp_path / "rows.csv"), text="text", label=TAGS, label_type="multi", split=SPLIT)
        data, _ = preparation.prepare_data(flags, tmp_path / "out")
        names = prepared.read(model_of(several, "prepare") / "data")
        assert data.classes == names.classes == TAGS
        for split, rows in data.splits.items():
            assert np.array_equal(np.asarray(rows.labels), np.asarray(names.splits[split].labels))

    def test_report_has_f1_scores_and_no_confusion(self, several: Any) -> None:
        _, storage, manifests = several
        files = files_of(storage, manifests["report"])
        report, text = json.loads(files["report.json"]), files["report.md"].decode()
        assert report["confusion"] == report["calibration"] == []
        assert "F1 micro, %" in text
        assert "McNemar" in text
        full = next(row for row in report["results"] if row["stage"] == "full")
        assert {"accuracy", "f1", "f1_macro"} <= full.keys()
        assert any(caveat["kind"] == "constant answer" for caveat in report["caveats"])
        test = pq.read_table(model_of(several, "prepare") / "data/test.parquet")
        flags = np.array(test["label"].to_pylist())
        names = pq.read_table(model_of(several, "full seed 2") / "predictions.parquet")["prediction"].to_pylist()
        predicted = np.array([[tag in row_tags for tag in TAGS] for row_tags in names])
        for label in report["labels"]:
            index = TAGS.index(label["label"])
            assert label["rows"]["test"] == flags[:, index].sum()
            f1 = [f1_score(flags[:, index], predicted[:, index], zero_division=0.0)]
            first = pq.read_table(model_of(several, "full seed 1") / "predictions.parquet")["prediction"].to_pylist()
            f1.append(f1_score(flags[:, index], [label["label"] in names for names in first], zero_division=0.0))
            assert label["strategies"]["full"]["f1"]["mean"] == pytest.approx(np.mean(f1))
        assert "## Labels" in text
        written = pq.read_table(storage.root / manifests["report"].folder / "predictions.parquet")
        assert set(written["prediction"][0].as_py()) <= set(TAGS)

    def test_are_predicted_and_evaluated(self, several: Any, tmp_path: Path) -> None:
        classifier = predicting.Classifier.load(str(model_of(several, "full seed 1") / "model"), tmp_path)
        source = str(several[0] / "rows.csv")
        for end in (".csv", ".jsonl", ".parquet"):
            predicting.predict(classifier, source, None, tmp_path / f"out{end}")
        table = pq.read_table(tmp_path / "out.parquet")
        assert table.schema.names == ["row", "prediction", *(f"probability_{tag}" for tag in TAGS)]
        with (tmp_path / "out.csv").open(newline="") as file:
            joined = [row["prediction"] for row in csv.DictReader(file)]
        lines = [json.loads(line)["prediction"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
        assert lines == table["prediction"].to_pylist() == [cell.split("|") if cell else [] for cell in joined]
        names = predicting.evaluate(classifier, source, None, None)
        columns = predicting.evaluate(classifier, source, None, TAGS)
        assert names == columns
        with pytest.raises(UserError, match=r"--label .*its 3 labels"):
            predicting.evaluate(classifier, source, None, TAGS[:2])
        card = (model_of(several, "full seed 1") / "model/README.md").read_text()
        assert "of 3 labels" in card
        assert "top_k=None" in card


def test_label_separator_changes_the_identity() -> None:
    data = Data(source="a.csv", text="q", label="t", label_type="multi")
    assert not data.same_as(Data(source="a.csv", text="q", label="t", label_type="multi", label_separator=";"))
