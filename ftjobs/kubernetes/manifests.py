"""Everything that one pipeline needs on a cluster, as plain data in the order to create it.

What a manifest says follows from the job and the options alone. A stage's Job keeps its name as long as its result
would be the same, and the pod template of a Job cannot be changed. So nothing may stand in it that changes with other
stages, or applying a changed job file would be refused: each stage has a ConfigMap of its own, named like its Job, with
its part of the job file. It is not immutable: fields that change no result (`save_every`, `tracking`) may change in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ftjobs.errors import UserError
from ftjobs.jobfile.fields import Job
from ftjobs.kubernetes.job_bundle import FILE, JOB_FOLDER, JobBundle, short_hash
from ftjobs.kubernetes.objects import (
    CONDUCTOR,
    CONDUCTOR_ACCOUNT,
    MACHINES,
    STAGE_ACCOUNT,
    Manifest,
    accounts,
    conductor_rights,
    config_map,
    in_namespace,
    labels,
    machines_service,
    settings,
    stage_labels,
    stage_notes,
)
from ftjobs.kubernetes.options import Options
from ftjobs.kubernetes.pods import PACKED_FILE, Sources, conductor_pod, stage_pod
from ftjobs.kubernetes.stage_jobs import KUEUE_QUEUE, QUEUE, StageJob, stage_jobs
from ftjobs.plan import plan

#: Finished Jobs, and with them their logs, stay for a week. Artifacts stay.
SECONDS_KEPT = 7 * 24 * 3600
#: A pod that fails for another reason than those of `_failure_policy` is tried again this often.
_RETRIES = 3
#: The same for the conductor, which goes on where it was, whatever ended it.
_CONDUCTOR_RETRIES = 20
_LONGEST_LABEL = 63


@dataclass(frozen=True)
class Pipeline:
    """A job on its way into manifests."""

    job: Job
    options: Options
    copy: JobBundle
    stages: list[StageJob]

    @property
    def name(self) -> str:
        """Name of the pipeline."""
        return self.job.name

    @property
    def digest(self) -> str:
        """8 hex digits over the job file and its data files."""
        return short_hash(self.copy.whole(), self.copy.packed or b"")

    @property
    def files(self) -> str | None:
        """Name of the ConfigMap with the packed data files, None if there are none."""
        return f"{self.name}-files-{short_hash(self.copy.packed)}" if self.copy.packed else None

    def sources(self, job: str) -> Sources:
        """Where a pod's files and variables come from, with the job file in the ConfigMap `job`."""
        return Sources(job=job, files=self.files, settings=f"{self.name}-settings")

    def config_maps(self) -> list[Manifest]:
        """The ConfigMaps that every engine needs: settings, data files, and the whole job file."""
        found = [settings(f"{self.name}-settings", self.name, self.options)]
        if self.files and self.copy.packed:
            marks = labels(self.name, "files")
            found.append(config_map(self.files, marks, {PACKED_FILE: self.copy.packed}, immutable=True))
        whole: dict[str, str | bytes] = {FILE: self.copy.whole()}
        return [*found, config_map(self.whole_job, labels(self.name, "job"), whole, immutable=True)]

    @property
    def whole_job(self) -> str:
        """Name of the ConfigMap with the whole job file."""
        return f"{self.name}-job-{self.digest}"


def pipeline_of(job: Job, options: Options) -> Pipeline:
    """Check that a job can run in a cluster, and make what its manifests are made of.

    Raises:
        UserError: it cannot, as it is.
    """
    stages = stage_jobs(plan(job), options.nodes)
    for stage in stages:
        host = f"{stage.name}-{stage.completions - 1}"
        if len(host) > _LONGEST_LABEL:
            raise UserError(
                f"a pod would be named {host}, longer than 63 characters; use a shorter name or fewer seeds"
            )
    return Pipeline(job, options, JobBundle(job), stages)


def jobs_engine(pipeline: Pipeline) -> list[Manifest]:
    """ServiceAccounts, the conductor's Role and RoleBinding, ConfigMaps, a Job per stage, and the conductor's Job; a
    Service where pods find each other by it."""
    objects = [*accounts(STAGE_ACCOUNT, CONDUCTOR_ACCOUNT), *conductor_rights(), *pipeline.config_maps()]
    if pipeline.options.nodes > 1:
        objects.append(machines_service())
    for stage in pipeline.stages:
        objects.append(config_map(stage.name, stage_labels(stage), {FILE: pipeline.copy.of(stage)}))
    objects += [_stage_job(pipeline, stage) for stage in pipeline.stages]
    objects.append(_conductor_job(pipeline))
    return [in_namespace(one, pipeline.options.namespace) for one in objects]


