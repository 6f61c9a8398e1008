"""The copy of a job that pods get: the same identities as at the desk, wherever the data lies."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from ftjobs.errors import UserError
from ftjobs.jobfile.read import read
from ftjobs.kubernetes.job_bundle import JobBundle
from ftjobs.kubernetes.manifests import pipeline_of
from ftjobs.kubernetes.options import Options
from ftjobs.kubernetes.pods import PACKED_FILE
from ftjobs.kubernetes.rendering import render
from ftjobs.kubernetes.stage_jobs import stage_jobs
from ftjobs.plan import plan, select_index
from tests.helpers import kubernetes_rules

ROOT = Path(__file__).parents[2]
OPTIONS = Options(image="ftjobs:0.1.0", store="s3://bucket/runs")
JOB = """\
name: small
encoder: {model: me/encoder}
data: {source: %s, text: [a, b], label: same, split: {test_fraction: 0.1}}
seeds: [3, 1]
defaults: {classify: {epochs: 2}, adapt: {save_every: 30s}}
stages:
  again: {kind: adapt, encoder: adapt}
  adapt: {kind: adapt, epochs: 2}
  head: {kind: classify, encoder: again, freeze_encoder: true}
  plain: {kind: classify}
hypotheses: [head > plain]
"""


def pod_folders(manifests: list[dict[str, Any]], pod: dict[str, Any], folder: Path) -> Path:
    """What a pod finds: the job file under `job`, and under `files` what its init container unpacks."""
    maps = {m["metadata"]["name"]: m for m in manifests if m["kind"] == "ConfigMap"}
    volumes = {volume["name"]: volume.get("configMap", {}).get("name") for volume in pod["volumes"]}
    (folder / "job").mkdir(parents=True)
    (folder / "job/job.yaml").write_text(maps[volumes["job"]]["data"]["job.yaml"])
    for container in pod.get("initContainers", []):
        (folder / "packed").mkdir()
        (folder / "files").mkdir()
        packed = yaml.safe_load(f"!!binary {maps[volumes['packed']]['binaryData'][PACKED_FILE]}")
        (folder / "packed" / PACKED_FILE).write_bytes(packed)
        command = [str(folder) + word if word.startswith("/") else word for word in container["command"]]
        subprocess.run([sys.executable, *command[1:]], check=True)
    return folder / "job/job.yaml"


def check_identities(path: Path, overrides: list[str], folder: Path) -> None:
    """Every pod's own plan of its stage is what was planned at the desk."""
    job = read(path, overrides)
    desk = plan(job)
    manifests = render(job, OPTIONS)
    for stage in stage_jobs(desk):
        manifest = next(m for m in manifests if m["kind"] == "Job" and m["metadata"]["name"] == stage.name)
        pod = manifest["spec"]["template"]["spec"]
        in_pod = plan(read(pod_folders(manifests, pod, folder / stage.name)))
        name = pod["containers"][0]["args"][2]
        for index, run in enumerate(stage.runs):
            found = select_index(in_pod, name, index)
            assert (found.identity, found.seed, found.key) == (run.identity, run.seed, run.key)
            named = {"data", "corpus"}  # by where files lie
            assert found.settings.model_dump(exclude=named) == run.settings.model_dump(exclude=named)
        assert manifest["metadata"]["annotations"]["ftjobs/identity"] == stage.identity
    conductor = manifests[-1]["spec"]["template"]["spec"]
    in_pod = plan(read(pod_folders(manifests, conductor, folder / "conductor")))
    assert [(run.stage, run.identity) for run in in_pod] == [(run.stage, run.identity) for run in desk]


@pytest.mark.parametrize(
    ("job", "overrides"),
    [
        ("quickstart", []),
        ("quickstart", ["seeds=[7]", "stages.head.epochs=2", "encoder.scratch.vocab_size=300"]),
        ("medical-questions", []),
        ("medical-questions", ["data.source=s3://bucket/data.csv", "tracking.wandb.project=x"]),
    ],
)
def test_pods_find_the_identities_of_the_desk(job: str, overrides: list[str], tmp_path: Path):
    check_identities(ROOT / f"jobs/{job}.yaml", overrides, tmp_path)


