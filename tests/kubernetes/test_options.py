"""Options that no cluster could use are user errors, one line each, without a request to a cluster."""

from __future__ import annotations

from typing import Any

import pytest

from ftjobs import cli
from ftjobs.errors import UserError
from ftjobs.kubernetes.options import Options, parse_environment

VALID = {"image": "registry.example:5000/team/ftjobs:0.1.0", "store": "s3://bucket/runs"}
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
def test_image_with_tag_or_digest_is_valid(image: str):
    assert Options(**VALID | {"image": image}).image == image


@pytest.mark.parametrize(
    ("change", "option", "remedy"),
    [
        ({"image": "ftjobs:latest"}, "--image ftjobs:latest", "ftjobs:0.1.0"),
        ({"image": "host:5000/ftjobs"}, "--image host:5000/ftjobs", "host:5000/ftjobs:0.1.0"),
        ({"image": "ft jobs:1"}, "--image ft jobs:1", "registry/name:tag"),
        ({"image": ""}, "--image ", "registry/name:tag"),
        ({"image": "FtJobs:1"}, "--image FtJobs:1", "registry/name:tag"),
        ({"image": "ftjobs@sha256:12"}, "--image ftjobs@sha256:12", "name@sha256:digest"),
        ({"store": "runs"}, "--store runs", "s3://bucket/prefix"),
        ({"store": "gs://bucket"}, "--store gs://bucket", "s3://bucket/prefix"),
        ({"store": "s3:///runs"}, "--store s3:///runs", "s3://bucket/prefix"),
        ({"namespace": "Team"}, "--namespace Team", "lower-case"),
        ({"queue": "-q"}, "--kueue-queue -q", "dash"),
        ({"memory": "lots"}, "--memory lots", "8Gi"),
        ({"environment": {"A B": "1"}}, "--env A B", "letters, digits and _"),
        ({"environment": {"FTJOBS_STORE": "x"}}, "--env FTJOBS_STORE", "--store"),
        ({"environment": {"AWS_SECRET_ACCESS_KEY": "x"}}, "--env AWS_SECRET_ACCESS_KEY", "Secret ftjobs-s3"),
        ({"environment": {"HF_TOKEN": "x"}}, "--env HF_TOKEN", "ftjobs-hf"),
    ],
)  # fmt: skip
def test_invalid_option_names_value_and_remedy(change: dict[str, Any], option: str, remedy: str):
    with pytest.raises(UserError) as error:
        Options(**VALID | change)
    (problem,) = error.value.problems
    assert problem.startswith(f"{option}: ")
    assert remedy in problem


def test_all_problems_are_reported_at_once():
    with pytest.raises(UserError) as error:
        Options(image="ftjobs", store="runs", namespace="N")
    assert len(error.value.problems) == 3


def test_environment_is_parsed():
    assert parse_environment(["A=1", "B=x=y", "C="]) == {"A": "1", "B": "x=y", "C": ""}
    with pytest.raises(UserError, match=r"--env A: .*NAME=VALUE"):
        parse_environment(["A"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image", "ftjobs"], "--image ftjobs: "),
        (["--store", "runs"], "--store runs: "),
        (["--set", "seeds=[1,1]"], "seeds"),
        (["--engine", "jobset", "--set", "name=3d"], "--engine jobset: "),
    ],
)
def test_render_with_invalid_options_exits_with_2(monkeypatch, capsys, arguments, message):
    command = ["jobs/quickstart.yaml", "--image", "ftjobs:1", "--store", "s3://b/c", *arguments]
    monkeypatch.setattr("sys.argv", ["ftjobs", "render", *command])
    with pytest.raises(SystemExit) as end:
        cli.main()
    printed = capsys.readouterr()
    assert (end.value.code, printed.out) == (2, "")
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1
