"""Pipelines on a toy encoder: artifacts are correct, reproducible and loadable."""

from __future__ import annotations

import csv
import json
import logging
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer

from ftjobs import artifacts
from ftjobs.execution import runner
from ftjobs.jobfile.read import read
from ftjobs.models import checkpoints
from ftjobs.plan import plan, select
from ftjobs.storage import open_storage
from tests.fakes.hub import Hub
from tests.fakes.s3_server import BUCKET, S3Server
from tests.helpers.families import WORDS
from tests.helpers.pipelines import CLASSES, files_of, job_fields, run_job, write_rows


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, make_encoder: Callable[..., Path]) -> Any:
    """Run a pipeline on an encoder with a pooler. Returns its folder, fields, storage and manifests."""
    folder = tmp_path_factory.mktemp("job")
    fields = job_fields(make_encoder("bert", "pretraining"))
    storage, manifests = run_job(folder, fields, folder / "store")
    return folder, fields, storage, manifests


def test_job_gives_the_same_bytes_in_another_folder(job: Any, tmp_path: Path) -> None:
    folder, fields, storage, manifests = job
    shutil.copy(folder / "rows.csv", tmp_path)
    again, others = run_job(tmp_path, fields, tmp_path / "other-store")
    assert {title: manifest.identity for title, manifest in others.items()} == {
        title: manifest.identity for title, manifest in manifests.items()
    }
    for title, manifest in manifests.items():
        first, second = files_of(storage, manifest), files_of(again, others[title])
        assert first.keys() == second.keys()
        measured = {"timing.json", "report.md", "report.json", "report.html"}  # hold how long it took
        differing = {path for path in first if first[path] != second[path]}
        assert differing <= measured, title


def test_artifacts_have_no_local_paths(job: Any) -> None:
    folder, _, storage, manifests = job
    for title, manifest in manifests.items():
        for path, content in files_of(storage, manifest).items():
            assert str(folder).encode() not in content, (title, path)
            assert b"/tmp/" not in content, (title, path)


