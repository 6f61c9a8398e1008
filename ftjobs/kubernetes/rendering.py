"""Render a job as Kubernetes manifests. Engine `jobs`: one Job per stage, and a controller that releases them."""

from __future__ import annotations

from collections.abc import Callable

from ftjobs.jobfile import yaml_text
from ftjobs.jobfile.fields import Job
from ftjobs.kubernetes.job_bundle import FILE, JOB_FOLDER
from ftjobs.kubernetes.jobset import jobset_engine
from ftjobs.kubernetes.manifests import (
    SECONDS_KEPT,
    Pipeline,
    config_map,
    failure_policy,
    in_namespace,
    object_labels,
    service_accounts,
    stage_annotations,
    stage_job_spec,
    stage_labels,
)
from ftjobs.kubernetes.options import Options
from ftjobs.kubernetes.pods import CONTROLLER_ACCOUNT, STAGE_ACCOUNT, Manifest, controller_pod
from ftjobs.kubernetes.stage_jobs import KUEUE_QUEUE, QUEUE, StageJob

#: Component label of the controller's objects, and part of their names.
CONTROLLER = "conductor"
#: Headless Service for pods that run a stage together, shared by all pipelines of a namespace.
PEER_SERVICE = "ftjobs-machines"
#: Retries of the controller, which resumes from the state of the cluster after any failure.
_CONTROLLER_RETRIES = 20


def render(job: Job, options: Options, engine: str = "jobs") -> list[Manifest]:
    """Render all manifests of a pipeline in the order to create them. Equal inputs give equal manifests.

    Raises:
        UserError: the job cannot run in a cluster.
    """
    return ENGINES[engine](Pipeline.from_job(job, options))


def as_yaml(manifests: list[Manifest], job: Job) -> str:
    """Return the manifests as a stream of YAML documents."""
    comment = f"# Pipeline {job.name}, as `ftjobs render` prints it. Change the job file and render it again.\n"
    return comment + "---\n".join(yaml_text.dump(manifest) for manifest in manifests)


def jobs_engine(pipeline: Pipeline) -> list[Manifest]:
    """Render ServiceAccounts, the controller's Role and RoleBinding, ConfigMaps, a Service if a seed runs on several
    nodes, a Job per stage, and the controller's Job."""
    accounts = service_accounts(STAGE_ACCOUNT, CONTROLLER_ACCOUNT)
    manifests = [*accounts, *_controller_rights(), *pipeline.config_maps()]
    if pipeline.options.nodes > 1:
        manifests.append(_peer_service())
    for stage in pipeline.stages:
        job_file: dict[str, str | bytes] = {FILE: pipeline.bundle.stage_job_file(stage)}
        manifests.append(config_map(stage.name, stage_labels(stage), job_file))
    manifests += [_stage_job(pipeline, stage) for stage in pipeline.stages]
    manifests.append(_controller_job(pipeline))
    return [in_namespace(manifest, pipeline.options.namespace) for manifest in manifests]


#: Engines by their name in `--engine`.
ENGINES: dict[str, Callable[[Pipeline], list[Manifest]]] = {"jobs": jobs_engine, "jobset": jobset_engine}


def _stage_job(pipeline: Pipeline, stage: StageJob) -> Manifest:
    """Return a Job that is created suspended and resumed by the controller once its inputs are published; `prepare`
    has no inputs.

    `kubectl apply` sets every field of a manifest, so applying the same manifests again suspends running Jobs. This is
    harmless: their pods save training state and exit with 143, which is not counted as a failure, and the controller
    resumes the Jobs. Finished Jobs stay finished. `ftjobs submit` leaves existing Jobs unchanged.
    """
    queue = pipeline.options.queue
    labels, annotations = stage_labels(stage), stage_annotations(stage)
    if queue and stage.needs:
        annotations |= {QUEUE: queue}
    elif queue:
        labels |= {KUEUE_QUEUE: queue}
    spec = stage_job_spec(pipeline, stage, stage.name, rank_0_host=f"{stage.name}-0.{PEER_SERVICE}")
    if stage.is_single_seed:
        spec["template"]["spec"]["subdomain"] = PEER_SERVICE
    suspended = bool(stage.needs) or queue is not None  # Kueue resumes the Jobs it admits
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": stage.name, "labels": labels, "annotations": annotations},
        "spec": {"suspend": suspended, "ttlSecondsAfterFinished": SECONDS_KEPT, **spec},
    }


def _controller_job(pipeline: Pipeline) -> Manifest:
    labels = object_labels(pipeline.name, CONTROLLER)
    arguments = ["conduct", f"{JOB_FOLDER}/{FILE}"]
    if pipeline.options.nodes > 1:
        arguments += ["--nodes", str(pipeline.options.nodes)]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"{pipeline.name}-{CONTROLLER}-{pipeline.digest}", "labels": labels},
        "spec": {
            "ttlSecondsAfterFinished": SECONDS_KEPT,
            "backoffLimit": _CONTROLLER_RETRIES,
            **failure_policy(permanent=[1, 2]),  # 1: no stage can run any more
            "template": {
                "metadata": {"labels": labels},
                "spec": controller_pod(pipeline.options, arguments, pipeline.sources(pipeline.job_map)),
            },
        },
    }


def _controller_rights() -> list[Manifest]:
    """Return Role and RoleBinding of the controller: read and patch the Jobs of its namespace."""
    metadata = {"name": CONTROLLER_ACCOUNT, "labels": object_labels(None, CONTROLLER)}
    rule = {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list", "watch", "patch"]}
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": [rule]}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": CONTROLLER_ACCOUNT},
        # A subject without a namespace is in the namespace of the RoleBinding.
        "subjects": [{"kind": "ServiceAccount", "name": CONTROLLER_ACCOUNT}],
    }
    return [role, binding]


def _peer_service() -> Manifest:
    """Return a headless Service: pods get the DNS name `<Job>-<index>.<Service>`, also before they are ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": PEER_SERVICE, "labels": object_labels(None, "machines")},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {"app.kubernetes.io/name": "ftjobs", "app.kubernetes.io/managed-by": "ftjobs"},
        },
    }