def job_spec(pipeline: Pipeline, stage: StageJob, config_map_name: str, first_pod: str) -> Manifest:
    """Spec of a stage's Job: one completion index per seed, or per pod that runs its one seed.

    Args:
        pipeline: what the stage is of.
        stage: the stage.
        config_map_name: where its job file is.
        first_pod: host name of the pod with index 0, for the others of its seed.
    """
    options, trains = pipeline.options, stage.runs[0].has_seed
    processes = stage.nodes * max(1, options.gpus) if trains else 1
    arguments = ["stage", f"{JOB_FOLDER}/{FILE}", stage.stage]
    if not stage.is_of_one_seed:
        arguments += ["--seed-index", "$(JOB_COMPLETION_INDEX)"]
        retries = {"backoffLimitPerIndex": _RETRIES}  # and no maxFailedIndexes: other seeds go on
    else:
        arguments += ["--seed", str(stage.runs[0].seed), "--num-machines", str(stage.nodes)]
        arguments += ["--machine-rank", "$(JOB_COMPLETION_INDEX)", "--main-address", first_pod]
        retries = {"backoffLimit": _RETRIES * stage.nodes}  # what ends one pod may be counted for each
    if processes > 1:
        arguments += ["--num-processes", str(processes)]
    return {
        "completionMode": "Indexed",
        "completions": stage.completions,
        "parallelism": stage.completions,
        **retries,
        **_failure_policy(),
        "template": {
            "metadata": {"labels": stage_labels(stage)},
            "spec": stage_pod(options, arguments, trains, pipeline.sources(config_map_name)),
        },
    }


def _stage_job(pipeline: Pipeline, stage: StageJob) -> Manifest:
    """A Job that waits, suspended, until the conductor sees that its inputs are published; `prepare` has none.

    `kubectl apply` of the same manifests resets `suspend` of a Job that the conductor has resumed: an apply sets every
    field that the manifest names, and a Job must be created suspended. That is harmless. The pods of a running stage
    save their state and end with 143, which is not counted; the conductor resumes the Job again; a Job that has
    finished stays so. `ftjobs submit` leaves existing Jobs alone.
    """
    queue = pipeline.options.queue
    marks, notes = stage_labels(stage), stage_notes(stage)
    if queue and stage.needs:
        notes |= {QUEUE: queue}
    elif queue:
        marks |= {KUEUE_QUEUE: queue}
    spec = job_spec(pipeline, stage, stage.name, first_pod=f"{stage.name}-0.{MACHINES}")
    if stage.is_of_one_seed:
        spec["template"]["spec"]["subdomain"] = MACHINES
    suspended = bool(stage.needs) or queue is not None  # Kueue resumes what it admits
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": stage.name, "labels": marks, "annotations": notes},
        "spec": {"suspend": suspended, "ttlSecondsAfterFinished": SECONDS_KEPT, **spec},
    }


def _conductor_job(pipeline: Pipeline) -> Manifest:
    marks = labels(pipeline.name, CONDUCTOR)
    arguments = ["conduct", f"{JOB_FOLDER}/{FILE}"]
    if pipeline.options.nodes > 1:
        arguments += ["--nodes", str(pipeline.options.nodes)]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"{pipeline.name}-{CONDUCTOR}-{pipeline.digest}", "labels": marks},
        "spec": {
            "ttlSecondsAfterFinished": SECONDS_KEPT,
            "backoffLimit": _CONDUCTOR_RETRIES,
            **_failure_policy(for_good=[1, 2]),  # 1: nothing more can run
            "template": {
                "metadata": {"labels": marks},
                "spec": conductor_pod(pipeline.options, arguments, pipeline.sources(pipeline.whole_job)),
            },
        },
    }


def _failure_policy(for_good: Sequence[int] = (2,)) -> Manifest:
    """What the end of a pod means. The first rule that fits counts; what fits none counts against the retries."""
    rules = [
        # 2: the job file, the data or the arguments are wrong, so a retry cannot help.
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": list(for_good)}},
        # Evicted, preempted, or its node went away.
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        # 75: inputs not published yet. 143: stopped by SIGTERM, with training state saved.
        {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [75, 143]}},
    ]
    return {"podReplacementPolicy": "Failed", "podFailurePolicy": {"rules": rules}}
