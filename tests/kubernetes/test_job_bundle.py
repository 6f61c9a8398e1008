"""The job bundle: pods compute the identities of the machine that rendered them, for data in any location."""

from __future__ import annotations

import io
import json
import random
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from ftjobs.errors import UserError
from ftjobs.jobfile.read import read
from ftjobs.kubernetes.job_bundle import JobBundle
from ftjobs.kubernetes.manifests import Pipeline
from ftjobs.kubernetes.options import Options
from ftjobs.kubernetes.rendering import render
from ftjobs.kubernetes.stage_jobs import stage_jobs
from ftjobs.plan import plan, select_index
from tests.helpers import kubernetes_rules
from tests.helpers.pod_files import write_pod_files

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


def check_identities(path: Path, overrides: list[str], folder: Path) -> None:
    """Check that every pod plans its stage with the identities of the original job file."""
    job = read(path, overrides)
    runs = plan(job)
    manifests = render(job, OPTIONS)
    for stage in stage_jobs(runs):
        manifest = next(m for m in manifests if m["kind"] == "Job" and m["metadata"]["name"] == stage.name)
        pod = manifest["spec"]["template"]["spec"]
        pod_runs = plan(read(write_pod_files(manifests, pod, folder / stage.name)))
        name = pod["containers"][0]["args"][2]
        for index, run in enumerate(stage.runs):
            pod_run = select_index(pod_runs, name, index)
            assert (pod_run.identity, pod_run.seed, pod_run.key) == (run.identity, run.seed, run.key)
            with_paths = {"data", "corpus"}
            assert pod_run.settings.model_dump(exclude=with_paths) == run.settings.model_dump(exclude=with_paths)
        assert manifest["metadata"]["annotations"]["ftjobs/identity"] == stage.identity
    controller = manifests[-1]["spec"]["template"]["spec"]
    pod_runs = plan(read(write_pod_files(manifests, controller, folder / "controller")))
    assert [(run.stage, run.identity) for run in pod_runs] == [(run.stage, run.identity) for run in runs]


