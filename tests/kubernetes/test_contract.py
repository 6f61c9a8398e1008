"""What every Job of a pipeline promises, field by field, as section 8 of the design has it."""

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
GIVEN = {"image": "registry.example/ftjobs:0.1.0", "store": "s3://bucket/runs"}
RULES = [
    {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [2]}},
    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [75, 143]}},
]


def pipeline(**options: Any) -> list[Manifest]:
    return render(read(JOB), Options(**GIVEN | options))


def stages(manifests: list[Manifest]) -> dict[str, Manifest]:
    """The Jobs of the stages, by stage."""
    found = {m["metadata"]["labels"].get("ftjobs/stage"): m for m in manifests if m["kind"] == "Job"}
    found.pop(None)
    return found


def pod(job: Manifest) -> Manifest:
    return job["spec"]["template"]["spec"]


def test_all_that_a_pipeline_needs_in_the_order_to_create_it() -> None:
    kinds = [m["kind"] for m in pipeline()]
    assert list(dict.fromkeys(kinds)) == ["ServiceAccount", "Role", "RoleBinding", "ConfigMap", "Job"]
    assert pipeline()[-1]["metadata"]["labels"]["app.kubernetes.io/component"] == "conductor"


def test_the_job_file_cannot_change_under_its_conductor() -> None:
    (whole,) = (m for m in pipeline() if re.fullmatch(r"quickstart-job-[0-9a-f]{8}", m["metadata"]["name"]))
    assert whole["immutable"] is True
    volumes = {volume["name"]: volume for volume in pod(pipeline()[-1])["volumes"]}
    assert volumes["job"]["configMap"]["name"] == whole["metadata"]["name"]


def test_one_job_per_stage_named_by_what_it_computes_and_one_index_per_seed() -> None:
    planned = {stage.stage: stage for stage in stage_jobs(plan(read(JOB)))}
    found = stages(pipeline())
    assert list(found) == list(planned)
    for name, job in found.items():
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


def test_nothing_waits_in_a_pod() -> None:
    for name, job in stages(pipeline(gpus=1)).items():
        assert job["spec"]["suspend"] is (name != "prepare")
        assert [one["name"] for one in pod(job).get("initContainers", [])] == ["unpack"]


def test_with_kueue_every_stage_is_the_queues_to_start() -> None:
    for name, job in stages(pipeline(queue="team")).items():
        metadata = job["metadata"]
        assert job["spec"]["suspend"] is True
        assert (metadata["labels"].get("kueue.x-k8s.io/queue-name") == "team") is (name == "prepare")
        assert (metadata["annotations"].get("ftjobs/queue") == "team") is (name != "prepare")


def test_the_conductor_may_read_and_patch_jobs_and_nothing_else() -> None:
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


def test_what_the_end_of_a_pod_means() -> None:
    for job in (m for m in pipeline() if m["kind"] == "Job"):
        assert pod(job)["restartPolicy"] == "Never"
        assert job["spec"]["podReplacementPolicy"] == "Failed"
        first, *others = job["spec"]["podFailurePolicy"]["rules"]
        if "ftjobs/stage" in job["metadata"]["labels"]:
            assert [first, *others] == RULES
        else:
            assert others == RULES[1:]


def test_where_a_pod_may_write_and_leaves_its_last_line() -> None:
    for name, job in stages(pipeline()).items():
        volumes = {volume["name"]: volume for volume in pod(job)["volumes"]}
        assert volumes["shared-memory"]["emptyDir"]["medium"] == "Memory"
        (container,) = pod(job)["containers"]
        writable = {one["mountPath"]: one["name"] for one in container["volumeMounts"] if not one.get("readOnly")}
        assert writable.keys() == {"/scratch", "/cache", "/tmp", "/dev/shm"}, name
        assert all("emptyDir" in volumes[volume] for volume in writable.values())
        variables = {one["name"]: one["value"] for one in container["env"]}
        assert variables["FTJOBS_TERMINATION_LOG"] == container["terminationMessagePath"]
        assert pod(job)["terminationGracePeriodSeconds"] >= 60  # to save training state


