"""Rendered and committed manifests: valid, restricted, reproducible, and equal to each other."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from ftjobs.jobfile.read import read
from ftjobs.kubernetes.options import Options
from ftjobs.kubernetes.rendering import as_yaml, render
from tests.helpers import kubernetes_rules

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
VERSIONS = sorted({v for v in kubernetes_validate.utils.all_versions() if int(v.split(".")[1]) >= 31})
kubernetes_validate.utils.schema_contents = cache(
    kubernetes_validate.utils.schema_contents
)  # it reads 2 MB for each manifest
JOBSET = K8S / "jobset"  # its pipeline.yaml is not committed
OVERLAYS = sorted(
    path.parent
    for path in K8S.rglob("kustomization.yaml")
    if yaml.safe_load(path.read_text())["kind"] == "Kustomization" and path.parent != JOBSET
)
COMPONENTS = sorted(K8S.glob("components/*"))
needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


def rendered(job: str, engine: str = "jobs", overrides: tuple[str, ...] = (), **options: Any) -> list[dict[str, Any]]:
    settings = {"image": "registry.example/ftjobs:0.1.0", "store": "s3://bucket/runs"} | options
    text = as_yaml(
        render(read(ROOT / "jobs" / f"{job}.yaml", overrides), Options(**settings), engine),
        read(ROOT / "jobs" / f"{job}.yaml"),
    )
    return list(yaml.safe_load_all(text))


@cache
def built(folder: Path) -> str:
    """Output of `kubectl kustomize`."""
    result = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def render_command(folder: Path) -> tuple[list[str], Path]:
    """Arguments of the `ftjobs render` command in a kustomization's comment, and the file for its output."""
    match = re.search(r"# +ftjobs (render .*) > (k8s/\S+)", (folder / "kustomization.yaml").read_text())
    assert match
    return shlex.split(match[1]), ROOT / match[2]


def run_ftjobs(arguments: list[str], cwd: Path = ROOT, **variables: str) -> str:
    command = [sys.executable, "-m", "ftjobs", *arguments]
    return subprocess.run(
        command, cwd=cwd, env=os.environ | variables, capture_output=True, text=True, check=True
    ).stdout


@cache
def jobset_overlay() -> str:
    """k8s/jobset with the pipeline of its render command; through kustomize if kubectl is installed."""
    arguments, output = render_command(JOBSET)
    assert output == JOBSET / "pipeline.yaml"
    text = run_ftjobs(arguments)
    if shutil.which("kubectl") is None:
        return text
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(JOBSET / "kustomization.yaml", folder)
        Path(folder, "pipeline.yaml").write_text(text)
        return built(Path(folder))


def committed() -> dict[str, str]:
    """Committed manifests as applied: folders through kustomize if kubectl is installed, else the files."""
    if shutil.which("kubectl"):
        folders = {f"-k {folder.relative_to(K8S)}": built(folder) for folder in OVERLAYS}
        return folders | {path.name: path.read_text() for path in K8S.glob("*.yaml")}
    return {
        path.relative_to(K8S).as_posix(): path.read_text()
        for path in sorted(K8S.rglob("*.yaml"))
        if path.name != "kustomization.yaml" and path.parent != JOBSET
    }


RENDERED = {
    "reference": {"job": "medical-questions"},
    "quickstart": {"job": "quickstart", "namespace": "team"},
    "gpus": {"job": "quickstart", "gpus": 4, "memory": "64Gi", "environment": {"AWS_REGION": "eu-central-1"}},
    "kueue": {"job": "medical-questions", "queue": "gpus", "gpus": 1},
    "nodes": {"job": "medical-questions", "gpus": 8, "nodes": 2},
    "nodes through kueue": {"job": "quickstart", "nodes": 4, "queue": "gpus", "namespace": "team"},
    "jobset": {"job": "medical-questions", "engine": "jobset", "gpus": 1},
    "jobset nodes": {"job": "quickstart", "engine": "jobset", "nodes": 2},
    "jobset quickstart": {"job": "quickstart", "engine": "jobset", "queue": "gpus", "namespace": "team"},
}
SETS = {
    **{f"render {name}": name for name in RENDERED},
    **{name: name for name in committed()},
    "-k jobset": "-k jobset",
}


