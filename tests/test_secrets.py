"""No file that a run leaves behind contains a secret, in plain text or in a common encoding."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from ftjobs.storage import open_storage
from tests.fakes.s3_server import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server
from tests.helpers.pipelines import job_fields, write_rows

SECRETS = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "HF_TOKEN": "hf_RecognisableTokenOfTheHub012345678",
    "WANDB_API_KEY": "0123recognisable4567key89of0weights1biases"[:40],
}
#: `ftjobs` with the most verbose log.
VERBOSE = (
    "import functools, sys; from ftjobs import __main__; from ftjobs.system import progress\n"
    "progress.log_to_stderr = functools.partial(progress.log_to_stderr, verbose=True); __main__.main()"
)


def forms(secret: str) -> Iterator[bytes]:
    """Yield a secret in plain text, URL-encoded, in hexadecimal, in UTF-16, and in base64 at each of three offsets."""
    data = secret.encode()
    yield data
    yield quote(secret, safe="").encode()
    yield data.hex().encode()
    for before in range(3):  # without the characters that also depend on neighboring bytes
        encoded = base64.b64encode(b"\0" * before + data)[4 if before else 0 :]
        yield encoded[: -4 if len(encoded) % 4 == 0 and encoded.endswith(b"=") else None].rstrip(b"=")
    yield secret.encode("utf-16-le")


def secrets_in(data: bytes) -> list[str]:
    lower = data.lower()
    return [name for name, secret in SECRETS.items() if any(form.lower() in lower for form in forms(secret))]


@pytest.mark.parametrize("name", SECRETS)
def test_search_finds_every_encoding(name: str) -> None:
    data = SECRETS[name].encode()
    for text in (
        *(data, b"x" + data + b"y", quote(SECRETS[name], safe="").encode(), data.hex().encode()),
        *(base64.b64encode(b"k" * before + data + b":" * after) for before in range(4) for after in range(4)),
        *(json.dumps({"key": SECRETS[name]}).encode(), SECRETS[name].encode("utf-16")),
    ):
        assert secrets_in(b"before " + text + b" after") == [name], text
    assert secrets_in(b"before after") == []


class Attempts:
    """Runs `ftjobs` with its home, temporary files, logs and working directory in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("home", "temporary", "logs"):
            (folder / name).mkdir()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("WANDB_")},
            **SECRETS,
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "temporary"),
            "WANDB_MODE": "offline",
            "OMP_NUM_THREADS": "1",
        }

    def start(self, name: str, *arguments: str, **variables: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"logs/{name}.out").open("wb") as out, (self.folder / f"logs/{name}.err").open("wb") as err:
            command = [sys.executable, "-c", VERBOSE, *arguments]
            environment = self.environment | variables
            return subprocess.Popen(command, cwd=self.folder, env=environment, stdout=out, stderr=err)

    def log(self, name: str) -> str:
        return (self.folder / f"logs/{name}.err").read_text()

    def run(self, name: str, *arguments: str, **variables: str) -> int:
        return self.start(name, *arguments, **variables).wait(timeout=180)

    def stop_when(self, name: str, log_line: str, number: int, *arguments: str) -> int:
        """Send a signal one second after `log_line` is logged; returns the exit code."""
        process = self.start(name, *arguments)
        end = time.monotonic() + 120
        while log_line not in self.log(name) and process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(1.0)
        process.send_signal(number)
        return process.wait(timeout=60)


@pytest.mark.slow
def test_run_with_failures_leaves_no_secrets(s3: S3Server, make_encoder: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    write_rows(folder / "rows.csv")
    fields = job_fields(make_encoder("bert", "mlm"), hypotheses=[], tracking={"wandb": {"project": "trials"}})
    fields["stages"] = {name: fields["stages"][name] for name in ("adapt", "adapted-head")}
    (folder / "job.yaml").write_text(json.dumps(fields))
    store, attempts = f"s3://{BUCKET}/{tmp_path.name}", Attempts(folder)
    job, long = ["job.yaml", "--store", store], ["--set", "defaults.adapt.epochs=4000"]

    assert attempts.run("refused", "run", *job, AWS_SECRET_ACCESS_KEY=SECRET_KEY + "?") == 2
    assert attempts.run("no-bucket", "run", "job.yaml", "--store", "s3://no-such-bucket/p") == 2
    assert attempts.stop_when("stopped", "adapting on", signal.SIGTERM, "run", *job, *long) == 143
    assert attempts.stop_when("killed", "resuming after", signal.SIGKILL, "run", *job, *long) == -signal.SIGKILL
    diverges = ["--set", "defaults.adapt.learning_rate=10", "--set", "defaults.adapt.weight_decay=10"]
    assert attempts.run("failed", "run", *job, *diverges) == 1
    assert "learning rate" in attempts.log("failed")
    assert attempts.run("whole", "run", *job) == 0, attempts.log("whole")
    for command in (["status", *job], ["ls", "--store", store], ["verify", *job], ["plan", *job], ["gc", *job]):
        assert attempts.run(command[0], *command) == 0
    assert attempts.run("pull", "pull", *job[:1], "adapt", "pulled", *job[1:]) == 0

    storage = open_storage(store)
    files = {entry.key: entry.key.encode() + storage.read(entry.key) for entry in storage.list("")}
    files |= {str(path): str(path).encode() + path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    parts = ("manifest.json", "whole.json", "failed.json", ".wandb", "logs/", "temporary/", "report.md", "pulled/")
    for part in (*parts, "debug", "job.yaml"):
        assert any(part in name for name in files), f"no file of the kind {part} was searched"
    assert {name: secrets for name, data in files.items() if (secrets := secrets_in(data))} == {}
