"""A store that ftjobs 0.1.0 wrote stays usable: stages are found under the same identities, and their files are read.

`fixtures/store-0.1.0.tar.gz` holds a job, its data, and the store after `ftjobs run job.yaml --store store` by the code
before its packages were reorganized (commit 718516f, with plots of 12 dpi to keep the archive small). Never rewrite the
archive: an intended change of the artifact layout comes with a new archive.

Newly trained weights are not compared with those in the archive. Their bytes depend on the CPU: bf16 support, vector
width and thread count change the order of floating-point sums, and no setting makes them equal across machines.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from ftjobs.jobfile.read import read
from ftjobs.plan import plan

ARCHIVE = Path(__file__).parent / "fixtures" / "store-0.1.0.tar.gz"
JOBS = Path(__file__).parents[1] / "jobs"
#: Stage and seed -> first 12 digits of the identity, which are part of the artifact's key.
ARCHIVED = {
    "prepare": "e13999fbc190",
    "adapt seed 1": "61310aa37105",
    "head seed 1": "abdf369adb12",
    "report": "d63ddc017d51",
}
IDENTITIES = {
    "quickstart.yaml": {
        "prepare": "ba17382d0332",
        "adapt seed 1": "d3f379a90eb2",
        "adapt seed 2": "0ebd4186feb3",
        "adapt seed 3": "71f57ca33f1a",
        "head seed 1": "21a510805d58",
        "head seed 2": "4d4494d74f9b",
        "head seed 3": "d678966e654f",
        "behavioural seed 1": "b0f2f9f997a7",
        "behavioural seed 2": "2b4281960a93",
        "behavioural seed 3": "0d5a50e7bd72",
        "adapted-head seed 1": "d9ac4eb3d8f8",
        "adapted-head seed 2": "8b32ea846c3c",
        "adapted-head seed 3": "3d1d5aca4071",
        "adapted-behavioural seed 1": "fa4eb99a4129",
        "adapted-behavioural seed 2": "3df4265989d3",
        "adapted-behavioural seed 3": "e6c163dfac8b",
        "report": "6cdaeb68583c",
    },
    "medical-questions.yaml": {
        "prepare": "1d956e76d685",
        "adapt seed 42": "5e399fdbe6b7",
        "head seed 42": "d666acda708e",
        "behavioural seed 42": "490486162543",
        "adapted-head seed 42": "97e2257a5f94",
        "adapted-behavioural seed 42": "76d3df3dde80",
        "report": "ff904ab8ffa2",
    },
}


@pytest.fixture
def archived_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The extracted archive as the working directory, with `job.yaml`, `rows.csv` and `store`."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FTJOBS_STORE", "store")
    return tmp_path


def list_files(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and modification time (ns) of every file by path."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("job", IDENTITIES)
def test_identities_of_the_job_files_are_pinned(job: str) -> None:
    assert {run.title: run.identity[:12] for run in plan(read(JOBS / job))} == IDENTITIES[job]


def test_plan_and_status_find_every_stage(archived_job: Path, ftjobs: Callable[..., Any]) -> None:
    assert {run.title: run.identity[:12] for run in plan(read(Path("job.yaml")))} == ARCHIVED
    rows = json.loads(ftjobs("plan", "job.yaml", "--json").stdout)
    assert [(row["identity"], row["published"]) for row in rows] == [(name, True) for name in ARCHIVED.values()]
    rows = json.loads(ftjobs("status", "job.yaml", "--json").stdout)
    assert [row["state"] for row in rows] == ["published"] * len(ARCHIVED)


def test_run_changes_nothing(archived_job: Path, ftjobs: Callable[..., Any]) -> None:
    before = list_files(archived_job)
    assert ftjobs("run", "job.yaml").exit_code == 0
    assert list_files(archived_job) == before


def test_ls_and_verify_accept_every_artifact(archived_job: Path, ftjobs: Callable[..., Any]) -> None:
    rows = json.loads(ftjobs("ls", "--json").stdout)
    assert {row["identity"] for row in rows} == set(ARCHIVED.values())
    result = ftjobs("verify", "job.yaml")
    assert (result.exit_code, result.stdout.split()[0]) == (0, str(len(ARCHIVED)))


def test_pull_copies_the_published_bytes(archived_job: Path, ftjobs: Callable[..., Any]) -> None:
    for stage in ("prepare", "adapt", "head"):
        assert ftjobs("pull", "job.yaml", stage, f"pulled-{stage}", "--all").exit_code == 0
        (manifest,) = Path("store/tiny", stage).glob("*/*/manifest.json")
        sha256 = {file["path"]: file["sha256"] for file in json.loads(manifest.read_text())["files"]}
        folder = Path(f"pulled-{stage}")
        files = [path for path in folder.rglob("*") if path.is_file()]
        digests = {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
        assert digests == sha256


def test_predict_reproduces_the_published_probabilities(archived_job: Path, ftjobs: Callable[..., Any]) -> None:
    (head,) = Path("store/tiny/head").glob("*/*")
    assert ftjobs("predict", os.fspath(head), "rows.csv", "--out", "predictions.csv").exit_code == 0
    with open("predictions.csv", newline="") as file:
        predicted = list(csv.DictReader(file))
    (parquet,) = head.glob("attempts/*/predictions.parquet")
    published = pq.read_table(parquet).to_pylist()
    assert len(published) == 18
    classes = ("cold", "fever", "rash")
    probabilities = [[float(predicted[row["id"]][f"probability_{name}"]) for name in classes] for row in published]
    expected = np.array([row["probabilities"] for row in published])
    assert np.ptp(expected) > 0.5, "the probabilities of the archive differ between rows"
    np.testing.assert_allclose(probabilities, expected, atol=0.03)  # bf16 on some CPUs, fp32 on others