@pytest.mark.parametrize(
    "source",
    [
        "pairs.csv",
        "folder",
        "./folder/",
        "folder/deep/../../folder",
        ".",
        "folder/*.csv",
        "'folder/**/*.csv'",
        "'fol[d]er/a.csv'",
        "{train: folder/a.csv, test: folder/deep/a.csv}",
        "{train: folder, test: pairs.csv, validation: me/on-the-hub}",
    ],
)
def test_local_data_of_every_kind_counts_the_same_in_a_pod(source: str, tmp_path: Path):
    for name in ("pairs.csv", "folder/a.csv", "folder/deep/a.csv", "folder/.hidden.csv", "folder/notes.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"a,b,same\n{name},x,1\n")
    (tmp_path / "job.yaml").write_text(JOB % source)
    check_identities(tmp_path / "job.yaml", [], tmp_path / "pods")


CORPORA = """\
name: small
encoder: {model: me/encoder}
data: {source: folder/a.txt, text: a, label: b, split: {test_fraction: 0.1}}
seeds: [3, 1]
defaults: {adapt: {corpus: {source: folder/deep, held_out: 2}}}
stages:
  one: {kind: adapt}
  two: {kind: adapt, encoder: three}
  three: {kind: adapt, corpus: {source: %s, streaming: {limit: 9}}}
  four: {kind: adapt, encoder: two, corpus: {source: %s, streaming: {limit: 9}, unit: sentence}}
  plain: {kind: adapt, corpus: all}
  head: {kind: classify, encoder: four}
"""


@pytest.mark.parametrize("source", ["a.txt", "[folder, folder/deep/a.txt, a.txt]", "['folder/*.txt', me/x, s3://b/x]"])
def test_corpora_count_the_same_in_a_pod(source: str, tmp_path: Path):
    for number, name in enumerate(("a.txt", "folder/a.txt", "folder/deep/a.txt")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{number}\n")
    (tmp_path / "job.yaml").write_text(CORPORA % (source, source))
    check_identities(tmp_path / "job.yaml", [], tmp_path / "pods")
    job = read(tmp_path / "job.yaml")
    stages = {stage.stage: stage for stage in stage_jobs(plan(job))}
    assert stages["four"].needs == ("prepare", "two", "three-corpus")
    copied = yaml.safe_load(JobBundle(job).of(stages["four"]))
    assert list(copied["stages"]) == ["one", "two", "three", "four"]  # corpora of two and four are named after others


def test_a_corpus_stage_has_no_gpu_and_waits_for_what_it_needs(tmp_path: Path):
    free = "  free: {kind: adapt, corpus: {source: me/b, decontaminate: false}}\nhypotheses"
    text = JOB.replace("epochs: 2}\n  head", "epochs: 2, corpus: {source: me/a}}\n  head").replace("hypotheses", free)
    (tmp_path / "job.yaml").write_text(text % "me/rows")
    job = read(tmp_path / "job.yaml")
    options = Options(image="ftjobs:0.1.0", store="s3://bucket/runs", gpus=2)
    manifests = [one for one in render(job, options) if one["kind"] == "Job"]
    jobs = {one["metadata"]["labels"].get("ftjobs/stage"): one for one in manifests}
    for name, waits in (("adapt-corpus", True), ("free-corpus", False)):
        spec = jobs[name]["spec"]
        assert (spec["suspend"], spec["completions"]) == (waits, 1)
        pod = spec["template"]["spec"]
        assert "nvidia.com/gpu" not in str(pod["containers"][0]["resources"])
        assert "--num-processes" not in pod["containers"][0]["args"]
    needs = {name: one["metadata"].get("annotations", {}).get("ftjobs/needs") for name, one in jobs.items()}
    assert needs["adapt-corpus"] == "prepare"
    assert needs["free-corpus"] == ""
    assert needs["adapt"] == "prepare,adapt-corpus"
    jobset = render(job, options, "jobset")[-1]
    entries = {one["name"]: one for one in jobset["spec"]["replicatedJobs"]}
    assert [one["name"] for one in entries["adapt"]["dependsOn"]] == ["adapt-corpus"]
    assert [one["name"] for one in entries["adapt-corpus"]["dependsOn"]] == ["prepare"]


INTERMEDIATE = """\
name: small
encoder: {model: me/encoder}
data: {source: folder/a.csv, text: [a, b], label: same, split: {test_fraction: 0.1}}
defaults: {classify: {data: {source: folder/deep/a.csv, text: a, label: b}}}
stages:
  one: {kind: classify}
  two: {kind: classify, encoder: one, data: {source: folder/deep/a.csv, text: a, label: b}}
  three: {kind: classify, data: {source: %s, text: a, label: b}}
  four: {kind: classify, encoder: three, data: {source: {train: folder, test: folder/a.csv}, text: a, label: b}}
  plain: {kind: classify, encoder: two, data: null}
  same: {kind: classify, encoder: four, data: {source: folder/a.csv, text: [a, b], label: same, split: {test_fraction: 0.1}}}
hypotheses: [plain > same]
"""


@pytest.mark.parametrize("source", ["pairs.csv", "s3://bucket/pairs.csv", "./folder/*.csv", "me/pairs"])
def test_data_of_stages_counts_the_same_in_a_pod(source: str, tmp_path: Path):
    """Shared data stays shared, whichever of its readers a pod's copy of the job holds; files called alike stay apart."""
    for number, name in enumerate(("pairs.csv", "folder/a.csv", "folder/deep/a.csv")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"a,b,same\nx,y,{number}\n")
    (tmp_path / "job.yaml").write_text(INTERMEDIATE % source)
    job = read(tmp_path / "job.yaml")
    assert [stage.stage for stage in stage_jobs(plan(job)) if stage.kind == "data"] == [
        *("one-data", "three-data", "four-data")
    ]
    check_identities(tmp_path / "job.yaml", [], tmp_path / "pods")


def test_a_stage_that_brings_data_is_a_job_without_gpu_that_waits_for_nothing(tmp_path: Path):
    (tmp_path / "job.yaml").write_text(
        JOB.replace("hypotheses", "  nli: {kind: classify, data: {source: me/nli, text: t, label: l}}\nhypotheses")
        % "me/pairs"
    )
    job = read(tmp_path / "job.yaml")
    options = Options(image="ftjobs:0.1.0", store="s3://bucket/runs", gpus=1)
    jobs = {
        m["metadata"]["labels"]["ftjobs/stage"]: m
        for m in render(job, options)
        if m["kind"] == "Job" and "ftjobs/stage" in m["metadata"]["labels"]
    }
    bringing, training = jobs["nli-data"], jobs["nli"]
    assert (bringing["spec"]["suspend"], bringing["spec"]["completions"]) == (False, 1)
    assert "nvidia.com/gpu" not in bringing["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert training["metadata"]["annotations"]["ftjobs/needs"].split(",") == ["prepare", "nli-data"]
    jobset = next(m for m in render(job, options, "jobset") if m["kind"] == "JobSet")
    entries = {one["name"]: one for one in jobset["spec"]["replicatedJobs"]}
    assert "dependsOn" not in entries["nli-data"]
    assert {one["name"] for one in entries["nli"]["dependsOn"]} == {"prepare", "nli-data"}


def test_a_path_from_the_command_line_is_packed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "other.csv").write_text("a,b,same\nx,y,1\n")
    (tmp_path / "job.yaml").write_text(JOB % "me/pairs")
    monkeypatch.chdir(tmp_path)
    check_identities(Path("job.yaml"), ["data.source=other.csv"], tmp_path / "pods")


def test_strings_stay_strings_to_every_parser_of_yaml(tmp_path: Path):
    (tmp_path / "job.yaml").write_text(
        JOB.replace("me/encoder", "me/encoder, revision: '12e4'") % "me/pairs, revision: '0755'"
    )
    check_identities(tmp_path / "job.yaml", [], tmp_path / "pods")


def test_what_a_stage_gets_changes_only_with_what_it_builds_on(tmp_path: Path):
    path = tmp_path / "job.yaml"
    path.write_text(JOB % "me/pairs")

    def objects(*overrides: str) -> dict[tuple[str, str], Any]:
        return {(m["kind"], m["metadata"]["name"]): m for m in render(read(path, overrides), OPTIONS)}

    before, after = objects(), objects("stages.adapt.epochs=3", "hypotheses=[]")
    kept = {name for kind, name in before if kind == "Job" and (kind, name) in after}
    assert {name.rsplit("-", 1)[0] for name in kept} == {"small-prepare", "small-plain"}
    for name in kept:  # or `kubectl apply` would be refused: the pod template of a Job cannot be changed
        assert before["Job", name] == after["Job", name]
    assert (
        before["ConfigMap", next(n for n in kept if "plain" in n)]
        == after["ConfigMap", next(n for n in kept if "plain" in n)]
    )
    new = {name.rsplit("-", 1)[0] for kind, name in after if kind == "Job" and name not in kept}
    assert new == {"small-adapt", "small-again", "small-head", "small-report", "small-conductor"}
    for (kind, name), manifest in before.items():
        if manifest.get("immutable") and (kind, name) in after:
            assert after[kind, name] == manifest


def test_what_changes_no_result_reaches_the_pods_under_the_same_names(tmp_path: Path):
    path = tmp_path / "job.yaml"
    path.write_text(JOB % "me/pairs")
    before = [m for m in render(read(path), OPTIONS) if m["kind"] == "Job"]
    job = read(path, ["defaults.classify.save_every=7", "tracking.wandb.project=mine"])
    after = render(job, OPTIONS)
    assert before[:-1] == [m for m in after if m["kind"] == "Job"][:-1]  # all but the conductor's
    copy = next(m for m in after if m["kind"] == "ConfigMap" and "-plain-" in m["metadata"]["name"])
    assert "immutable" not in copy
    assert yaml.safe_load(copy["data"]["job.yaml"])["defaults"]["classify"]["save_every"] == 7
    assert yaml.safe_load(copy["data"]["job.yaml"])["tracking"] == {"wandb": {"project": "mine"}}


def test_what_is_packed_says_nothing_of_this_machine(tmp_path: Path):
    packed = JobBundle(read(ROOT / "jobs/quickstart.yaml")).packed
    assert packed is not None
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        (entry,) = tar.getmembers()
        assert (entry.name, entry.mtime, entry.uid, entry.uname, entry.mode) == ("quickstart.csv", 0, 0, "", 0o644)
    assert str(ROOT) not in json.dumps(render(read(ROOT / "jobs/quickstart.yaml"), OPTIONS))


def test_names_may_be_as_long_as_job_files_allow(tmp_path: Path):
    path = tmp_path / "job.yaml"
    path.write_text(
        (JOB % "me/pairs")
        .replace("small", "p" * 33)
        .replace("plain", "s" * 15)
        .replace("[3, 1]", str(list(range(100))))
    )
    for manifest in render(read(path), OPTIONS):
        assert len(manifest["metadata"]["name"]) <= 63
    with pytest.raises(UserError, match="start with a letter"):
        render(read(path), OPTIONS, "jobset")
    path.write_text(JOB.replace("small", "3d") % "me/pairs")
    with pytest.raises(UserError, match="start with a letter"):
        render(read(path), OPTIONS, "jobset")


class TestRefused:
    def test_an_encoder_on_this_machine(self, tmp_path: Path):
        (tmp_path / "bert").mkdir()
        (tmp_path / "job.yaml").write_text(JOB.replace("me/encoder", "bert") % "me/pairs")
        with pytest.raises(UserError, match=r"encoder.model: .*bert is a folder on this machine.*s3://"):
            JobBundle(read(tmp_path / "job.yaml"))

    def test_data_too_large_to_apply(self, tmp_path: Path):
        (tmp_path / "job.yaml").write_text(JOB % "pairs.parquet")
        (tmp_path / "pairs.parquet").write_bytes(random.Random(0).randbytes(200_000))
        with pytest.raises(UserError, match=r"data.source: the files have 20\d kB when packed, and 188 fit .*s3://"):
            JobBundle(read(tmp_path / "job.yaml"))
        (tmp_path / "own.yaml").write_text(
            JOB.replace(
                "plain: {kind: classify", "plain: {kind: classify, data: {source: pairs.parquet, text: a, label: b}"
            ).replace("hypotheses: [head > plain]", "")
            % "me/pairs"
        )
        with pytest.raises(UserError, match=r"^stages.plain.data.source: the files have 20\d kB when packed.*s3://"):
            JobBundle(read(tmp_path / "own.yaml"))
        (tmp_path / "pairs.parquet").write_bytes(random.Random(0).randbytes(185_000))
        largest = max(render(read(tmp_path / "job.yaml"), OPTIONS), key=lambda manifest: len(json.dumps(manifest)))
        assert 240_000 < len(json.dumps(largest)) < kubernetes_rules.MOST_APPLIED - 1024

    def test_too_many_seeds_for_a_host_name(self, tmp_path: Path):
        (tmp_path / "job.yaml").write_text(
            (JOB % "me/pairs")
            .replace("small", "p" * 33)
            .replace("plain", "s" * 15)
            .replace("[3, 1]", str(list(range(10_001))))
        )
        with pytest.raises(UserError, match="longer than 63 characters"):
            pipeline_of(read(tmp_path / "job.yaml"), OPTIONS)
