"""Time and memory to publish and pull a checkpoint: `python -m tests.benchmarks.storage [ROUNDS [PYTHON]]`.

A 440 MB checkpoint (the size of bert-base) is uploaded to a SeaweedFS server on this machine and downloaded again: with
ftjobs, including hashes; with `boto3.upload_file` and `download_file`; and with `aws s3 cp`, alternating (A B C, C B A,
...). Each transfer runs in a new process, for its peak memory; seconds exclude imports.

The server and the files are in TMPDIR. On a disk, write-back of earlier transfers slows down later ones; in memory
(`TMPDIR=/dev/shm`, 1.7 GB per round) it does not.

PYTHON is the interpreter of an environment with the AWS CLI, which needs another version of botocore:
`python -m venv aws && aws/bin/pip install awscli`, then `aws/bin/python`. Without it, the comparison is with boto3 only.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fakes.s3_server import BUCKET, environment, running_server

SIZE = 440_000_000
#: Prints the seconds of the transfer, and the increase of peak memory in MB.
_FRAME = r"""
import json, os, re, sys, time
from pathlib import Path
folder, name = Path(sys.argv[1]), sys.argv[2]
{prepare}
memory = lambda: int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024
before, started = memory(), time.perf_counter()
{transfer}
print(json.dumps([time.perf_counter() - started, memory() - before]))
"""
_PREPARE_FTJOBS = f"""
from ftjobs import artifacts
from ftjobs.jobfile.fields import Job
from ftjobs.plan import plan, select
from ftjobs.storage import open_storage
data = {{"source": "me/pairs", "text": "q", "label": "l"}}
stages = {{"head": {{"kind": "classify"}}}}
job = {{"name": name, "encoder": {{"model": "me/encoder"}}, "data": data, "stages": stages}}
run = select(plan(Job.model_validate(job)), "head")
storage = open_storage("s3://{BUCKET}/bench")
storage.check_writable()
"""
_PREPARE_BOTO3 = f"""
import boto3
client = boto3.client("s3")
client.put_object(Bucket="{BUCKET}", Key="ready", Body=b"")
"""
_PREPARE_AWS = f"""
from awscli.clidriver import create_clidriver
aws = lambda *words: create_clidriver().main([*words, "--no-progress"])
aws("s3", "cp", os.devnull, "s3://{BUCKET}/ready")
"""
_MODEL = "output/model/model.safetensors"
SCRIPTS = {
    ("publish", "ftjobs"): (_PREPARE_FTJOBS, "artifacts.publish(storage, run, folder / 'output', {}, {})"),
    ("publish", "boto3"): (_PREPARE_BOTO3, f"client.upload_file(str(folder / '{_MODEL}'), '{BUCKET}', name)"),
    ("publish", "aws"): (
        _PREPARE_AWS,
        f"assert not aws('s3', 'cp', str(folder / '{_MODEL}'), 's3://{BUCKET}/' + name)",
    ),
    ("pull", "ftjobs"): (
        _PREPARE_FTJOBS,
        "artifacts.pull(storage, artifacts.require_manifest(storage, run), folder / name)",
    ),
    ("pull", "boto3"): (_PREPARE_BOTO3, f"client.download_file('{BUCKET}', name, str(folder / name))"),
    ("pull", "aws"): (_PREPARE_AWS, f"assert not aws('s3', 'cp', 's3://{BUCKET}/' + name, str(folder / name))"),
}


def main(rounds: int, aws: str | None) -> None:
    """Run every transfer `rounds` times, alternating, and print ratios."""
    pythons = {"ftjobs": sys.executable, "boto3": sys.executable} | ({"aws": aws} if aws else {})
    with tempfile.TemporaryDirectory(prefix="ftjobs-bench-") as temporary:
        folder = Path(temporary)
        (folder / _MODEL).parent.mkdir(parents=True)
        (folder / _MODEL).write_bytes(os.urandom(SIZE))
        server = running_server(folder / "server")
        settings = os.environ | environment(next(server).url) | {"AWS_DEFAULT_REGION": "us-east-1"}
        results: dict[tuple[str, str], list[tuple[float, float]]] = {case: [] for case in SCRIPTS if case[1] in pythons}
        for number in range(rounds):
            tools = list(pythons) if number % 2 else list(reversed(pythons))
            for verb, tool in [(verb, tool) for verb in ("publish", "pull") for tool in tools]:
                prepare, transfer = SCRIPTS[verb, tool]
                script = _FRAME.format(prepare=prepare, transfer=transfer)
                command = [pythons[tool], "-c", script, str(folder), f"round-{number}-{tool}"]
                os.sync()  # write-back of the previous transfer must not slow down this one
                completed = subprocess.run(command, env=settings, capture_output=True, text=True, check=True)
                seconds, memory = json.loads(completed.stdout.splitlines()[-1])
                results[verb, tool].append((seconds, memory))
                print(f"{verb:8} {tool:7} {seconds:6.2f} s {memory:6.0f} MB", file=sys.stderr)
        server.close()
    for verb in ("publish", "pull"):
        seconds = {tool: [second for second, _ in results[verb, tool]] for tool in pythons}
        shown = ", ".join(f"{tool} {statistics.median(times):.2f} s" for tool, times in seconds.items())
        # Ratios per round, because other load on the machine, above all on its disk, changes within minutes.
        ours, ratios = seconds.pop("ftjobs"), {}
        for tool, theirs in seconds.items():
            ratios[tool] = statistics.median(
                our_seconds / other for our_seconds, other in zip(ours, theirs, strict=True)
            )
        memory = max(memory for _, memory in results[verb, "ftjobs"])
        print(
            f"{verb}: {shown} (medians of {rounds}); "
            + ", ".join(f"{ratio:.2f} times {tool}" for tool, ratio in ratios.items())
            + f" (medians of the rounds' ratios); peak memory {memory:.0f} MB above idle"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5, sys.argv[2] if len(sys.argv) > 2 else None)
