"""What publishing and pulling a checkpoint cost: `python -m tests.benchmarks.storage [ROUNDS [PYTHON]]`.

A 440 MB checkpoint (bert-base's size) goes to a SeaweedFS server on this machine and back, by ftjobs (hashes and all),
by plain `boto3.upload_file` and `download_file`, and by `aws s3 cp`, in turn (A B C, C B A, ...). Each transfer is a
process of its own, so that its peak memory can be told; seconds are those of the transfer, without imports.

The server and the files are in TMPDIR. On a disk, what is written back from earlier transfers slows down later ones; in
memory (`TMPDIR=/dev/shm`, 1.7 GB a round) it does not.

PYTHON is the interpreter of an environment that has the AWS command line, which needs another botocore than ours:
`python -m venv aws && aws/bin/pip install awscli`, then `aws/bin/python`. Without it only boto3 is compared with.
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
#: Each says its seconds, and by how many MB its memory rose above what it was before the transfer.
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
    """Run every transfer `rounds` times, in turn, and print the ratios to the others."""
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
                os.sync()  # what the last one wrote is not to slow down this one
                found = subprocess.run(command, env=settings, capture_output=True, text=True, check=True)
                seconds, memory = json.loads(found.stdout.splitlines()[-1])
                results[verb, tool].append((seconds, memory))
                print(f"{verb:8} {tool:7} {seconds:6.2f} s {memory:6.0f} MB", file=sys.stderr)
        server.close()
    for verb in ("publish", "pull"):
        seconds = {tool: [second for second, _ in results[verb, tool]] for tool in pythons}
        shown = ", ".join(f"{tool} {statistics.median(found):.2f} s" for tool, found in seconds.items())
        # Round by round: what else the machine does, to its disk above all, changes within minutes.
        ours, ratios = seconds.pop("ftjobs"), {}
        for tool, theirs in seconds.items():
            ratios[tool] = statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
        memory = max(memory for _, memory in results[verb, "ftjobs"])
        print(
            f"{verb}: {shown} (medians of {rounds}); "
            + ", ".join(f"{ratio:.2f} times {tool}" for tool, ratio in ratios.items())
            + f" (medians of the rounds' ratios); peak memory {memory:.0f} MB above idle"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5, sys.argv[2] if len(sys.argv) > 2 else None)
