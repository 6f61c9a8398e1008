"""Rendered pods of a pipeline, run as processes that share only an S3 server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from ftjobs import artifacts
from ftjobs.jobfile.read import read
from ftjobs.kubernetes.options import Options
from ftjobs.kubernetes.rendering import render
from ftjobs.plan import plan
from ftjobs.storage import open_storage
from tests.fakes.s3_server import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server
from tests.helpers.pod_files import write_pod_files

ROOT = Path(__file__).parents[2]


class Pod(NamedTuple):
    process: subprocess.Popen[str]
    message: Path
    publishes: bool
    """True if this pod publishes, and hence writes a termination message on success."""


def wait_for_end(pod: Pod) -> tuple[int, str]:
    """Exit code and termination message."""
    _, log = pod.process.communicate(timeout=240)
    code = pod.process.returncode
    assert pod.message.exists() is (code != 0 or pod.publishes), log
    return code, pod.message.read_text() if pod.message.exists() else ""


class Pods:
    """Runs the pods of a pipeline as a kubelet would."""

    def __init__(self, manifests: list[dict[str, Any]], folder: Path) -> None:
        self.manifests, self.folder, self.started = manifests, folder, 0

    def run(self, job: dict[str, Any]) -> list[tuple[int, str]]:
        """Exit code and termination message of every completion index; peers run at the same time."""
        indexes = range(job["spec"]["completions"])
        if "subdomain" in job["spec"]["template"]["spec"]:
            return [wait_for_end(pod) for pod in [self.start(job, index) for index in indexes]]
        return [wait_for_end(self.start(job, index)) for index in indexes]

    def start(self, job: dict[str, Any], index: int) -> Pod:
        """Start the pod of one completion index."""
        self.started += 1
        pod, folder = job["spec"]["template"]["spec"], self.folder / f"pod-{self.started}"
        file = write_pod_files(self.manifests, pod, folder)
        (container,) = pod["containers"]
        variables = {variable["name"]: variable["value"] for variable in container["env"]}
        for source in container["envFrom"]:
            if "configMapRef" in source:
                name = source["configMapRef"]["name"]
                variables |= next(
                    m["data"] for m in self.manifests if m["kind"] == "ConfigMap" and m["metadata"]["name"] == name
                )
            elif source["secretRef"]["name"] == "ftjobs-s3":
                variables |= {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        variables |= {"FTJOBS_TERMINATION_LOG": str(folder / "termination-log"), "JOB_COMPLETION_INDEX": str(index)}
        replacements = {"$(JOB_COMPLETION_INDEX)": str(index), "/job/job.yaml": str(file)}
        if "subdomain" in pod:  # all pods are on this machine, without cluster DNS
            replacements[f"{job['metadata']['name']}-0.{pod['subdomain']}"] = "127.0.0.1"
        arguments = [replacements.get(word, word) for word in container["args"]]
        image_variables = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        environment = {"HOME": str(folder), "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"} | image_variables | variables
        command = [sys.executable, "-m", "ftjobs", *arguments]
        process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
        return Pod(process, folder / "termination-log", publishes="subdomain" not in pod or index == 0)


@pytest.mark.slow
@pytest.mark.parametrize("nodes", [1, 2])
def test_pipeline_runs_from_its_manifests_alone(s3: S3Server, tmp_path: Path, nodes: int):
    fields = yaml.safe_load((ROOT / "jobs/quickstart.yaml").read_text())
    (tmp_path / "quickstart.csv").write_bytes((ROOT / "jobs/quickstart.csv").read_bytes())
    fields["stages"] = {
        "adapt": {"kind": "adapt", "epochs": 1},
        "head": {"kind": "classify", "encoder": "adapt", "freeze_encoder": True},
    }
    seeds = [2, 1] if nodes == 1 else [2]
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(fields | {"seeds": seeds, "hypotheses": []}))
    store = f"s3://{BUCKET}/{tmp_path.name}"
    settings = {"AWS_ENDPOINT_URL_S3": s3.url, "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
    options = Options(image="ftjobs:0.1.0", store=store, nodes=nodes, environment=settings)
    manifests = render(read(tmp_path / "job.yaml"), options)
    (tmp_path / "quickstart.csv").unlink()  # pods have no access to local files
    pods = Pods(manifests, tmp_path)
    jobs = {m["metadata"]["labels"].get("ftjobs/stage"): m for m in manifests if m["kind"] == "Job"}

    assert [stage for stage, job in jobs.items() if stage and not job["spec"]["suspend"]] == ["prepare"]
    for code, message in pods.run(jobs["head"]):  # resumed before its inputs are published
        assert code == 75
        assert message.startswith("error: ")
    for stage in ("prepare", "adapt", "head", "report"):
        ends = pods.run(jobs[stage])
        assert len(ends) == jobs[stage]["spec"]["completions"]
        for code, message in ends:
            assert code == 0, message
            if stage == "head" and message:
                assert 0 < json.loads(message)["accuracy"] < 1

    (tmp_path / "quickstart.csv").write_bytes((ROOT / "jobs/quickstart.csv").read_bytes())
    runs = plan(read(tmp_path / "job.yaml"))  # the original job file finds the artifacts of the pods
    storage = open_storage(store)
    assert [run.title for run in runs if artifacts.find_manifest(storage, run) is None] == []
    assert "`head` is right on" in artifacts.read_text(
        storage, artifacts.require_manifest(storage, runs[-1]), "report.md"
    )