@cache
def manifests(name: str) -> list[dict[str, Any]]:
    if name in RENDERED:
        return rendered(**RENDERED[name])
    if name == "-k jobset":
        return list(yaml.safe_load_all(jobset_overlay()))
    return list(yaml.safe_load_all(committed()[name]))


@pytest.mark.parametrize("name", SETS.values(), ids=SETS)
class TestEveryManifest:
    def test_matches_the_schemas_of_every_version(self, name: str):
        assert VERSIONS[0].startswith("1.31.")
        assert len(VERSIONS) >= 7
        for manifest in manifests(name):
            objects = [manifest]
            if manifest["kind"] == "JobSet":  # only its Jobs; jobset_problems checks the rest
                entries = manifest["spec"]["replicatedJobs"]
                objects = [
                    {
                        "apiVersion": "batch/v1",
                        "kind": "Job",
                        "metadata": {"name": "a"},
                        "spec": entry["template"]["spec"],
                    }
                    for entry in entries
                ]
            for version in VERSIONS:
                for checked in objects:
                    kubernetes_validate.validate(checked, version, strict=True)

    def test_follows_rules_outside_the_schemas(self, name: str):
        for manifest in manifests(name):
            metadata = manifest["metadata"]
            problems = list(kubernetes_rules.metadata_problems(metadata))
            if manifest["kind"] == "Job":
                problems += kubernetes_rules.job_problems(metadata["name"], manifest["spec"])
            elif manifest["kind"] == "JobSet":
                problems += kubernetes_rules.jobset_problems(manifest)
            elif manifest["kind"] == "ConfigMap":
                assert len(json.dumps(manifest)) < kubernetes_rules.MOST_APPLIED - 1024
            for pod in kubernetes_rules.pods(manifest):
                problems += kubernetes_rules.pod_problems(pod)
            assert problems == [], metadata["name"]
        names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests(name)]
        assert len(set(names)) == len(names)

    def test_passes_the_restricted_level(self, name: str):
        for manifest in manifests(name):
            for pod in kubernetes_rules.pods(manifest):
                assert list(kubernetes_rules.restricted_problems(pod)) == []
                # Beyond the restricted level:
                for container in [*pod["containers"], *pod.get("initContainers", [])]:
                    assert container["securityContext"]["readOnlyRootFilesystem"] is True
                    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["runAsGroup"] == 10001
                is_controller = pod.get("serviceAccountName") == "ftjobs-conductor"
                assert pod["automountServiceAccountToken"] is is_controller

    def test_has_image_versions_and_no_secrets(self, name: str):
        for manifest in manifests(name):
            for pod in kubernetes_rules.pods(manifest):
                for container in [*pod["containers"], *pod.get("initContainers", [])]:
                    assert re.search(r":[\w.-]+$|@sha256:", container["image"]), container["image"]
                    assert not container["image"].endswith(":latest")
                    for variable in container.get("env", []):
                        assert not re.search("KEY|SECRET|TOKEN|PASSWORD", variable["name"])
            if manifest["kind"] == "Secret":  # only of the s3-server component
                assert b"no-secret" in base64.b64decode(manifest["data"]["AWS_SECRET_ACCESS_KEY"])

    def test_referenced_objects_exist(self, name: str):
        if not any(manifest["kind"] == "ConfigMap" for manifest in manifests(name)):
            return
        existing = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests(name)}
        for manifest in manifests(name):
            for pod in kubernetes_rules.pods(manifest):
                if "subdomain" in pod:
                    assert ("Service", pod["subdomain"]) in existing
                if "serviceAccountName" in pod:
                    assert ("ServiceAccount", pod["serviceAccountName"]) in existing
                for volume in pod.get("volumes", []):
                    if "configMap" in volume:
                        assert ("ConfigMap", volume["configMap"]["name"]) in existing
                for container in pod["containers"]:
                    for source in container.get("envFrom", []):
                        if "configMapRef" in source:
                            assert ("ConfigMap", source["configMapRef"]["name"]) in existing


