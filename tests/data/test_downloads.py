"""Data and encoders in object storage: fetched once, by `prepare`; later stages never look."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftjobs.data.downloads import local_copies, local_copy
from ftjobs.errors import FtjobsError, UserError
from ftjobs.execution import runner
from ftjobs.jobfile.fields import Data, Encoder
from ftjobs.jobfile.read import read
from ftjobs.plan import Prepare, plan
from ftjobs.storage import LocalStorage, open_storage
from tests.fakes import fault_proxy
from tests.fakes.fault_proxy import Answer, Request
from tests.fakes.s3_server import BUCKET, S3Server, sign_again
from tests.helpers.pipelines import files_of, job_fields, write_rows
from tests.storage.test_s3 import flipped


@pytest.fixture
def bucket(s3: S3Server, make_encoder: Callable[..., Path], tmp_path: Path) -> str:
    """A prefix with rows and an encoder in it."""
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


def test_a_pipeline_with_everything_in_object_storage(
    bucket: str, make_encoder: Callable[..., Path], tmp_path: Path
) -> None:
    """Same models as from local files; and the later stages run although the sources are gone."""
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
def test_an_object_a_prefix_or_a_pattern(bucket: str, tmp_path: Path, source: str) -> None:
    data = Data(source=f"{bucket}/{source}", text="question")
    copied = local_copies(Prepare(encoder=Encoder(model="a/b"), data=data), tmp_path / "work")
    found = Path(str(copied.data.source))
    files = [found] if found.is_file() else sorted(path for path in found.rglob("*") if path.is_file())
    assert [path.name for path in files] == ["rows.csv"]
    assert files[0].read_bytes() == (tmp_path / "rows.csv").read_bytes()
    assert copied.encoder.model == "a/b"


def test_one_source_per_split(bucket: str, tmp_path: Path) -> None:
    data = Data(source={"train": f"{bucket}/data/rows.csv", "test": "here.csv"}, text="question")
    copied = local_copies(Prepare(encoder=Encoder(model="a/b"), data=data), tmp_path / "work").data.source
    assert isinstance(copied, dict)
    assert Path(copied["train"]).read_bytes() == (tmp_path / "rows.csv").read_bytes()
    assert copied["test"] == "here.csv"


@pytest.mark.parametrize("source", ["absent.csv", "data/*.parquet"])
def test_nothing_there(bucket: str, tmp_path: Path, source: str) -> None:
    data = Data(source=f"{bucket}/{source}", text="question")
    with pytest.raises(UserError, match=r"data.source: nothing lies at s3://.*; correct the address"):
        local_copies(Prepare(encoder=Encoder(model="a/b"), data=data), tmp_path / "work")


@pytest.mark.parametrize("size", [1000, 20 << 20], ids=["small", "large"])
@pytest.mark.parametrize("digests", [True, False], ids=["etag is a digest", "etag is none"])
def test_a_bit_that_is_flipped_on_the_way_is_noticed(
    bucket: str, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, digests: bool
) -> None:
    """Nobody has said what the bytes should be; so it takes the store's word, or a second copy."""
    content = random.Random(1).randbytes(size)
    (tmp_path / "content").write_bytes(content)
    open_storage(bucket).put(tmp_path / "content", "data/rows.csv")
    left = 0

    def fault(request: Request, forward: Callable[[Request], Answer]) -> Answer:
        nonlocal left
        if not digests and request.headers.pop("If-Match", None):
            sign_again(request)
        answer = forward(request)
        if request.method == "GET" and left:
            left -= 1
            answer.body = flipped(answer.body)
        if not digests:
            answer.headers["ETag"] = '"a word of its own"'
        return answer

    with fault_proxy.proxy(s3.url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        proxy.fault = fault
        requests = 1 if size < 1 << 20 else 4
        for damaged, copies in ((0, 1 if digests else 2), (1, 2 if digests else 3)):
            left, proxy.seen = damaged, []
            copy = local_copy(f"{bucket}/data/rows.csv", "data.source", tmp_path / f"work-{damaged}")
            assert Path(copy).read_bytes() == content
            assert proxy.count("GET", "rows.csv") == copies * requests


def test_one_that_is_never_the_same_is_refused(
    bucket: str, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bits = iter(range(8))

    def fault(request: Request, forward: Callable[[Request], Answer]) -> Answer:
        answer = forward(request)
        if request.method == "GET":
            answer.body = bytes([answer.body[0] ^ 1 << next(bits)]) + answer.body[1:]
        return answer

    with fault_proxy.proxy(s3.url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        proxy.fault = fault
        with pytest.raises(FtjobsError, match=r"data/rows.csv: was different each of 3 times"):
            local_copy(f"{bucket}/data/rows.csv", "data.source", tmp_path / "work")
    assert not [path for path in (tmp_path / "work").rglob("*") if path.is_file()]
