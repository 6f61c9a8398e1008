"""A pipeline as one JobSet: its controller starts each stage when those before it are complete, without a conductor.

The rules are those of jobset.x-k8s.io/v1alpha2 (api/jobset/v1alpha2/jobset_types.go, pkg/webhooks/jobset_webhook.go):
`dependsOn` names at most 5 entries, all earlier in the list; the first entry has none.
"""

from __future__ import annotations

import json
import re

from ftjobs.errors import UserError
from ftjobs.kubernetes.job_bundle import short_hash
from ftjobs.kubernetes.manifests import SECONDS_KEPT, Pipeline, job_spec
from ftjobs.kubernetes.objects import (
    STAGE_ACCOUNT,
    Manifest,
    accounts,
    in_namespace,
    labels,
    stage_labels,
    stage_notes,
)
from ftjobs.kubernetes.pods import join_pod
from ftjobs.kubernetes.stage_jobs import KUEUE_QUEUE, StageJob

API_VERSION = "jobset.x-k8s.io/v1alpha2"
_MOST_DEPENDENCIES = 5
#: The label of a pod with the name of its JobSet, and the variable by which its arguments know it. The name is a hash
#: of all that the JobSet says, so it cannot be said in it.
_NAME_LABEL, _NAME = "jobset.sigs.k8s.io/jobset-name", "JOBSET_NAME"
#: As JobSet's webhook has it, of the names of pods and Jobs: RFC 1035, so a letter comes first.
_DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


def jobset_engine(pipeline: Pipeline) -> list[Manifest]:
    """ServiceAccount, ConfigMaps and the JobSet.

    A JobSet cannot be changed. Its name has a hash of all it says, so a changed job or image makes a new one; what is
    published is not run again.

    Raises:
        UserError: names too long for it.
    """
    spec = {
        "ttlSecondsAfterFinished": SECONDS_KEPT,
        "network": {"enableDNSHostnames": pipeline.options.nodes > 1},
        "replicatedJobs": _replicated_jobs(pipeline),
    }
    marks = labels(pipeline.name, "pipeline")
    if pipeline.options.queue:
        marks |= {KUEUE_QUEUE: pipeline.options.queue}
    name = f"{pipeline.name}-{short_hash(json.dumps(spec))}"
    _check_names(name, pipeline)
    jobset = {
        "apiVersion": API_VERSION,
        "kind": "JobSet",
        "metadata": {"name": name, "labels": marks},
        "spec": spec,
    }
    objects = [*accounts(STAGE_ACCOUNT), *pipeline.config_maps(), jobset]
    return [in_namespace(one, pipeline.options.namespace) for one in objects]


def _replicated_jobs(pipeline: Pipeline) -> list[Manifest]:
    found: list[Manifest] = []
    for stage in pipeline.stages:
        needs = _last_needed(pipeline, stage.needs)
        while len(needs) > _MOST_DEPENDENCIES:
            needs = _joined(pipeline, needs, found)
        depends_on = [{"name": name, "status": "Complete"} for name in needs]
        template = {
            "metadata": {
                "labels": stage_labels(stage),
                "annotations": stage_notes(stage),
            },
            "spec": _job_spec(pipeline, stage),
        }
        entry: Manifest = {"name": stage.short_name, "replicas": 1}
        found.append(entry | ({"dependsOn": depends_on} if depends_on else {}) | {"template": template})
    return found


def _job_spec(pipeline: Pipeline, stage: StageJob) -> Manifest:
    first_pod = f"$({_NAME})-{stage.short_name}-0-0.$({_NAME})"
    spec = job_spec(pipeline, stage, pipeline.whole_job, first_pod)
    if stage.is_of_one_seed:
        name = {"fieldRef": {"fieldPath": f"metadata.labels['{_NAME_LABEL}']"}}
        spec["template"]["spec"]["containers"][0]["env"].append({"name": _NAME, "valueFrom": name})
    return spec


def _last_needed(pipeline: Pipeline, needs: tuple[str, ...]) -> list[str]:
    """The Jobs to wait for, without those that others of them wait for already."""
    by_name = {stage.short_name: stage for stage in pipeline.stages}
    implied: set[str] = set()
    for need in needs:
        implied.update(by_name[need].needs)
    return [need for need in needs if need not in implied]


def _joined(pipeline: Pipeline, needs: list[str], found: list[Manifest]) -> list[str]:
    """Fewer names to wait for: entries that do nothing and are complete when up to 5 others are."""
    joins = []
    for start in range(0, len(needs), _MOST_DEPENDENCIES):
        some = needs[start : start + _MOST_DEPENDENCIES]
        taken = {stage.short_name for stage in pipeline.stages} | {entry["name"] for entry in found}
        number = next(number for number in range(1, len(taken) + 2) if f"join-{number}" not in taken)
        marks = labels(pipeline.name, "join")
        found.append(
            {
                "name": f"join-{number}",
                "replicas": 1,
                "dependsOn": [{"name": name, "status": "Complete"} for name in some],
                "template": {
                    "metadata": {"labels": marks},
                    "spec": {
                        "completions": 1,
                        "parallelism": 1,
                        "template": {"metadata": {"labels": marks}, "spec": join_pod(pipeline.options)},
                    },
                },
            }
        )
        joins.append(f"join-{number}")
    return joins


def _check_names(name: str, pipeline: Pipeline) -> None:
    for stage in pipeline.stages:
        pod = f"{name}-{stage.short_name}-0-{stage.completions - 1}-abcde"
        if not _DNS_LABEL.fullmatch(pod):
            raise UserError(
                f"--engine jobset: a pod would be named {pod}; JobSet wants names of at most 63 characters that start "
                "with a letter: use a shorter name for the job or the stage, or --engine jobs"
            )