def test_published_stages_are_skipped(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, fields, storage, manifests = job
    monkeypatch.setattr(runner, "run_stage", lambda run, storage: pytest.fail(f"{run.title} ran again"))
    _, again = run_job(folder, fields, storage.root)
    assert again == manifests


def test_changed_stage_reruns_dependent_stages_only(job: Any, tmp_path: Path) -> None:
    folder, fields, storage, manifests = job
    changed = json.loads(json.dumps(fields))
    changed["stages"]["adapt"]["learning_rate"] = 2e-3
    _, others = run_job(folder, changed, storage.root)
    rerun = {title for title in manifests if manifests[title].identity != others[title].identity}
    assert rerun == {"adapt seed 1", "adapted-head seed 1", "adapted-behavioural seed 1", "report"}
    kept = {title for title in manifests if manifests[title] == others[title]}
    assert kept == set(manifests) - rerun


def test_pooler_is_unchanged_by_adapting_and_freezing(job: Any) -> None:
    _, fields, storage, manifests = job
    original = checkpoints.read_weights(Path(fields["encoder"]["model"]))
    for title in ("head seed 1", "adapted-head seed 1"):
        trained = checkpoints.read_weights(storage.root / manifests[title].folder / "model")
        for part in ("weight", "bias"):
            name = f"bert.pooler.dense.{part}"
            assert trained[name].numpy().tobytes() == original[name].numpy().tobytes()
        assert manifests[title].metrics["newly_initialised"] == ["classifier.bias", "classifier.weight"]


def test_frozen_encoder_is_unchanged_and_others_are_trained(job: Any) -> None:
    _, _, storage, manifests = job

    def weights(title: str) -> dict[str, torch.Tensor]:
        tensors = checkpoints.read_weights(storage.root / manifests[title].folder / "model")
        return {name: value for name, value in tensors.items() if name.startswith("bert.")}

    for encoder, frozen, tuned in (
        ("prepare", "head seed 1", "behavioural seed 1"),
        ("adapt seed 1", "adapted-head seed 1", "adapted-behavioural seed 1"),
    ):
        before = weights(encoder)
        for name, value in weights(frozen).items():
            assert value.numpy().tobytes() == before[name].numpy().tobytes(), name
        assert any(not torch.equal(value, before[name]) for name, value in weights(tuned).items())


def test_adapted_encoder_can_be_adapted_again(job: Any) -> None:
    _, _, storage, manifests = job
    folder = storage.root / manifests["adapt seed 1"].folder / "model"
    original = checkpoints.read_weights(storage.root / manifests["prepare"].folder / "model")
    adapted = checkpoints.read_weights(folder)
    assert set(original) <= set(adapted)
    _, loading = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not loading["missing_keys"]
    metrics = manifests["adapt seed 1"].metrics
    assert metrics["best"]["loss"] < metrics["before"]["loss"]
    assert metrics["texts"] == 2 * 72
    assert metrics["newly_initialised"] == []


@pytest.mark.parametrize("stage", ["head", "behavioural", "adapted-head", "adapted-behavioural"])
def test_published_classifier_reproduces_the_metrics_of_its_manifest(job: Any, stage: str, tmp_path: Path) -> None:
    _, _, storage, manifests = job
    manifest = manifests[f"{stage} seed 1"]
    artifacts.pull(storage, manifest, tmp_path / "pulled")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "pulled").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "pulled")
    assert model.config.id2label == dict(enumerate(CLASSES))
    test = pq.read_table(storage.root / manifests["prepare"].folder / "data/test.parquet").to_pydict()
    predicted, probabilities = [], []
    for text, pair in zip(test["text"], test["text_pair"], strict=True):
        with torch.no_grad():
            logits = model(**tokenizer(text, pair, truncation=True, return_tensors="pt")).logits[0]
        predicted.append(int(logits.argmax()))
        probabilities.append(logits.softmax(-1).numpy())
    metrics = manifest.metrics
    assert accuracy_score(test["label"], predicted) == metrics["accuracy"]
    assert f1_score(test["label"], predicted, average="macro", zero_division=0.0) == pytest.approx(metrics["f1"])
    loss = -np.log([row[label] for row, label in zip(probabilities, test["label"], strict=True)]).mean()
    assert loss == pytest.approx(metrics["loss"], rel=1e-4)
    stored = pq.read_table(storage.root / manifest.folder / "predictions.parquet").to_pydict()
    assert stored["id"] == test["id"]
    assert stored["label"] == [CLASSES[label] for label in test["label"]]
    assert stored["prediction"] == [CLASSES[label] for label in predicted]
    np.testing.assert_allclose(stored["probabilities"], probabilities, rtol=1e-3, atol=1e-5)


def test_metrics_have_best_and_last_epoch(job: Any) -> None:
    _, _, storage, manifests = job
    manifest = manifests["behavioural seed 1"]
    content = json.loads(files_of(storage, manifest)["metrics.json"])
    assert [record["epoch"] for record in content["epochs"]] == [1, 2]
    scores = [record["test"]["accuracy"] for record in content["epochs"]]
    assert content["best_epoch"] == 1 + int(np.argmax(scores))
    assert content["accuracy"] == max(scores)
    assert content["last"] == content["epochs"][-1]["test"]
    assert content["selected_on"] == "test"