def test_controller_gets_only_store_credentials_and_fails_permanently_on_1():
    jobs = {
        m["metadata"]["labels"]["app.kubernetes.io/component"]: m for m in rendered("quickstart") if m["kind"] == "Job"
    }
    secrets, permanent = {}, {}
    for component, job in jobs.items():
        (container,) = job["spec"]["template"]["spec"]["containers"]
        secrets[component] = [source["secretRef"]["name"] for source in container["envFrom"] if "secretRef" in source]
        (rule,) = [rule for rule in job["spec"]["podFailurePolicy"]["rules"] if rule["action"] == "FailJob"]
        permanent[component] = rule["onExitCodes"]["values"]
    assert secrets.pop("conductor") == ["ftjobs-s3"]
    assert permanent.pop("conductor") == [1, 2]
    assert all(names == ["ftjobs-s3", "ftjobs-wandb", "ftjobs-hf"] for names in secrets.values())
    assert all(codes == [2] for codes in permanent.values())


def test_rules_detect_violations():
    valid = next(m for m in rendered("quickstart", gpus=1) if m["kind"] == "Job" and "head" in m["metadata"]["name"])

    def broken(change: str) -> list[str]:
        manifest = json.loads(json.dumps(valid))
        exec(change, {"spec": manifest["spec"], "pod": manifest["spec"]["template"]["spec"]})
        pod = manifest["spec"]["template"]["spec"]
        return [
            *kubernetes_rules.job_problems("a" * 60, manifest["spec"]),
            *kubernetes_rules.pod_problems(pod),
            *kubernetes_rules.restricted_problems(pod),
        ]

    assert broken("") == []
    for change in (
        "spec['completions'] = 200",
        "pod['restartPolicy'] = 'OnFailure'",
        "spec['podReplacementPolicy'] = 'TerminatingOrFailed'",
        "del spec['podFailurePolicy']['rules'][1]['onPodConditions'][0]['status']",
        "spec['podFailurePolicy']['rules'][2]['onExitCodes']['values'].reverse()",
        "spec['podFailurePolicy']['rules'][0]['onExitCodes']['values'] = [0, 2]",
        "spec['completionMode'] = 'NonIndexed'",
        "pod['containers'][0]['securityContext'] = {}",
        "del pod['securityContext']",
        "pod['volumes'].append({'name': 'host', 'hostPath': {'path': '/'}})",
        "del pod['volumes'][0]",
        "pod['hostNetwork'] = True",
    ):
        assert broken(change), change


