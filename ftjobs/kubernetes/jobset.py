"""Engine `jobset`: a pipeline as one JobSet, whose controller starts each stage when its dependencies are complete.

Limits of jobset.x-k8s.io/v1alpha2 (api/jobset/v1alpha2/jobset_types.go, pkg/webhooks/jobset_webhook.go): `dependsOn`
names at most 5 entries, all earlier in the list; the first entry has none.
"""

from __future__ import annotations

import json
import re

from ftjobs.errors import UserError
from ftjobs.kubernetes.job_bundle import short_hash
from ftjobs.kubernetes.manifests import (
    SECONDS_KEPT,
    Pipeline,
    in_namespace,
    object_labels,
    service_accounts,
    stage_annotations,
    stage_job_spec,
    stage_labels,
)
from ftjobs.kubernetes.pods import STAGE_ACCOUNT, Manifest, join_pod
from ftjobs.kubernetes.stage_jobs import KUEUE_QUEUE, StageJob

API_VERSION = "jobset.x-k8s.io/v1alpha2"
_MOST_DEPENDENCIES = 5
#: Pod label with the name of its JobSet, and the variable that passes it to the pod's arguments. The name contains a
#: hash of the JobSet's spec, so the spec cannot contain the name.
_NAME_LABEL, _NAME = "jobset.sigs.k8s.io/jobset-name", "JOBSET_NAME"
#: JobSet's webhook requires RFC 1035 names for pods and Jobs, which start with a letter.
_DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


def jobset_engine(pipeline: Pipeline) -> list[Manifest]:
    """Render ServiceAccount, ConfigMaps and the JobSet.

    A JobSet is immutable. Its name contains a hash of its spec, so a changed job or image creates a new one; published
    artifacts are not computed again.

    Raises:
        UserError: a name is too long or starts with a digit.
    """
    spec = {
        "ttlSecondsAfterFinished": SECONDS_KEPT,
        "network": {"enableDNSHostnames": pipeline.options.nodes > 1},
        "replicatedJobs": _replicated_jobs(pipeline),
    }
    labels = object_labels(pipeline.name, "pipeline")
    if pipeline.options.queue:
        labels |= {KUEUE_QUEUE: pipeline.options.queue}
    name = f"{pipeline.name}-{short_hash(json.dumps(spec))}"
    _check_names(name, pipeline)
    jobset = {
        "apiVersion": API_VERSION,
        "kind": "JobSet",
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
    }
    manifests = [*service_accounts(STAGE_ACCOUNT), *pipeline.config_maps(), jobset]
    return [in_namespace(manifest, pipeline.options.namespace) for manifest in manifests]


def _replicated_jobs(pipeline: Pipeline) -> list[Manifest]:
    entries: list[Manifest] = []
    for stage in pipeline.stages:
        needs = _direct_needs(pipeline, stage.needs)
        while len(needs) > _MOST_DEPENDENCIES:
            needs = _add_joins(pipeline, needs, entries)
        depends_on = [{"name": name, "status": "Complete"} for name in needs]
        template = {
            "metadata": {
                "labels": stage_labels(stage),
                "annotations": stage_annotations(stage),
            },
            "spec": _job_spec(pipeline, stage),
        }
        entry: Manifest = {"name": stage.short_name, "replicas": 1}
        entries.append(entry | ({"dependsOn": depends_on} if depends_on else {}) | {"template": template})
    return entries


def _job_spec(pipeline: Pipeline, stage: StageJob) -> Manifest:
    rank_0_host = f"$({_NAME})-{stage.short_name}-0-0.$({_NAME})"
    spec = stage_job_spec(pipeline, stage, pipeline.job_map, rank_0_host)
    if stage.is_single_seed:
        name = {"fieldRef": {"fieldPath": f"metadata.labels['{_NAME_LABEL}']"}}
        spec["template"]["spec"]["containers"][0]["env"].append({"name": _NAME, "valueFrom": name})
    return spec


def _direct_needs(pipeline: Pipeline, needs: tuple[str, ...]) -> list[str]:
    """Return the Jobs to wait for, without those that another of them already waits for."""
    by_name = {stage.short_name: stage for stage in pipeline.stages}
    implied: set[str] = set()
    for need in needs:
        implied.update(by_name[need].needs)
    return [need for need in needs if need not in implied]


def _add_joins(pipeline: Pipeline, needs: list[str], entries: list[Manifest]) -> list[str]:
    """Append no-op entries that each wait for up to 5 of `needs`, and return their names."""
    joins = []
    for start in range(0, len(needs), _MOST_DEPENDENCIES):
        group = needs[start : start + _MOST_DEPENDENCIES]
        taken = {stage.short_name for stage in pipeline.stages} | {entry["name"] for entry in entries}
        number = next(number for number in range(1, len(taken) + 2) if f"join-{number}" not in taken)
        labels = object_labels(pipeline.name, "join")
        entries.append(
            {
                "name": f"join-{number}",
                "replicas": 1,
                "dependsOn": [{"name": name, "status": "Complete"} for name in group],
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "completions": 1,
                        "parallelism": 1,
                        "template": {"metadata": {"labels": labels}, "spec": join_pod(pipeline.options)},
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
                f"--engine jobset: pod name {pod}: JobSet requires names of at most 63 characters that start with a "
                "letter; use a shorter name for the job or the stage, or --engine jobs"
            )