@pytest.mark.parametrize(
    ("job", "overrides"),
    [
        ("quickstart", []),
        ("quickstart", ["seeds=[7]", "stages.head.epochs=2", "encoder.scratch.vocab_size=300"]),
        ("medical-questions", []),
        ("medical-questions", ["data.source=s3://bucket/data.csv", "tracking.wandb.project=x"]),
    ],
)
def test_pods_compute_the_identities_of_the_job_file(job: str, overrides: list[str], tmp_path: Path):
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
def test_local_sources_keep_identities_in_pods(source: str, tmp_path: Path):
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
def test_local_corpora_keep_identities_in_pods(source: str, tmp_path: Path):
    for number, name in enumerate(("a.txt", "folder/a.txt", "folder/deep/a.txt")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{number}\n")
    (tmp_path / "job.yaml").write_text(CORPORA % (source, source))
    check_identities(tmp_path / "job.yaml", [], tmp_path / "pods")
    job = read(tmp_path / "job.yaml")
    stages = {stage.stage: stage for stage in stage_jobs(plan(job))}
    assert stages["four"].needs == ("prepare", "two", "three-corpus")
    stage_job = yaml.safe_load(JobBundle(job).stage_job_file(stages["four"]))
    assert list(stage_job["stages"]) == [
        "one",
        "two",
        "three",
        "four",
    ]  # one and three name the corpora of two and four


def test_corpus_stage_has_no_gpu_and_depends_on_prepare_to_decontaminate(tmp_path: Path):
    free = "  free: {kind: adapt, corpus: {source: me/b, decontaminate: false}}\nhypotheses"
    text = JOB.replace("epochs: 2}\n  head", "epochs: 2, corpus: {source: me/a}}\n  head").replace("hypotheses", free)
    (tmp_path / "job.yaml").write_text(text % "me/rows")
    job = read(tmp_path / "job.yaml")
    options = Options(image="ftjobs:0.1.0", store="s3://bucket/runs", gpus=2)
    manifests = [m for m in render(job, options) if m["kind"] == "Job"]
    jobs = {m["metadata"]["labels"].get("ftjobs/stage"): m for m in manifests}
    for name, suspended in (("adapt-corpus", True), ("free-corpus", False)):
        spec = jobs[name]["spec"]
        assert (spec["suspend"], spec["completions"]) == (suspended, 1)
        pod = spec["template"]["spec"]
        assert "nvidia.com/gpu" not in str(pod["containers"][0]["resources"])
        assert "--num-processes" not in pod["containers"][0]["args"]
    needs = {name: m["metadata"].get("annotations", {}).get("ftjobs/needs") for name, m in jobs.items()}
    assert needs["adapt-corpus"] == "prepare"
    assert needs["free-corpus"] == ""
    assert needs["adapt"] == "prepare,adapt-corpus"
    jobset = render(job, options, "jobset")[-1]
    entries = {entry["name"]: entry for entry in jobset["spec"]["replicatedJobs"]}
    assert [dependency["name"] for dependency in entries["adapt"]["dependsOn"]] == ["adapt-corpus"]
    assert [dependency["name"] for dependency in entries["adapt-corpus"]["dependsOn"]] == ["prepare"]


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
def test_data_of_stages_keeps_identities_in_pods(source: str, tmp_path: Path):
    """Shared data stays shared in every stage's job file; files of equal name stay separate."""
    for number, name in enumerate(("pairs.csv", "folder/a.csv", "folder/deep/a.csv")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"a,b,same\nx,y,{number}\n")
    (tmp_path / "job.yaml").write_text(INTERMEDIATE % source)
    job = read(tmp_path / "job.yaml")
    assert [stage.stage for stage in stage_jobs(plan(job)) if stage.kind == "data"] == [
        *("one-data", "three-data", "four-data")
    ]
    check_identities(tmp_path / "job.yaml", [], tmp_path / "pods")


def test_data_stage_has_no_gpu_and_no_dependencies(tmp_path: Path):
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
    data, training = jobs["nli-data"], jobs["nli"]
    assert (data["spec"]["suspend"], data["spec"]["completions"]) == (False, 1)
    assert "nvidia.com/gpu" not in data["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert training["metadata"]["annotations"]["ftjobs/needs"].split(",") == ["prepare", "nli-data"]
    jobset = next(m for m in render(job, options, "jobset") if m["kind"] == "JobSet")
    entries = {entry["name"]: entry for entry in jobset["spec"]["replicatedJobs"]}
    assert "dependsOn" not in entries["nli-data"]
    assert {dependency["name"] for dependency in entries["nli"]["dependsOn"]} == {"prepare", "nli-data"}


def test_path_from_an_override_is_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "other.csv").write_text("a,b,same\nx,y,1\n")
    (tmp_path / "job.yaml").write_text(JOB % "me/pairs")
    monkeypatch.chdir(tmp_path)
    check_identities(Path("job.yaml"), ["data.source=other.csv"], tmp_path / "pods")


def test_number_like_strings_stay_strings(tmp_path: Path):
    (tmp_path / "job.yaml").write_text(
        JOB.replace("me/encoder", "me/encoder, revision: '12e4'") % "me/pairs, revision: '0755'"
    )
    check_identities(tmp_path / "job.yaml", [], tmp_path / "pods")


def test_stage_manifests_change_only_with_stages_they_build_on(tmp_path: Path):
    path = tmp_path / "job.yaml"
    path.write_text(JOB % "me/pairs")

    def objects(*overrides: str) -> dict[tuple[str, str], Any]:
        return {(m["kind"], m["metadata"]["name"]): m for m in render(read(path, overrides), OPTIONS)}

    original, changed = objects(), objects("stages.adapt.epochs=3", "hypotheses=[]")
    kept = {name for kind, name in original if kind == "Job" and (kind, name) in changed}
    assert {name.rsplit("-", 1)[0] for name in kept} == {"small-prepare", "small-plain"}
    for name in kept:  # the pod template of a Job is immutable
        assert original["Job", name] == changed["Job", name]
    plain = next(name for name in kept if "plain" in name)
    assert original["ConfigMap", plain] == changed["ConfigMap", plain]
    new = {name.rsplit("-", 1)[0] for kind, name in changed if kind == "Job" and name not in kept}
    assert new == {"small-adapt", "small-again", "small-head", "small-report", "small-conductor"}
    for (kind, name), manifest in original.items():
        if manifest.get("immutable") and (kind, name) in changed:
            assert changed[kind, name] == manifest


def test_settings_without_effect_on_results_change_only_config_maps(tmp_path: Path):
    path = tmp_path / "job.yaml"
    path.write_text(JOB % "me/pairs")
    original = [m for m in render(read(path), OPTIONS) if m["kind"] == "Job"]
    job = read(path, ["defaults.classify.save_every=7", "tracking.wandb.project=mine"])
    changed = render(job, OPTIONS)
    assert original[:-1] == [m for m in changed if m["kind"] == "Job"][:-1]  # all but the controller's
    plain = next(m for m in changed if m["kind"] == "ConfigMap" and "-plain-" in m["metadata"]["name"])
    assert "immutable" not in plain
    job_file = yaml.safe_load(plain["data"]["job.yaml"])
    assert job_file["defaults"]["classify"]["save_every"] == 7
    assert job_file["tracking"] == {"wandb": {"project": "mine"}}


def test_archive_has_no_metadata_of_this_machine(tmp_path: Path):
    archive = JobBundle(read(ROOT / "jobs/quickstart.yaml")).archive
    assert archive is not None
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        (entry,) = tar.getmembers()
        assert (entry.name, entry.mtime, entry.uid, entry.uname, entry.mode) == ("quickstart.csv", 0, 0, "", 0o644)
    assert str(ROOT) not in json.dumps(render(read(ROOT / "jobs/quickstart.yaml"), OPTIONS))


def test_longest_names_of_job_files_fit(tmp_path: Path):
    path = tmp_path / "job.yaml"
    path.write_text(
        (JOB % "me/pairs")
        .replace("small", "p" * 33)
        .replace("plain", "s" * 15)
        .replace("[3, 1]", str(list(range(100))))
    )
    for manifest in render(read(path), OPTIONS):
        assert len(manifest["metadata"]["name"]) <= 63
    with pytest.raises(UserError, match="with a letter"):
        render(read(path), OPTIONS, "jobset")
    path.write_text(JOB.replace("small", "3d") % "me/pairs")
    with pytest.raises(UserError, match="with a letter"):
        render(read(path), OPTIONS, "jobset")


class TestUserErrors:
    def test_local_encoder_is_rejected(self, tmp_path: Path):
        (tmp_path / "bert").mkdir()
        (tmp_path / "job.yaml").write_text(JOB.replace("me/encoder", "bert") % "me/pairs")
        with pytest.raises(UserError, match=r"encoder.model: .*bert .*s3://"):
            JobBundle(read(tmp_path / "job.yaml"))

    def test_data_above_the_size_limit(self, tmp_path: Path):
        (tmp_path / "job.yaml").write_text(JOB % "pairs.parquet")
        (tmp_path / "pairs.parquet").write_bytes(random.Random(0).randbytes(200_000))
        with pytest.raises(UserError, match=r"^data.source: .* 20\d kB, .* 188 kB .*s3://"):
            JobBundle(read(tmp_path / "job.yaml"))
        (tmp_path / "stage-data.yaml").write_text(
            JOB.replace(
                "plain: {kind: classify", "plain: {kind: classify, data: {source: pairs.parquet, text: a, label: b}"
            ).replace("hypotheses: [head > plain]", "")
            % "me/pairs"
        )
        with pytest.raises(UserError, match=r"^stages.plain.data.source: .* 20\d kB, .*s3://"):
            JobBundle(read(tmp_path / "stage-data.yaml"))
        (tmp_path / "pairs.parquet").write_bytes(random.Random(0).randbytes(185_000))
        largest = max(render(read(tmp_path / "job.yaml"), OPTIONS), key=lambda manifest: len(json.dumps(manifest)))
        assert 240_000 < len(json.dumps(largest)) < kubernetes_rules.MOST_APPLIED - 1024

    def test_host_name_with_too_many_digits(self, tmp_path: Path):
        (tmp_path / "job.yaml").write_text(
            (JOB % "me/pairs")
            .replace("small", "p" * 33)
            .replace("plain", "s" * 15)
            .replace("[3, 1]", str(list(range(10_001))))
        )
        with pytest.raises(UserError, match="exceeds 63 characters"):
            Pipeline.from_job(read(tmp_path / "job.yaml"), OPTIONS)
