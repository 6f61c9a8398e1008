"""A 20 s outage of the object store at critical moments: every command waits, logs it, and succeeds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ftjobs import artifacts
from ftjobs.artifacts import Manifest
from ftjobs.jobfile.read import read
from ftjobs.plan import StageRun, plan
from ftjobs.storage import Storage, open_storage
from tests.fakes import fault_proxy
from tests.fakes.fault_proxy import Request, Response
from tests.fakes.s3_server import BUCKET, S3Server, environment, running_server
from tests.helpers.pipelines import job_fields, write_rows

OUTAGE_SECONDS = 20.0
_TIMEOUT_SECONDS = 120.0  # for a process on a busy machine to reach its moment


class Moment:
    """The `number`-th matching request, which is held until the server is down."""

    def __init__(self, method: str, part: str, number: int = 1) -> None:
        self.method, self.part, self.number = method, part, number
        self.reached = threading.Event()
        self._lock = threading.Lock()

    def matches(self, request: Request) -> bool:
        if request.method != self.method or self.part not in f"{request.path} {request.headers.get('Range', '')}":
            return False
        with self._lock:
            self.number -= 1
            return self.number == 0


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """A server for this test only, because the test kills it."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "FTJOBS_"))]:
        monkeypatch.delenv(name)
    for running in running_server(tmp_path / "server"):
        for name, value in environment(running.url).items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.mark.slow
def test_upload_download_and_commit_survive_an_outage(
    server: S3Server, make_encoder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(tmp_path / "rows.csv")
    encoder = make_encoder("bert", "mlm", hidden_size=512, intermediate_size=2048, num_hidden_layers=5)
    (tmp_path / "job.yaml").write_text(json.dumps(job_fields(encoder, hypotheses=[])))
    prepare = plan(read(tmp_path / "job.yaml"))[0]
    stores = {name: f"s3://{BUCKET}/{name}" for name in ("upload", "download", "commit")}
    with fault_proxy.proxy(server.url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        ftjobs(tmp_path, "stage", "job.yaml", "prepare", "--store", stores["download"]).communicate()
        manifest = published(stores["download"], prepare)
        assert max(file.size for file in manifest.files) > 7 * 8 * 2**20, "the file has too few parts"
        moments = {
            "upload": Moment("PUT", "partNumber=5"),
            "download": Moment("GET", "bytes=34603008-"),  # the fifth part
            "commit": Moment("PUT", "/manifest.json"),
        }
        server_down = threading.Event()

        def hold(request: Request, forward: Callable[[Request], Response]) -> Response | None:
            for name, moment in moments.items():
                if f"/{BUCKET}/{name}/" in request.path and moment.matches(request):
                    moment.reached.set()
                    assert server_down.wait(2 * _TIMEOUT_SECONDS)
            try:
                return forward(request)
            except OSError:  # the server and the proxy are down
                return None

        proxy.fault = hold
        processes = {
            "upload": ftjobs(tmp_path, "stage", "job.yaml", "prepare", "--store", stores["upload"]),
            "download": ftjobs(tmp_path, "pull", "job.yaml", "prepare", "pulled", "--store", stores["download"]),
            "commit": ftjobs(tmp_path, "stage", "job.yaml", "prepare", "--store", stores["commit"]),
        }
        try:
            for name, moment in moments.items():
                assert moment.reached.wait(_TIMEOUT_SECONDS), name
            server.kill()
            proxy.down()
            server_down.set()
            down_since = time.monotonic()
            time.sleep(OUTAGE_SECONDS)
            assert [process.poll() for process in processes.values()] == [None, None, None]
            assert not (tmp_path / "pulled").exists()
            server.start()
            proxy.up()
            assert time.monotonic() - down_since >= OUTAGE_SECONDS
            for name, process in processes.items():
                _, errors = process.communicate(timeout=120)
                assert process.returncode == 0, errors
                assert f"s3://{BUCKET}/{name}/" in first_retry_line(errors)
        finally:
            for process in processes.values():
                process.kill()
                process.wait()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
    for name in stores:
        assert artifacts.verify(open_storage(stores[name]), prepare.key) == []
        digests = {file.path: file.sha256 for file in published(stores[name], prepare).files}
        assert digests == {file.path: file.sha256 for file in manifest.files}
    weights = encoder / "model.safetensors"
    assert (tmp_path / "pulled/model.safetensors").read_bytes() == weights.read_bytes()


def ftjobs(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ftjobs", *arguments]
    settings = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, stdout=pipe, stderr=pipe, text=True, env=settings)


def published(store: str, run: StageRun) -> Manifest:
    storage: Storage = open_storage(store)
    return artifacts.require_manifest(storage, run)


def first_retry_line(log: str) -> str:
    lines = [line for line in log.splitlines() if "; retrying for up to" in line]
    assert lines, log
    return lines[0]
