"""Manifests that both engines share: labels, ConfigMaps, ServiceAccounts, and the spec of a stage's Job.

Manifests depend on the job and the options only. A stage's Job keeps its name as long as its result is the same, and
the pod template of an existing Job is immutable. The template therefore contains nothing that depends on other stages,
or applying a changed job file would be rejected. For the same reason each stage reads its part of the job file from a
ConfigMap named like its Job. That ConfigMap is mutable: fields without effect on results (`save_every`, `tracking`)
may change.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from ftjobs.errors import UserError
from ftjobs.jobfile.fields import Job
from ftjobs.kubernetes.job_bundle import FILE, JOB_FOLDER, JobBundle, short_hash
from ftjobs.kubernetes.options import Options
from ftjobs.kubernetes.pods import ARCHIVE_FILE, Manifest, Sources, stage_pod
from ftjobs.kubernetes.stage_jobs import IDENTITY, NEEDS, PIPELINE, SEED, STAGE, StageJob, stage_jobs
from ftjobs.plan import plan

#: Finished Jobs and their logs are kept for a week. Artifacts are kept.
SECONDS_KEPT = 7 * 24 * 3600
#: Retries of a pod that fails for a reason not listed in `failure_policy`.
_RETRIES = 3
_LONGEST_LABEL = 63


@dataclass(frozen=True)
class Pipeline:
    """A job with its options, its bundle and its Jobs: the input of an engine."""

    job: Job
    options: Options
    bundle: JobBundle
    stages: list[StageJob]

    @classmethod
    def from_job(cls, job: Job, options: Options) -> Pipeline:
        """Plan a job and check that it can run in a cluster.

        Raises:
            UserError: it cannot, because of a name, a local encoder or the size of its local data.
        """
        stages = stage_jobs(plan(job), options.nodes)
        for stage in stages:
            host = f"{stage.name}-{stage.completions - 1}"
            if len(host) > _LONGEST_LABEL:
                raise UserError(f"pod name {host}: exceeds 63 characters; use a shorter name or fewer seeds")
        return cls(job, options, JobBundle(job), stages)

    @property
    def name(self) -> str:
        """Name of the pipeline."""
        return self.job.name

    @property
    def digest(self) -> str:
        """8 hex digits over the job file and its data files."""
        return short_hash(self.bundle.full_job_file(), self.bundle.archive or b"")

    @property
    def files_map(self) -> str | None:
        """Name of the ConfigMap with the packed data files, None without local data."""
        return f"{self.name}-files-{short_hash(self.bundle.archive)}" if self.bundle.archive else None

    @property
    def job_map(self) -> str:
        """Name of the ConfigMap with the full job file."""
        return f"{self.name}-job-{self.digest}"

    def sources(self, job_map: str) -> Sources:
        """Return the names of a pod's ConfigMaps, with the job file in `job_map`."""
        return Sources(job=job_map, files=self.files_map, settings=f"{self.name}-settings")

    def config_maps(self) -> list[Manifest]:
        """Return the ConfigMaps of both engines: environment variables, data files, and the full job file."""
        variables: dict[str, str | bytes] = {
            "FTJOBS_STORE": self.options.store,
            **dict(sorted(self.options.environment.items())),
        }
        maps = [config_map(f"{self.name}-settings", object_labels(self.name, "settings"), variables)]
        if self.files_map and self.bundle.archive:
            files_labels = object_labels(self.name, "files")
            maps.append(config_map(self.files_map, files_labels, {ARCHIVE_FILE: self.bundle.archive}, immutable=True))
        job_file: dict[str, str | bytes] = {FILE: self.bundle.full_job_file()}
        return [*maps, config_map(self.job_map, object_labels(self.name, "job"), job_file, immutable=True)]


def object_labels(pipeline: str | None, component: str, stage: str | None = None) -> dict[str, str]:
    """Return the labels of an object; `pipeline` is None for objects that all pipelines of a namespace share."""
    labels = {"app.kubernetes.io/name": "ftjobs", "app.kubernetes.io/component": component}
    if pipeline is not None:
        labels |= {"app.kubernetes.io/instance": pipeline, PIPELINE: pipeline}
    if stage is not None:
        labels[STAGE] = stage
    return labels | {"app.kubernetes.io/managed-by": "ftjobs"}


