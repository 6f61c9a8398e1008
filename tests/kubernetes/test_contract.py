"""What every Job of a pipeline promises, field by field, as section 8 of the design has it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ftjobs.jobfile.read import read
from ftjobs.kubernetes.options import Options
from ftjobs.kubernetes.rendering import render
from ftjobs.kubernetes.stagejobs import stage_jobs
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
