"""Stores, runs and outputs for the tests of artifacts."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftjobs.jobfile.fields import Job
from ftjobs.plan import StageRun, plan, select
from ftjobs.storage import LocalStorage, Storage, open_storage
from tests.fakes.fault_proxy import Proxy
from tests.fakes.s3_server import BUCKET
from tests.helpers.artifacts import FILES, RemoteStorage
from tests.helpers.storage import write_files


@pytest.fixture(params=["local", "remote", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "s3":
        request.getfixturevalue("s3")
        return open_storage(f"s3://{BUCKET}/{tmp_path.name}")
    return {"local": LocalStorage, "remote": RemoteStorage}[request.param](tmp_path / "store")


@pytest.fixture
def proxied(proxy: Proxy, tmp_path: Path) -> Storage:
    """A store behind the fault proxy."""
    return open_storage(f"s3://{BUCKET}/{tmp_path.name}")


@pytest.fixture
def runs() -> list[StageRun]:
    fields = {
        "name": "small",
        "encoder": {"model": "me/encoder"},
        "data": {"source": "me/pairs", "text": "q", "label": "l"},
        "stages": {"adapt": {"kind": "adapt"}, "head": {"kind": "classify", "encoder": "adapt"}},
    }
    return plan(Job.model_validate(fields))


@pytest.fixture
def head(runs: list[StageRun]) -> StageRun:
    return select(runs, "head")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """The output folder of a stage."""
    return write_files(tmp_path / "output", FILES)
