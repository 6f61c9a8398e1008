"""Intermediate tasks: a classifier on separate data, whose encoder a later stage uses."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ftjobs import artifacts
from ftjobs.data import prepared
from ftjobs.data.overlap import normalize
from ftjobs.errors import UserError
from ftjobs.execution import runner
from ftjobs.jobfile.read import read
from ftjobs.models import checkpoints
from ftjobs.plan import plan
from ftjobs.storage import open_storage
from tests.fakes.s3_server import BUCKET, S3Server
from tests.helpers.families import WORDS
from tests.helpers.pipelines import files_of, job_fields, run_job, write_rows

KINDS = ["dose", "head", "pain", "test"]
OWN = {"source": "own/rows.csv", "text": "said", "label": "kind", "split": {"test_fraction": 0.2}}
STAGES = {
    "nli": {"kind": "classify", "data": OWN},
    "nli-head": {"kind": "classify", "data": OWN, "freeze_encoder": True},
    "plain": {"kind": "classify"},
    "after": {"kind": "classify", "encoder": "nli"},
    "after-head": {"kind": "classify", "encoder": "nli", "freeze_encoder": True},
}


def write_own(path: Path, taken: list[str], rows: int = 60) -> None:
    """Write texts of four classes, the first ones from the job; the file has the name of the job's file."""
    generator = random.Random(6)
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["said", "kind"])
        for row in range(rows):
            text = f"own {row} {' '.join(generator.choices(WORDS, k=5))}"
            writer.writerow([taken[row] if row < len(taken) else text, KINDS[row % 4]])


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, make_encoder: Callable[..., Path]) -> Any:
    folder = tmp_path_factory.mktemp("intermediate")
    write_rows(folder / "rows.csv")
    with (folder / "rows.csv").open(newline="") as file:
        texts = [row["question"].upper() for row in csv.DictReader(file)]
    write_own(folder / "own/rows.csv", texts[::3])
    fields = job_fields(make_encoder("bert", "pretraining"), stages=STAGES, hypotheses=["after > plain"])
    storage, manifests = run_job(folder, fields, folder / "store")
    return folder, fields, storage, manifests


def test_intermediate_stage_trains_on_its_data_and_provides_its_encoder(job: Any) -> None:
    _, _, storage, manifests = job
    assert manifests["nli-data"].metrics["rows"] == {"train": 48, "test": 12}
    weights = {
        title: checkpoints.read_weights(storage.root / manifests[title].folder / "model")
        for title in ("prepare", "nli seed 1", "after seed 1", "after-head seed 1")
    }
    shapes = {title: tensors["classifier.weight"].shape[0] for title, tensors in weights.items() if title != "prepare"}
    assert shapes == {"nli seed 1": 4, "after seed 1": 3, "after-head seed 1": 3}
    assert manifests["after seed 1"].metrics["newly_initialised"] == ["classifier.bias", "classifier.weight"]
    encoder = "bert.encoder.layer.0.output.dense.weight"
    assert (weights["after-head seed 1"][encoder] == weights["nli seed 1"][encoder]).all()
    assert (weights["nli seed 1"][encoder] != weights["prepare"][encoder]).any()
    assert (
        checkpoints.class_names(checkpoints.load_config(storage.root / manifests["nli seed 1"].folder / "model"))
        == KINDS
    )


def test_report_lists_intermediate_stages_separately(job: Any) -> None:
    folder, _, storage, manifests = job
    files = files_of(storage, manifests["report"])
    report = json.loads(files["report.json"])
    assert [row["stage"] for row in report["results"]] == ["plain", "after", "after-head"]
    assert [row["stage"] for row in report["intermediate"]] == ["nli", "nli-head"]
    nli = report["intermediate"][0]
    assert nli["taken_by"] == ["after", "after-head"]
    assert nli["accuracy"]["mean"] == manifests["nli seed 1"].metrics["accuracy"]
    assert (nli["rows"], nli["classes"]) == ({"train": 48, "test": 12}, KINDS)
    assert [finding["intermediate"] for finding in report["does_adapting_pay"]] == [True]  # no frozen twin
    assert "## Intermediate tasks" in files["report.md"].decode()
    resolved = yaml.safe_load(files["job.yaml"])
    assert resolved["stages"]["nli"]["data"]["source"] == "nli-data/rows.csv"
    assert report["what_was_run"]["local_files"]["stages.nli.data.source"] == "nli-data/rows.csv"
    for content in (files["report.html"], files["report.json"], files["job.yaml"]):
        assert str(folder).encode() not in content