class TestCommitted:
    @pytest.mark.parametrize("folder", [K8S / "base", K8S / "overlays/try"], ids=lambda path: path.name)
    def test_pipeline_equals_the_output_of_its_render_command(self, folder: Path):
        arguments, output = render_command(folder)
        assert output == folder / "pipeline.yaml"
        assert run_ftjobs(arguments) == output.read_text()

    def test_generated_pipelines_are_marked_and_no_others_are_committed(self):
        listed = subprocess.run(
            ["git", "ls-files", "k8s/*pipeline.yaml"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split()
        marked = re.findall(r"^(\S+) linguist-generated$", (ROOT / ".gitattributes").read_text(), re.MULTILINE)
        assert listed == marked == ["k8s/base/pipeline.yaml", "k8s/overlays/try/pipeline.yaml"]

    def test_readme_has_the_render_command_of_the_jobset_overlay(self):
        arguments, output = render_command(JOBSET)
        command = f"ftjobs {shlex.join(arguments)} > {output.relative_to(ROOT)}"
        readme = re.sub(r" *\\\n *", " ", (K8S / "README.md").read_text())  # continued lines joined
        assert command in readme

    @needs_kubectl
    @pytest.mark.parametrize("folder", COMPONENTS, ids=lambda path: path.name)
    def test_component_applies_to_any_pipeline(self, folder: Path, tmp_path: Path):
        shutil.copytree(K8S, tmp_path / "k8s")
        (tmp_path / "k8s/base/pipeline.yaml").write_text(
            as_yaml(
                render(read(ROOT / "jobs/quickstart.yaml"), Options(image="ftjobs:0.1.0", store="s3://a/b")),
                read(ROOT / "jobs/quickstart.yaml"),
            )
        )
        overlay = tmp_path / "k8s/overlays/component"
        overlay.mkdir()
        (overlay / "kustomization.yaml").write_text(
            yaml.safe_dump({"resources": ["../../base"], "components": [f"../../components/{folder.name}"]})
        )
        base, patched = built(tmp_path / "k8s/base"), built(overlay)
        assert base != patched
        trained = [
            m
            for m in yaml.safe_load_all(patched)
            if m["kind"] == "Job" and m["metadata"]["labels"]["app.kubernetes.io/component"] in ("adapt", "classify")
        ]
        assert len(trained) == 5
        for manifest in trained:
            pod = manifest["spec"]["template"]["spec"]
            assert list(kubernetes_rules.restricted_problems(pod)) == list(kubernetes_rules.pod_problems(pod)) == []

    @needs_kubectl
    def test_gpu_overlay_gives_a_gpu_to_training_stages_only(self):
        for manifest in yaml.safe_load_all(built(K8S / "overlays/gpu")):
            for pod in kubernetes_rules.pods(manifest):
                container = pod["containers"][0]
                hides_gpus = {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"} in container["env"]
                trains = manifest["metadata"]["labels"]["app.kubernetes.io/component"] in ("adapt", "classify")
                assert container["resources"]["limits"].get("nvidia.com/gpu") == ("1" if trains else None)
                assert hides_gpus is not trains
                assert (pod.get("tolerations") is not None) is trains

    @needs_kubectl
    def test_gpu_overlay_equals_rendering_with_one_gpu(self):
        by_name = {m["metadata"]["name"]: m for m in rendered("medical-questions", gpus=1) if m["kind"] == "Job"}
        for manifest in yaml.safe_load_all(built(K8S / "overlays/gpu")):
            if manifest["kind"] == "Job":
                with_image = json.dumps(manifest).replace("registry.example.com/ftjobs", "registry.example/ftjobs")
                assert json.loads(with_image) == by_name[manifest["metadata"]["name"]]

    @needs_kubectl
    def test_try_overlay_is_complete_without_edits(self):
        objects = {(m["kind"], m["metadata"]["name"]): m for m in yaml.safe_load_all(built(K8S / "overlays/try"))}
        settings = objects["ConfigMap", "quickstart-settings"]["data"]
        assert settings["FTJOBS_STORE"] == "s3://ftjobs/runs"
        service = objects["Service", "ftjobs-s3"]
        assert settings["AWS_ENDPOINT_URL_S3"] == f"http://ftjobs-s3:{service['spec']['ports'][0]['port']}"
        assert set(objects["Secret", "ftjobs-s3"]["data"]) == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
        assert "nvidia.com/gpu" not in built(K8S / "overlays/try")


class TestReproducibility:
    @pytest.mark.parametrize("engine", ["jobs", "jobset"])
    def test_same_bytes_in_two_processes_and_folders(self, tmp_path: Path, engine: str):
        texts = set()
        for number, folder in enumerate(("first", "second")):
            shutil.copytree(ROOT / "jobs", tmp_path / folder)
            os.utime(tmp_path / folder / "quickstart.csv", (number, number))
            (tmp_path / folder / "quickstart.csv").chmod(0o600 + 0o44 * number)
            arguments = [
                "render",
                f"{folder}/quickstart.yaml",
                "--image",
                "a:1",
                "--store",
                "s3://b/c",
                "--engine",
                engine,
            ]
            texts.add(run_ftjobs(arguments, cwd=tmp_path, PYTHONHASHSEED=str(number)))
        assert len(texts) == 1
        assert len(texts.pop()) > 10_000
