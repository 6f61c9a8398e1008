"""What is rendered and what is committed: valid, restricted, the same every time, and kept equal."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
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
OVERLAYS = sorted(
    path.parent
    for path in K8S.rglob("kustomization.yaml")
    if yaml.safe_load(path.read_text())["kind"] == "Kustomization"
)
COMPONENTS = sorted(path.parent for path in K8S.rglob("kustomization.yaml") if path.parent not in OVERLAYS)
needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not there")


def rendered(job: str, engine: str = "jobs", overrides: tuple[str, ...] = (), **options: Any) -> list[dict[str, Any]]:
    given = {"image": "registry.example/ftjobs:0.1.0", "store": "s3://bucket/runs"} | options
    text = as_yaml(
        render(read(ROOT / "jobs" / f"{job}.yaml", overrides), Options(**given), engine),
        read(ROOT / "jobs" / f"{job}.yaml"),
    )
    return list(yaml.safe_load_all(text))


@cache
def built(folder: Path) -> str:
    """What `kubectl apply -k` would send."""
    found = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout


def committed() -> dict[str, str]:
    """Every manifest in the repository as it would be applied: folders through kustomize, where there is kubectl."""
    if shutil.which("kubectl"):
        folders = {f"-k {folder.relative_to(K8S)}": built(folder) for folder in OVERLAYS}
        return folders | {path.name: path.read_text() for path in K8S.glob("*.yaml")}
    return {
        path.relative_to(K8S).as_posix(): path.read_text()
        for path in sorted(K8S.rglob("*.yaml"))
        if path.name != "kustomization.yaml"
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
SETS = {**{f"render {name}": name for name in RENDERED}, **{name: name for name in committed()}}


@cache
def manifests(name: str) -> list[dict[str, Any]]:
    if name in RENDERED:
        return rendered(**RENDERED[name])
    return list(yaml.safe_load_all(committed()[name]))


@pytest.mark.parametrize("name", SETS.values(), ids=SETS)
class TestEveryManifest:
    def test_is_strictly_of_the_schemas_of_every_version(self, name: str):
        assert VERSIONS[0].startswith("1.31.")
        assert len(VERSIONS) >= 7
        for manifest in manifests(name):
            checked = [manifest]
            if manifest["kind"] == "JobSet":  # its Jobs; jobset_problems knows the rest
                entries = manifest["spec"]["replicatedJobs"]
                checked = [
                    {
                        "apiVersion": "batch/v1",
                        "kind": "Job",
                        "metadata": {"name": "a"},
                        "spec": entry["template"]["spec"],
                    }
                    for entry in entries
                ]
            for version in VERSIONS:
                for one in checked:
                    kubernetes_validate.validate(one, version, strict=True)

    def test_keeps_the_rules_that_no_schema_holds(self, name: str):
        found = manifests(name)
        for manifest in found:
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
        names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in found]
        assert len(set(names)) == len(names)

    def test_passes_the_restricted_level(self, name: str):
        for manifest in manifests(name):
            for pod in kubernetes_rules.pods(manifest):
                assert list(kubernetes_rules.restricted_problems(pod)) == []
                # And what no level asks for:
                for container in [*pod["containers"], *pod.get("initContainers", [])]:
                    assert container["securityContext"]["readOnlyRootFilesystem"] is True
                    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["runAsGroup"] == 10001
                is_conductor = pod.get("serviceAccountName") == "ftjobs-conductor"
                assert pod["automountServiceAccountToken"] is is_conductor

    def test_names_versions_of_images_and_no_secret(self, name: str):
        for manifest in manifests(name):
            for pod in kubernetes_rules.pods(manifest):
                for container in [*pod["containers"], *pod.get("initContainers", [])]:
                    assert re.search(r":[\w.-]+$|@sha256:", container["image"]), container["image"]
                    assert not container["image"].endswith(":latest")
                    for variable in container.get("env", []):
                        assert not re.search("KEY|SECRET|TOKEN|PASSWORD", variable["name"])
            if manifest["kind"] == "Secret":  # of the server for trying out, which says so
                assert b"no-secret" in base64.b64decode(manifest["data"]["AWS_SECRET_ACCESS_KEY"])

    def test_what_it_refers_to_is_there(self, name: str):
        found = manifests(name)
        if not any(manifest["kind"] == "ConfigMap" for manifest in found):
            return
        there = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in found}
        for manifest in found:
            for pod in kubernetes_rules.pods(manifest):
                if "subdomain" in pod:
                    assert ("Service", pod["subdomain"]) in there
                if "serviceAccountName" in pod:
                    assert ("ServiceAccount", pod["serviceAccountName"]) in there
                for volume in pod.get("volumes", []):
                    if "configMap" in volume:
                        assert ("ConfigMap", volume["configMap"]["name"]) in there
                for container in pod["containers"]:
                    for source in container.get("envFrom", []):
                        if "configMapRef" in source:
                            assert ("ConfigMap", source["configMapRef"]["name"]) in there


def test_the_conductor_has_what_it_needs_and_ends_for_good_when_nothing_more_can_run():
    jobs = {
        m["metadata"]["labels"]["app.kubernetes.io/component"]: m for m in rendered("quickstart") if m["kind"] == "Job"
    }
    secrets = {}
    for_good = {}
    for component, job in jobs.items():
        (container,) = job["spec"]["template"]["spec"]["containers"]
        secrets[component] = [one["secretRef"]["name"] for one in container["envFrom"] if "secretRef" in one]
        (rule,) = [rule for rule in job["spec"]["podFailurePolicy"]["rules"] if rule["action"] == "FailJob"]
        for_good[component] = rule["onExitCodes"]["values"]
    assert secrets.pop("conductor") == ["ftjobs-s3"]
    assert for_good.pop("conductor") == [1, 2]
    assert all(one == ["ftjobs-s3", "ftjobs-wandb", "ftjobs-hf"] for one in secrets.values())
    assert all(one == [2] for one in for_good.values())


def test_the_rules_see_what_is_wrong():
    good = next(m for m in rendered("quickstart", gpus=1) if m["kind"] == "Job" and "head" in m["metadata"]["name"])

    def broken(change: str) -> list[str]:
        manifest = json.loads(json.dumps(good))
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
    @pytest.mark.parametrize("path", sorted(K8S.rglob("pipeline.yaml")), ids=lambda path: path.parent.name)
    def test_is_what_the_command_beside_it_prints(self, path: Path):
        comment = (path.parent / "kustomization.yaml").read_text()
        command = re.search(r"# +ftjobs (render .*) > (k8s/\S+)", comment)
        assert command
        assert ROOT / command[2] == path
        found = subprocess.run(
            [sys.executable, "-m", "ftjobs", *shlex.split(command[1])],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert found.stdout == path.read_text()

    @needs_kubectl
    @pytest.mark.parametrize("folder", COMPONENTS, ids=lambda path: path.name)
    def test_components_change_what_they_say_in_any_pipeline(self, folder: Path, tmp_path: Path):
        """Also together with all others, and whatever the pipeline is called."""
        shutil.copytree(K8S, tmp_path / "k8s")
        (tmp_path / "k8s/base/pipeline.yaml").write_text(
            as_yaml(
                render(read(ROOT / "jobs/quickstart.yaml"), Options(image="ftjobs:0.1.0", store="s3://a/b")),
                read(ROOT / "jobs/quickstart.yaml"),
            )
        )
        overlay = tmp_path / "k8s/overlays/one"
        overlay.mkdir()
        (overlay / "kustomization.yaml").write_text(
            yaml.safe_dump({"resources": ["../../base"], "components": [f"../../components/{folder.name}"]})
        )
        before, after = built(tmp_path / "k8s/base"), built(overlay)
        assert before != after
        trained = [
            m
            for m in yaml.safe_load_all(after)
            if m["kind"] == "Job" and m["metadata"]["labels"]["app.kubernetes.io/component"] in ("adapt", "classify")
        ]
        assert len(trained) == 5
        for manifest in trained:
            pod = manifest["spec"]["template"]["spec"]
            assert list(kubernetes_rules.restricted_problems(pod)) == list(kubernetes_rules.pod_problems(pod)) == []

    @needs_kubectl
    def test_the_gpu_overlay_gives_a_gpu_to_training_and_to_nothing_else(self):
        for manifest in yaml.safe_load_all(built(K8S / "overlays/gpu")):
            for pod in kubernetes_rules.pods(manifest):
                container = pod["containers"][0]
                sees_none = {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"} in container["env"]
                trains = manifest["metadata"]["labels"]["app.kubernetes.io/component"] in ("adapt", "classify")
                assert container["resources"]["limits"].get("nvidia.com/gpu") == ("1" if trains else None)
                assert sees_none is not trains
                assert (pod.get("tolerations") is not None) is trains

    @needs_kubectl
    def test_base_with_a_gpu_is_what_render_prints_with_one(self):
        by_name = {m["metadata"]["name"]: m for m in rendered("medical-questions", gpus=1) if m["kind"] == "Job"}
        for manifest in yaml.safe_load_all(built(K8S / "overlays/gpu")):
            if manifest["kind"] == "Job":
                with_image = json.dumps(manifest).replace("registry.example.com/ftjobs", "registry.example/ftjobs")
                assert json.loads(with_image) == by_name[manifest["metadata"]["name"]]

    @needs_kubectl
    def test_to_try_it_nothing_is_to_be_edited(self):
        found = {(m["kind"], m["metadata"]["name"]): m for m in yaml.safe_load_all(built(K8S / "overlays/try"))}
        settings = found["ConfigMap", "quickstart-settings"]["data"]
        assert settings["FTJOBS_STORE"] == "s3://ftjobs/runs"
        service = found["Service", "ftjobs-s3"]
        assert settings["AWS_ENDPOINT_URL_S3"] == f"http://ftjobs-s3:{service['spec']['ports'][0]['port']}"
        assert set(found["Secret", "ftjobs-s3"]["data"]) == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
        assert "nvidia.com/gpu" not in built(K8S / "overlays/try")


class TestSameBytes:
    @pytest.mark.parametrize("engine", ["jobs", "jobset"])
    def test_in_two_processes_in_two_places(self, tmp_path: Path, engine: str):
        texts = set()
        for number, folder in enumerate(("here", "elsewhere")):
            shutil.copytree(ROOT / "jobs", tmp_path / folder)
            os.utime(tmp_path / folder / "quickstart.csv", (number, number))
            (tmp_path / folder / "quickstart.csv").chmod(0o600 + 0o44 * number)
            command = [
                sys.executable,
                "-m",
                "ftjobs",
                "render",
                f"{folder}/quickstart.yaml",
                "--image",
                "a:1",
                "--store",
                "s3://b/c",
                "--engine",
                engine,
            ]
            environment = os.environ | {"PYTHONHASHSEED": str(number)}
            texts.add(
                subprocess.run(
                    command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
                ).stdout
            )
        assert len(texts) == 1
        assert len(texts.pop()) > 10_000


class TestJobSet:
    def entries(self, tmp_path: Path, stages: str) -> list[dict[str, Any]]:
        (tmp_path / "job.yaml").write_text(
            f"name: many\nencoder: {{model: me/e}}\ndata: {{source: me/d, text: a, label: b}}\nstages: {{{stages}}}\n"
        )
        (jobset,) = (
            m
            for m in render(read(tmp_path / "job.yaml"), Options(image="a:1", store="s3://b/c"), "jobset")
            if m["kind"] == "JobSet"
        )
        assert list(kubernetes_rules.jobset_problems(jobset)) == []
        for pod in kubernetes_rules.pods(jobset):
            assert list(kubernetes_rules.restricted_problems(pod)) == list(kubernetes_rules.pod_problems(pod)) == []
        return jobset["spec"]["replicatedJobs"]

    @pytest.mark.parametrize("count", [1, 5, 6, 26, 40])
    def test_the_report_waits_for_any_number_of_stages(self, tmp_path: Path, count: int):
        stages = ", ".join(f"s{number}: {{kind: classify}}" for number in range(count))
        entries = {entry["name"]: entry for entry in self.entries(tmp_path, stages)}

        def waits_for(name: str) -> set[str]:
            found = {one["name"] for one in entries[name].get("dependsOn", [])}
            return found.union(*(waits_for(one) for one in found))

        assert {f"s{number}" for number in range(count)} <= waits_for("report")
        assert ("join-1" in entries) is (count > 5)
        assert list(entries)[-1] == "report"

    def test_a_stage_waits_for_the_last_of_what_it_needs(self, tmp_path: Path):
        entries = self.entries(
            tmp_path, "adapt: {kind: adapt}, head: {kind: classify, encoder: adapt}, join-1: {kind: classify}"
        )
        waits = {entry["name"]: [one["name"] for one in entry.get("dependsOn", [])] for entry in entries}
        assert waits == {
            "prepare": [],
            "adapt": ["prepare"],
            "head": ["adapt"],
            "join-1": ["prepare"],
            "report": ["head", "join-1"],
        }
        assert all(one["status"] == "Complete" for entry in entries for one in entry.get("dependsOn", []))
