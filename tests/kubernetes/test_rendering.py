"""Rendered pipelines, field by field."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ftjobs.jobfile.read import read
from ftjobs.kubernetes.options import Options
from ftjobs.kubernetes.rendering import render
from ftjobs.kubernetes.stage_jobs import stage_jobs
from ftjobs.plan import plan

Manifest = dict[str, Any]
JOB = Path(__file__).parents[2] / "jobs/quickstart.yaml"
REQUIRED = {"image": "registry.example/ftjobs:0.1.0", "store": "s3://bucket/runs"}
RULES = [
    {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [2]}},
    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [75, 143]}},
]


def pipeline(**options: Any) -> list[Manifest]:
    return render(read(JOB), Options(**REQUIRED | options))


def stages(manifests: list[Manifest]) -> dict[str, Manifest]:
    """The Jobs of the stages, by stage."""
    jobs = {m["metadata"]["labels"].get("ftjobs/stage"): m for m in manifests if m["kind"] == "Job"}
    jobs.pop(None)
    return jobs


def pod(job: Manifest) -> Manifest:
    return job["spec"]["template"]["spec"]


def test_manifests_are_in_creation_order() -> None:
    kinds = [m["kind"] for m in pipeline()]
    assert list(dict.fromkeys(kinds)) == ["ServiceAccount", "Role", "RoleBinding", "ConfigMap", "Job"]
    assert pipeline()[-1]["metadata"]["labels"]["app.kubernetes.io/component"] == "conductor"


def test_controller_reads_an_immutable_job_file() -> None:
    (config_map,) = (m for m in pipeline() if re.fullmatch(r"quickstart-job-[0-9a-f]{8}", m["metadata"]["name"]))
    assert config_map["immutable"] is True
    volumes = {volume["name"]: volume for volume in pod(pipeline()[-1])["volumes"]}
    assert volumes["job"]["configMap"]["name"] == config_map["metadata"]["name"]


def test_one_job_per_stage_named_by_identity_with_one_index_per_seed() -> None:
    planned = {stage.stage: stage for stage in stage_jobs(plan(read(JOB)))}
    jobs = stages(pipeline())
    assert list(jobs) == list(planned)
    for name, job in jobs.items():
        stage, spec = planned[name], job["spec"]
        assert job["metadata"]["name"] == f"quickstart-{name}-{stage.identity[:8]}"
        assert job["metadata"]["annotations"] == {
            "ftjobs/identity": stage.identity,
            "ftjobs/needs": ",".join(stage.needs),
        }
        assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", *[len(stage.runs)] * 2)
        assert spec["backoffLimitPerIndex"] >= 1
        assert pod(job)["containers"][0]["args"][-2:] == ["--seed-index", "$(JOB_COMPLETION_INDEX)"]
        for labels in (job["metadata"]["labels"], spec["template"]["metadata"]["labels"]):
            assert labels == {
                "app.kubernetes.io/name": "ftjobs",
                "app.kubernetes.io/component": stage.kind,
                "app.kubernetes.io/instance": "quickstart",
                "app.kubernetes.io/managed-by": "ftjobs",
                "ftjobs/pipeline": "quickstart",
                "ftjobs/stage": name,
            }


def test_jobs_with_inputs_are_created_suspended() -> None:
    for name, job in stages(pipeline(gpus=1)).items():
        assert job["spec"]["suspend"] is (name != "prepare")
        assert [container["name"] for container in pod(job).get("initContainers", [])] == ["unpack"]


def test_kueue_releases_every_stage() -> None:
    for name, job in stages(pipeline(queue="team")).items():
        metadata = job["metadata"]
        assert job["spec"]["suspend"] is True
        assert (metadata["labels"].get("kueue.x-k8s.io/queue-name") == "team") is (name == "prepare")
        assert (metadata["annotations"].get("ftjobs/queue") == "team") is (name != "prepare")


def test_controller_may_only_read_and_patch_jobs() -> None:
    manifests = pipeline()
    (role,) = (m for m in manifests if m["kind"] == "Role")
    assert role["rules"] == [
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list", "watch", "patch"]}
    ]
    (binding,) = (m for m in manifests if m["kind"] == "RoleBinding")
    assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) == ("Role", role["metadata"]["name"])
    (subject,) = binding["subjects"]
    assert pod(manifests[-1])["serviceAccountName"] == subject["name"]
    assert "nvidia.com/gpu" not in pod(manifests[-1])["containers"][0]["resources"]["limits"]


def test_pod_failure_policy() -> None:
    for job in (m for m in pipeline() if m["kind"] == "Job"):
        assert pod(job)["restartPolicy"] == "Never"
        assert job["spec"]["podReplacementPolicy"] == "Failed"
        first, *others = job["spec"]["podFailurePolicy"]["rules"]
        if "ftjobs/stage" in job["metadata"]["labels"]:
            assert [first, *others] == RULES
        else:
            assert others == RULES[1:]


def test_writable_folders_and_termination_log() -> None:
    for name, job in stages(pipeline()).items():
        volumes = {volume["name"]: volume for volume in pod(job)["volumes"]}
        assert volumes["shared-memory"]["emptyDir"]["medium"] == "Memory"
        (container,) = pod(job)["containers"]
        writable = {
            mount["mountPath"]: mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")
        }
        assert writable.keys() == {"/scratch", "/cache", "/tmp", "/dev/shm"}, name
        assert all("emptyDir" in volumes[volume] for volume in writable.values())
        variables = {variable["name"]: variable["value"] for variable in container["env"]}
        assert variables["FTJOBS_TERMINATION_LOG"] == container["terminationMessagePath"]
        assert pod(job)["terminationGracePeriodSeconds"] >= 60  # to save training state


@pytest.mark.parametrize("gpus", [0, 1, 4])
def test_only_training_stages_get_gpus(gpus: int) -> None:
    for name, job in stages(pipeline(gpus=gpus)).items():
        (container,) = pod(job)["containers"]
        expected = gpus if name not in ("prepare", "report") else 0
        assert container["resources"]["limits"].get("nvidia.com/gpu") == (str(expected) if expected else None)
        assert ({"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"} in container["env"]) is not bool(expected)
        assert ("tolerations" in pod(job)) is bool(expected)
        assert ("--num-processes" in container["args"]) is (expected > 1)


@pytest.mark.parametrize("gpus", [0, 4])
def test_seed_on_several_nodes_is_a_job_with_rank_0_as_address(gpus: int) -> None:
    manifests = pipeline(nodes=3, gpus=gpus)
    (service,) = (m for m in manifests if m["kind"] == "Service")
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    jobs = [m for m in manifests if m["kind"] == "Job" and "ftjobs/stage" in m["metadata"]["labels"]]
    expected = stage_jobs(plan(read(JOB)), nodes=3)
    assert [job["metadata"]["name"] for job in jobs] == [stage.name for stage in expected]
    assert sum(stage.is_single_seed for stage in expected) == 5 * 3
    for job, stage in zip(jobs, expected, strict=True):
        spec, arguments = job["spec"], pod(job)["containers"][0]["args"]
        template = spec["template"]["metadata"]["labels"]
        assert service["spec"]["selector"].items() <= template.items()
        if not stage.is_single_seed:
            assert stage.stage in ("prepare", "report")
            assert spec["completions"] == 1
            assert "--num-machines" not in arguments
            continue
        (run,) = stage.runs
        assert job["metadata"]["name"] == f"quickstart-{run.stage}-{run.seed}-{stage.identity[:8]}"
        assert template["ftjobs/seed"] == job["metadata"]["labels"]["ftjobs/seed"] == str(run.seed)
        assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 3, 3)
        assert "backoffLimitPerIndex" not in spec  # every node needs all others
        assert spec["backoffLimit"] >= 3
        assert pod(job)["subdomain"] == service["metadata"]["name"]
        options = dict(zip(arguments[3::2], arguments[4::2], strict=True))
        assert options == {
            "--seed": str(run.seed),
            "--num-processes": str(3 * (gpus or 1)),
            "--num-machines": "3",
            "--machine-rank": "$(JOB_COMPLETION_INDEX)",
            "--main-address": f"{job['metadata']['name']}-0.{service['metadata']['name']}",
        }
    assert pod(manifests[-1])["containers"][0]["args"][-2:] == ["--nodes", "3"]


def test_jobset_name_is_passed_to_pods_of_one_seed() -> None:
    (jobset,) = (m for m in render(read(JOB), Options(**REQUIRED, nodes=2), "jobset") if m["kind"] == "JobSet")
    assert jobset["spec"]["network"]["enableDNSHostnames"] is True
    entries = {entry["name"]: entry for entry in jobset["spec"]["replicatedJobs"]}
    assert [dependency["name"] for dependency in entries["adapted-head-2"]["dependsOn"]] == ["adapt-2"]
    for name, entry in entries.items():
        spec = entry["template"]["spec"]
        if "completions" in spec and spec["completions"] > 1:
            (container,) = spec["template"]["spec"]["containers"]
            address = container["args"][container["args"].index("--main-address") + 1]
            assert address == f"$(JOBSET_NAME)-{name}-0-0.$(JOBSET_NAME)"
            (source,) = (variable["valueFrom"] for variable in container["env"] if variable["name"] == "JOBSET_NAME")
            assert source == {"fieldRef": {"fieldPath": "metadata.labels['jobset.sigs.k8s.io/jobset-name']"}}
    assert sum("JOBSET_NAME" in str(entry) for entry in entries.values()) == 5 * 3
