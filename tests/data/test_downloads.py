"""Data and encoders in object storage: downloaded once, by `prepare`; later stages do not read them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftjobs.data.downloads import download, download_inputs
from ftjobs.errors import FtjobsError, UserError
from ftjobs.execution import runner
from ftjobs.jobfile.fields import Data, Encoder
from ftjobs.jobfile.read import read
from ftjobs.plan import Prepare, plan
from ftjobs.storage import LocalStorage, open_storage
from tests.fakes import fault_proxy
from tests.fakes.fault_proxy import Request, Response
from tests.fakes.s3_faults import flip_bit
from tests.fakes.s3_server import BUCKET, S3Server, sign_again
from tests.helpers.pipelines import files_of, job_fields, write_rows


@pytest.fixture
def bucket(s3: S3Server, make_encoder: Callable[..., Path], tmp_path: Path) -> str:
    """A prefix that contains rows and an encoder."""
    prefix = f"remote/{tmp_path.name}"
    write_rows(tmp_path / "rows.csv")
    client = s3.client()
    client.upload_file(str(tmp_path / "rows.csv"), BUCKET, f"{prefix}/data/rows.csv")
    for file in make_encoder("bert", "mlm").iterdir():
        client.upload_file(str(file), BUCKET, f"{prefix}/encoder/{file.name}")
    return f"s3://{BUCKET}/{prefix}"


def fields_at(bucket: str, **changes: Any) -> dict[str, Any]:
    fields = job_fields(None, hypotheses=[], **changes)
    fields["encoder"] = {"model": f"{bucket}/encoder"}
    fields["data"] = {**fields["data"], "source": f"{bucket}/data/rows.csv"}
    fields["stages"] = {"adapt": fields["stages"]["adapt"], "adapted-head": fields["stages"]["adapted-head"]}
    return fields


def test_pipeline_with_all_inputs_in_object_storage(
    bucket: str, make_encoder: Callable[..., Path], tmp_path: Path
) -> None:
    """Models equal those from local files, and later stages run after the sources have been deleted."""
    (tmp_path / "job.yaml").write_text(json.dumps(fields_at(bucket)))
    runs = plan(read(tmp_path / "job.yaml"))
    store = open_storage(f"{bucket}/store")
    prepared = runner.run_stage(runs[0], store)
    for key, *_ in list(open_storage(bucket).list("")):
        if not key.startswith("store/"):
            open_storage(bucket).delete(key)
    manifests = runner.run_all(runs, store)
    assert manifests[0] == prepared

    local = fields_at(bucket)
    local["encoder"] = {"model": str(make_encoder("bert", "mlm"))}
    local["data"]["source"] = "rows.csv"
    (tmp_path / "local.yaml").write_text(json.dumps(local))
    here = open_storage(str(tmp_path / "store"))
    assert isinstance(here, LocalStorage)
    for manifest, other in zip(manifests, runner.run_all(plan(read(tmp_path / "local.yaml")), here), strict=True):
        name = "model/model.safetensors"
        if manifest.kind != "report":
            assert store.read(f"{manifest.folder}/{name}") == files_of(here, other)[name]


@pytest.mark.parametrize("source", ["data/rows.csv", "data", "data/", "data/*.csv", "*/rows.csv"])
def test_source_is_an_object_a_prefix_or_a_pattern(bucket: str, tmp_path: Path, source: str) -> None:
    data = Data(source=f"{bucket}/{source}", text="question")
    copied = download_inputs(Prepare(encoder=Encoder(model="a/b"), data=data), tmp_path / "work")
    source_path = Path(str(copied.data.source))
    files = [path for path in (source_path, *source_path.rglob("*")) if path.is_file()]
    assert [path.name for path in files] == ["rows.csv"]
    assert files[0].read_bytes() == (tmp_path / "rows.csv").read_bytes()
    assert copied.encoder.model == "a/b"


def test_every_split_has_its_source(bucket: str, tmp_path: Path) -> None:
    data = Data(source={"train": f"{bucket}/data/rows.csv", "test": "here.csv"}, text="question")
    copied = download_inputs(Prepare(encoder=Encoder(model="a/b"), data=data), tmp_path / "work").data.source
    assert isinstance(copied, dict)
    assert Path(copied["train"]).read_bytes() == (tmp_path / "rows.csv").read_bytes()
    assert copied["test"] == "here.csv"


@pytest.mark.parametrize("source", ["absent.csv", "data/*.parquet"])
def test_missing_source_is_a_user_error(bucket: str, tmp_path: Path, source: str) -> None:
    data = Data(source=f"{bucket}/{source}", text="question")
    with pytest.raises(UserError, match=r"data.source: no object .*s3://.*; correct"):
        download_inputs(Prepare(encoder=Encoder(model="a/b"), data=data), tmp_path / "work")


@pytest.mark.parametrize("size", [1000, 20 << 20], ids=["small", "large"])
@pytest.mark.parametrize("digests", [True, False], ids=["digest as etag", "opaque etag"])
def test_damage_in_transit_is_detected(
    bucket: str, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, digests: bool
) -> None:
    """No manifest has the expected sha256: the digest of the store, or a second download, confirms the content."""
    content = random.Random(1).randbytes(size)
    (tmp_path / "content").write_bytes(content)
    open_storage(bucket).put(tmp_path / "content", "data/rows.csv")
    remaining = 0

    def fault(request: Request, forward: Callable[[Request], Response]) -> Response:
        nonlocal remaining
        if not digests and request.headers.pop("If-Match", None):
            sign_again(request)
        answer = forward(request)
        if request.method == "GET" and remaining:
            remaining -= 1
            answer.body = flip_bit(answer.body)
        if not digests:
            answer.headers["ETag"] = '"opaque"'
        return answer

    with fault_proxy.proxy(s3.url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        proxy.fault = fault
        requests = 1 if size < 1 << 20 else 4
        for damaged, copies in ((0, 1 if digests else 2), (1, 2 if digests else 3)):
            remaining, proxy.requests = damaged, []
            copy = download(f"{bucket}/data/rows.csv", "data.source", tmp_path / f"work-{damaged}")
            assert Path(copy).read_bytes() == content
            assert proxy.count("GET", "rows.csv") == copies * requests


def test_object_that_differs_every_time_is_refused(
    bucket: str, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bits = iter(range(8))

    def fault(request: Request, forward: Callable[[Request], Response]) -> Response:
        answer = forward(request)
        if request.method == "GET":
            answer.body = bytes([answer.body[0] ^ 1 << next(bits)]) + answer.body[1:]
        return answer

    with fault_proxy.proxy(s3.url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        proxy.fault = fault
        with pytest.raises(FtjobsError, match=r"data/rows.csv: differed in each of 3 downloads"):
            download(f"{bucket}/data/rows.csv", "data.source", tmp_path / "work")
    assert not [path for path in (tmp_path / "work").rglob("*") if path.is_file()]