@pytest.mark.parametrize("gpus", [0, 1, 4])
def test_gpus_go_to_what_trains(gpus: int) -> None:
    for name, job in stages(pipeline(gpus=gpus)).items():
        (container,) = pod(job)["containers"]
        has = gpus if name not in ("prepare", "report") else 0
        assert container["resources"]["limits"].get("nvidia.com/gpu") == (str(has) if has else None)
        assert ({"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"} in container["env"]) is not bool(has)
        assert ("tolerations" in pod(job)) is bool(has)
        assert ("--num-processes" in container["args"]) is (has > 1)


@pytest.mark.parametrize("gpus", [0, 4])
def test_a_seed_on_several_pods_is_a_job_of_its_own_whose_first_pod_is_the_address(gpus: int) -> None:
    manifests = pipeline(nodes=3, gpus=gpus)
    (service,) = (m for m in manifests if m["kind"] == "Service")
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    jobs = [m for m in manifests if m["kind"] == "Job" and "ftjobs/stage" in m["metadata"]["labels"]]
    expected = stage_jobs(plan(read(JOB)), nodes=3)
    assert [job["metadata"]["name"] for job in jobs] == [stage.name for stage in expected]
    assert sum(stage.is_of_one_seed for stage in expected) == 5 * 3
    for job, stage in zip(jobs, expected, strict=True):
        spec, arguments = job["spec"], pod(job)["containers"][0]["args"]
        template = spec["template"]["metadata"]["labels"]
        assert service["spec"]["selector"].items() <= template.items()
        if not stage.is_of_one_seed:
            assert stage.stage in ("prepare", "report")
            assert spec["completions"] == 1
            assert "--num-machines" not in arguments
            continue
        (run,) = stage.runs
        assert job["metadata"]["name"] == f"quickstart-{run.stage}-{run.seed}-{stage.identity[:8]}"
        assert template["ftjobs/seed"] == job["metadata"]["labels"]["ftjobs/seed"] == str(run.seed)
        assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 3, 3)
        assert "backoffLimitPerIndex" not in spec  # one that fails for good is needed by the others
        assert spec["backoffLimit"] >= 3
        assert pod(job)["subdomain"] == service["metadata"]["name"]
        given = dict(zip(arguments[3::2], arguments[4::2], strict=True))
        assert given == {
            "--seed": str(run.seed),
            "--num-processes": str(3 * (gpus or 1)),
            "--num-machines": "3",
            "--machine-rank": "$(JOB_COMPLETION_INDEX)",
            "--main-address": f"{job['metadata']['name']}-0.{service['metadata']['name']}",
        }
    assert pod(manifests[-1])["containers"][0]["args"][-2:] == ["--nodes", "3"]


def test_pods_of_one_seed_in_a_jobset_know_its_name_when_they_start() -> None:
    (jobset,) = (m for m in render(read(JOB), Options(**GIVEN, nodes=2), "jobset") if m["kind"] == "JobSet")
    assert jobset["spec"]["network"]["enableDNSHostnames"] is True
    entries = {entry["name"]: entry for entry in jobset["spec"]["replicatedJobs"]}
    assert [one["name"] for one in entries["adapted-head-2"]["dependsOn"]] == ["adapt-2"]
    for name, entry in entries.items():
        spec = entry["template"]["spec"]
        if "completions" in spec and spec["completions"] > 1:
            (container,) = spec["template"]["spec"]["containers"]
            address = container["args"][container["args"].index("--main-address") + 1]
            assert address == f"$(JOBSET_NAME)-{name}-0-0.$(JOBSET_NAME)"
            (source,) = (one["valueFrom"] for one in container["env"] if one["name"] == "JOBSET_NAME")
            assert source == {"fieldRef": {"fieldPath": "metadata.labels['jobset.sigs.k8s.io/jobset-name']"}}
    assert sum("JOBSET_NAME" in str(entry) for entry in entries.values()) == 5 * 3