def test_prepare_publishes_a_summary_of_the_data(job: Any) -> None:
    folder, _, storage, manifests = job
    summary = json.loads(files_of(storage, manifests["prepare"])["data/data.json"])
    assert summary["classes"] == CLASSES
    assert summary["rows"] == {"train": 72, "test": 18}
    assert sum(summary["labels"]["train"].values()) == 72
    assert summary["overlap"]["test"]["rows_in_training"] == 0
    train = pq.read_table(storage.root / manifests["prepare"].folder / "data/train.parquet").to_pydict()
    tokenizer = AutoTokenizer.from_pretrained(storage.root / manifests["prepare"].folder / "model")
    lengths = [len(tokenizer(*pair).input_ids) for pair in zip(train["text"], train["text_pair"], strict=True)]
    assert summary["tokens"]["train"]["total"] == sum(lengths)
    assert summary["tokens"]["train"]["max"] == max(lengths)
    with (folder / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [rows[index]["question"] for index in train["id"]] == train["text"]


def test_report_has_the_figures_of_all_stages(job: Any) -> None:
    _, _, storage, manifests = job
    files = files_of(storage, manifests["report"])
    content = json.loads(files["report.json"])
    for row in content["results"]:
        metrics = manifests[f"{row['stage']} seed 1"].metrics
        assert (row["accuracy"]["mean"], row["accuracy"]["sd"]) == (metrics["accuracy"], None)
        assert row["seeds"]["1"]["best_epoch"] == metrics["best_epoch"]
    first = content["hypotheses"][0]
    accuracy = {row["stage"]: row["accuracy"]["mean"] for row in content["results"]}
    assert first["difference"] == pytest.approx(accuracy["adapted-head"] - accuracy["head"])
    text = files["report.md"].decode()
    assert re.search(rf"^\| [`*]+head[`*]+ +\| +[*]*{100 * accuracy['head']:.2f}[*]* \|", text, re.MULTILINE)
    caveats = {caveat["kind"]: caveat["figures"] for caveat in content["caveats"]}
    assert caveats["selection"]["selected_on"] == "test"
    assert caveats["one seed"] == {"seeds": [1]}


def test_missing_pooler_is_initialized_trained_and_logged(
    make_encoder: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fields = job_fields(make_encoder("bert", "mlm"), hypotheses=[])
    fields["stages"] = {name: fields["stages"][name] for name in ("adapt", "adapted-head")}
    logging.getLogger("ftjobs").propagate = True
    with caplog.at_level(logging.INFO, logger="ftjobs"):
        storage, manifests = run_job(tmp_path, fields, tmp_path / "store")
    assert ": bert.pooler.dense, classifier" in caplog.text
    adapted = checkpoints.read_weights(storage.root / manifests["adapt seed 1"].folder / "model")
    assert not [name for name in adapted if "pooler" in name]
    assert "bert.pooler.dense.weight" in manifests["adapted-head seed 1"].metrics["newly_initialised"]


def test_scratch_validation_seeds_and_all_texts(tmp_path: Path) -> None:
    """An encoder from scratch, a validation split for selection, two seeds, and texts of all splits."""
    fields = job_fields(None, seeds=[1, 2], hypotheses=["adapted > plain"])
    fields["data"]["split"] = {"test_fraction": 0.2, "validation_fraction": 0.25, "group_by": "connected"}
    fields["stages"] = {
        "plain": {"kind": "classify", "metric_for_best": "loss"},
        "adapt": {"kind": "adapt", "corpus": "all", "epochs": 1},
        "adapted": {"kind": "classify", "encoder": "adapt", "freeze_encoder": True, "encoder_dropout": True},
    }
    storage, manifests = run_job(tmp_path, fields, tmp_path / "store")
    assert manifests["adapt seed 1"].metrics["texts"] == 2 * 90
    assert manifests["adapt seed 1"].metrics["evaluation_texts_also_trained_on"]
    for seed in (1, 2):
        metrics = json.loads(files_of(storage, manifests[f"plain seed {seed}"])["metrics.json"])
        assert metrics["selected_on"] == "validation"
        losses = [record["validation"]["loss"] for record in metrics["epochs"]]
        assert metrics["best_epoch"] == 1 + int(np.argmin(losses))
    first, second = (files_of(storage, manifests[f"plain seed {seed}"])["model/model.safetensors"] for seed in (1, 2))
    assert first != second
    report = files_of(storage, manifests["report"])["report.md"].decode()
    assert " ± " in report
    content = json.loads(files_of(storage, manifests["report"])["report.json"])
    (selection,) = [caveat for caveat in content["caveats"] if caveat["kind"] == "selection"]
    assert selection["figures"]["selected_on"] == "validation"
    assert content["adaptation"][0]["evaluation_texts_also_trained_on"]


def test_single_text_column_with_integer_labels(make_encoder: Callable[..., Path], tmp_path: Path) -> None:
    rows = [json.dumps({"text": f"{WORDS[i % 40]} {WORDS[i % 7]}", "label": 10 * (i % 2)}) for i in range(40)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    fields = job_fields(make_encoder("bert", "mlm"), hypotheses=[])
    fields["data"] = {"source": "rows.jsonl", "text": "text", "label": "label", "split": {"test_fraction": 0.25}}
    fields["stages"] = {"behavioural": {"kind": "classify"}}
    storage, manifests = run_job(tmp_path, fields, tmp_path / "store")
    config = json.loads(files_of(storage, manifests["behavioural seed 1"])["model/config.json"])
    assert config["id2label"] == {"0": "0", "1": "10"}


def test_job_without_labels_adapts_only(make_encoder: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("\n".join(" ".join(WORDS[i : i + 6]) for i in range(30)))
    fields = job_fields(make_encoder("distilbert", "mlm"), hypotheses=[])
    fields["data"] = {"source": "corpus.txt", "text": "text", "split": {"test_fraction": 0.2}}
    fields["stages"] = {"adapt": {"kind": "adapt"}}
    storage, manifests = run_job(tmp_path, fields, tmp_path / "store")
    report = files_of(storage, manifests["report"])["report.md"].decode()
    assert "## Adaptation" in report
    assert "## Results" not in report


def test_classifier_may_start_from_a_classifier(job: Any) -> None:
    folder, fields, storage, _ = job
    chained = json.loads(json.dumps(fields))
    chained["stages"]["again"] = {"kind": "classify", "encoder": "behavioural", "epochs": 1}
    _, manifests = run_job(folder, chained, storage.root)
    assert manifests["again seed 1"].metrics["newly_initialised"] == []


def test_single_stages_need_published_inputs(job: Any, tmp_path: Path) -> None:
    folder, *_ = job
    runs = plan(read(folder / "job.yaml"))
    from ftjobs.errors import InputsNotPublished

    with pytest.raises(InputsNotPublished, match=r"(prepare|adapt seed 1) is not published at .*; run it first"):
        runner.run_stage(select(runs, "adapted-head"), open_storage(str(tmp_path / "empty")))
    assert not (tmp_path / "empty").exists()


@pytest.fixture(autouse=True)
def _plain_log() -> Iterator[None]:
    yield
    logging.getLogger("ftjobs").handlers.clear()


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_stages_after_prepare_do_not_access_the_hub(
    hub: Hub, make_encoder: Callable[..., Path], tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    """The hub is down, its cache is removed, and offline mode is not set."""
    if kind == "s3":
        request.getfixturevalue("s3")
    write_rows(tmp_path / "rows.csv")
    encoder = {path.name: path.read_bytes() for path in make_encoder("bert", "mlm").iterdir()}
    hub.add("main", "d" * 40, {"train.csv": (tmp_path / "rows.csv").read_bytes(), **encoder})
    fields = job_fields(None, hypotheses=[])
    fields["encoder"] = {"model": "me/bert"}
    fields["data"]["source"] = "me/pairs"
    fields["stages"] = {name: fields["stages"][name] for name in ("adapt", "adapted-head")}
    (tmp_path / "job.yaml").write_text(json.dumps(fields))
    store = open_storage(f"s3://{BUCKET}/{tmp_path.name}" if kind == "s3" else str(tmp_path / "store"))
    runs = plan(read(tmp_path / "job.yaml"))
    runner.run_stage(runs[0], store)
    assert "model.safetensors" in hub.served
    hub.failing, hub.request_count = True, 0
    shutil.rmtree(tmp_path / "cache")
    manifests = runner.run_all(runs, store)
    assert [manifest.kind for manifest in manifests] == ["prepare", "adapt", "classify", "report"]
    assert hub.request_count == 0


def test_copied_model_folder_is_a_checkpoint(s3: S3Server, make_encoder: Callable[..., Path], tmp_path: Path) -> None:
    """Copy `model/` below the address that `ls` prints, like `aws s3 cp --recursive`."""
    write_rows(tmp_path / "rows.csv")
    fields = job_fields(make_encoder("bert", "mlm"), hypotheses=[])
    (tmp_path / "job.yaml").write_text(json.dumps(fields))
    store = open_storage(f"s3://{BUCKET}/{tmp_path.name}")
    for run in (select(plan(read(tmp_path / "job.yaml")), name) for name in ("prepare", "adapt", "adapted-head")):
        manifest = runner.run_stage(run, store)
        bucket, _, prefix = f"{store.uri(manifest.folder)}/model/".removeprefix("s3://").partition("/")
        copy, client = tmp_path / run.stage, s3.client()
        copy.mkdir()
        for entry in client.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]:
            client.download_file(bucket, entry["Key"], str(copy / entry["Key"].removeprefix(prefix)))
        auto_class = AutoModelForSequenceClassification if run.kind == "classify" else AutoModelForMaskedLM
        _, loading = auto_class.from_pretrained(copy, output_loading_info=True)
        assert not loading["missing_keys"]
        assert AutoTokenizer.from_pretrained(copy)("fever").input_ids
