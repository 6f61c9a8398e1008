"""What cannot work in a cluster is refused in one line each, before anything is asked of one."""

from __future__ import annotations

from typing import Any

import pytest

from ftjobs import cli
from ftjobs.errors import UserError
from ftjobs.kubernetes.options import Options, environment

GOOD = {"image": "registry.example:5000/team/ftjobs:0.1.0", "store": "s3://bucket/runs"}
DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    "image",
    [
        "ftjobs:0.1.0",
        "a:1",
        "ghcr.io/team/ftjobs:v1.2-cuda",
        "host:5000/ftjobs:1",
        f"ftjobs@{DIGEST}",
        f"a/b:1@{DIGEST}",
        "localhost/ftjobs:x_1",
    ],
)
def test_images_with_a_version(image: str):
    assert Options(**GOOD | {"image": image}).image == image


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"image": "ftjobs:latest"}, "--image ftjobs:latest: `latest` is another image tomorrow; give a version, as in ftjobs:0.1.0, or a digest"),
        ({"image": "host:5000/ftjobs"}, "--image host:5000/ftjobs: has no tag; give a version, as in host:5000/ftjobs:0.1.0, or a digest"),
        ({"image": "ft jobs:1"}, "--image ft jobs:1: is no image; give registry/name:tag, or name@sha256:digest"),
        ({"image": ""}, "--image : is no image; give registry/name:tag, or name@sha256:digest"),
        ({"image": "FtJobs:1"}, "--image FtJobs:1: is no image; give registry/name:tag, or name@sha256:digest"),
        ({"image": "ftjobs@sha256:12"}, "--image ftjobs@sha256:12: is no image; give registry/name:tag, or name@sha256:digest"),
        ({"store": "runs"}, "--store runs: pods on several machines share no folder; give s3://bucket/prefix"),
        ({"store": "gs://bucket"}, "--store gs://bucket: pods on several machines share no folder; give s3://bucket/prefix"),
        ({"store": "s3:///runs"}, "--store s3:///runs: names no bucket; give s3://bucket/prefix"),
        ({"namespace": "Team"}, "--namespace Team: should be lower-case letters, digits and dashes, at most 63, not a dash at either end"),
        ({"queue": "-q"}, "--kueue-queue -q: should be lower-case letters, digits and dashes, at most 63, not a dash at either end"),
        ({"memory": "lots"}, "--memory lots: is no amount of memory; give one such as 8Gi"),
        ({"environment": {"A B": "1"}}, "--env A B: is no name of a variable; use letters, digits and _"),
        ({"environment": {"FTJOBS_STORE": "x"}}, "--env FTJOBS_STORE: is set by ftjobs; the store is --store"),
        ({"environment": {"AWS_SECRET_ACCESS_KEY": "x"}}, "--env AWS_SECRET_ACCESS_KEY: secrets do not belong into manifests; put it into the Secret ftjobs-s3, -wandb or -hf"),
        ({"environment": {"HF_TOKEN": "x"}}, "--env HF_TOKEN: secrets do not belong into manifests; put it into the Secret ftjobs-s3, -wandb or -hf"),
    ],
)  # fmt: skip
def test_what_no_cluster_can_use(change: dict[str, Any], problem: str):
    with pytest.raises(UserError) as refused:
        Options(**GOOD | change)
    assert refused.value.problems == [problem]


def test_all_problems_come_at_once():
    with pytest.raises(UserError) as refused:
        Options(image="ftjobs", store="runs", namespace="N")
    assert len(refused.value.problems) == 3


def test_variables():
    assert environment(["A=1", "B=x=y", "C="]) == {"A": "1", "B": "x=y", "C": ""}
    with pytest.raises(UserError, match="--env A: give NAME=VALUE"):
        environment(["A"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image", "ftjobs"], "--image ftjobs: has no tag"),
        (["--store", "runs"], "--store runs: pods on several machines"),
        (["--set", "seeds=[1,1]"], "a seed stands twice"),
        (["--engine", "jobset", "--set", "name=3d"], "JobSet wants names"),
    ],
)
def test_the_command_ends_with_2(monkeypatch, capsys, arguments, message):
    given = ["jobs/quickstart.yaml", "--image", "ftjobs:1", "--store", "s3://b/c", *arguments]
    monkeypatch.setattr("sys.argv", ["ftjobs", "render", *given])
    with pytest.raises(SystemExit) as end:
        cli.main()
    printed = capsys.readouterr()
    assert (end.value.code, printed.out) == (2, "")
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1