def stage_labels(stage: StageJob) -> dict[str, str]:
    """Return the labels of a stage's Job and its pods."""
    seed = {SEED: str(stage.runs[0].seed)} if stage.is_single_seed else {}
    return object_labels(stage.pipeline, stage.kind, stage.stage) | seed


def stage_annotations(stage: StageJob) -> dict[str, str]:
    """Return the annotations of a stage's Job: its identity, and the Jobs it depends on."""
    return {IDENTITY: stage.identity, NEEDS: ",".join(stage.needs)}


def config_map(name: str, labels: dict[str, str], data: dict[str, str | bytes], immutable: bool = False) -> Manifest:
    """Return a ConfigMap; values of type bytes become `binaryData`."""
    manifest: Manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}}
    if immutable:
        manifest["immutable"] = True
    texts = {key: value for key, value in data.items() if isinstance(value, str)}
    binary = {key: base64.b64encode(value).decode() for key, value in data.items() if isinstance(value, bytes)}
    return manifest | ({"data": texts} if texts else {}) | ({"binaryData": binary} if binary else {})


def service_accounts(*names: str) -> list[Manifest]:
    """Return ServiceAccounts that mount no token; pod specs that need one override this."""
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": name, "labels": object_labels(None, name.removeprefix("ftjobs-"))},
            "automountServiceAccountToken": False,
        }
        for name in names
    ]


def in_namespace(manifest: Manifest, namespace: str | None) -> Manifest:
    """Return the manifest with `metadata.namespace`, unless `namespace` is None."""
    if namespace is None:
        return manifest
    metadata = manifest["metadata"]
    return manifest | {"metadata": {"name": metadata["name"], "namespace": namespace, **metadata}}


def stage_job_spec(pipeline: Pipeline, stage: StageJob, job_map: str, rank_0_host: str) -> Manifest:
    """Return the spec of a stage's Job: one completion index per seed, or per node of a single seed.

    Args:
        pipeline: pipeline of the stage.
        stage: the stage.
        job_map: name of the ConfigMap with the job file.
        rank_0_host: host name of the pod with index 0, the rendezvous address of a seed on several nodes.
    """
    options, trains = pipeline.options, stage.runs[0].has_seed
    processes = stage.nodes * max(1, options.gpus) if trains else 1
    arguments = ["stage", f"{JOB_FOLDER}/{FILE}", stage.stage]
    if not stage.is_single_seed:
        arguments += ["--seed-index", "$(JOB_COMPLETION_INDEX)"]
        retries = {"backoffLimitPerIndex": _RETRIES}  # without maxFailedIndexes: other seeds continue
    else:
        arguments += ["--seed", str(stage.runs[0].seed), "--num-machines", str(stage.nodes)]
        arguments += ["--machine-rank", "$(JOB_COMPLETION_INDEX)", "--main-address", rank_0_host]
        retries = {"backoffLimit": _RETRIES * stage.nodes}  # one failure may end the pod of every node
    if processes > 1:
        arguments += ["--num-processes", str(processes)]
    return {
        "completionMode": "Indexed",
        "completions": stage.completions,
        "parallelism": stage.completions,
        **retries,
        **failure_policy(),
        "template": {
            "metadata": {"labels": stage_labels(stage)},
            "spec": stage_pod(options, arguments, trains, pipeline.sources(job_map)),
        },
    }


def failure_policy(permanent: Sequence[int] = (2,)) -> Manifest:
    """Return the pod failure policy: the first matching rule applies, and other failures count as retries.

    Args:
        permanent: exit codes that fail the Job without a retry.
    """
    rules = [
        # 2: the job file, the data or the arguments are wrong; a retry cannot help.
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": list(permanent)}},
        # Evicted, preempted, or lost with its node.
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        # 75: inputs not published yet. 143: stopped by SIGTERM, with training state saved.
        {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [75, 143]}},
    ]
    return {"podReplacementPolicy": "Failed", "podFailurePolicy": {"rules": rules}}