def test_overlap_with_test_texts_is_counted(job: Any) -> None:
    _, _, storage, manifests = job
    data, jobs = (prepared.read(storage.root / manifests[name].folder / "data") for name in ("nli-data", "prepare"))
    seen = {normalize(text) for text in data.splits["train"].all_texts}
    test = jobs.splits["test"]
    expected = sum(any(normalize(column[row]) in seen for column in test.columns) for row in range(len(test)))
    assert expected > 0
    report = json.loads(files_of(storage, manifests["report"])["report.json"])
    (caveat,) = [finding for finding in report["caveats"] if finding["kind"] == "intermediate task"]
    assert caveat["figures"]["rows_in_training"] == expected
    assert f"**{expected} of {len(test)} test rows" in caveat["text"]
    assert "`nli`**" in caveat["text"]
    assert set(caveat["figures"]["accuracy"]) == {"after", "after-head"}


def test_cards_describe_the_data_of_their_stage(job: Any, tmp_path: Path) -> None:
    """The job file in the card of the last stage gives the same identity."""
    folder, fields, storage, manifests = job
    card = files_of(storage, manifests["nli seed 1"])["model/README.md"].decode()
    assert "into 4 classes" in card
    assert "| `dose` |" in card
    facts = json.loads(files_of(storage, manifests["nli seed 1"])["model/ftjobs.json"])
    assert (facts["text_columns"], facts["label_column"], facts["classes"]) == (["said"], "kind", KINDS)
    card = files_of(storage, manifests["after seed 1"])["model/README.md"].decode()
    assert "into 3 classes" in card
    assert "| `nli-data` | data splits |" in card
    assert "by way of `nli`" in card
    (tmp_path / "job.yaml").write_text(card.rpartition("```yaml\n")[2].partition("```")[0])
    (tmp_path / "nli-data").mkdir()
    (tmp_path / "nli-data/rows.csv").write_bytes((folder / "own/rows.csv").read_bytes())
    (tmp_path / "rows.csv").write_bytes((folder / "rows.csv").read_bytes())
    model = Path(fields["encoder"]["model"])
    (tmp_path / model.name).symlink_to(model)
    identities = {run.title: run.identity for run in plan(read(tmp_path / "job.yaml"))}
    for title in ("prepare", "nli-data", "nli seed 1", "after seed 1"):
        assert identities[title] == manifests[title].identity, title


def test_store_commands_show_intermediate_stages(job: Any, tmp_path: Path) -> None:
    _, _, storage, manifests = job
    assert all(not artifacts.verify(storage, manifest.key) for manifest in manifests.values())
    artifacts.pull(storage, manifests["nli-data"], tmp_path / "pulled")
    assert (tmp_path / "pulled/data/train.parquet").is_file()


def test_errors_of_separate_data_name_the_stage(job: Any, tmp_path: Path) -> None:
    folder, fields, _, _ = job
    stages = {**STAGES, "nli": {"kind": "classify", "data": {**OWN, "label": "sort"}}}
    (tmp_path / "own").mkdir()
    (tmp_path / "own/rows.csv").write_bytes((folder / "own/rows.csv").read_bytes())
    with pytest.raises(UserError, match=r"^stage `nli`: .*rows.csv: .*'sort' \(data.label\)"):
        run_job(tmp_path, {**fields, "stages": stages}, tmp_path / "store")


def test_job_with_intermediate_stages_only_has_a_report(job: Any, tmp_path: Path) -> None:
    folder, fields, _, manifests = job
    (tmp_path / "own").mkdir()
    for name in ("rows.csv", "own/rows.csv"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    alone = {**fields, "stages": {"nli-head": STAGES["nli-head"]}, "hypotheses": []}
    storage, alone_manifests = run_job(tmp_path, alone, tmp_path / "store")
    assert alone_manifests["nli-head seed 1"].identity == manifests["nli-head seed 1"].identity
    report = json.loads(files_of(storage, alone_manifests["report"])["report.json"])
    assert report["results"] == []
    assert alone_manifests["report"].metrics["to_ship"]["stage"] == "nli-head"


def test_separate_data_may_be_in_object_storage(job: Any, s3: S3Server, tmp_path: Path) -> None:
    folder, fields, _, manifests = job
    client = s3.client()
    for name in ("train", "test"):
        client.put_object(Bucket=BUCKET, Key=f"own/{name}.csv", Body=(folder / "own/rows.csv").read_bytes())
    data = {"source": f"s3://{BUCKET}/own", "text": "said", "label": "kind"}
    (tmp_path / "rows.csv").write_bytes((folder / "rows.csv").read_bytes())
    (tmp_path / "job.yaml").write_text(
        json.dumps({**fields, "stages": {"nli": {"kind": "classify", "data": data}}, "hypotheses": []})
    )
    storage = open_storage(str(tmp_path / "store"))
    run = next(run for run in plan(read(tmp_path / "job.yaml")) if run.stage == "nli-data")
    assert runner.run_stage(run, storage).metrics["rows"] == {"train": 60, "test": 60}
    assert run.identity != manifests["nli-data"].identity
