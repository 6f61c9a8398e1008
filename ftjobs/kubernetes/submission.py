"""Apply a pipeline's manifests without disturbing its running Jobs, and wait for its end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

from ftjobs.errors import FtjobsError
from ftjobs.kubernetes.api_objects import ApiObjects
from ftjobs.kubernetes.pods import GPU, Manifest
from ftjobs.kubernetes.stage_jobs import PIPELINE, SEED, STAGE, SUSPENDED
from ftjobs.system.progress import LOG

#: Kinds that run pods: created or left unchanged, never updated.
_WORKLOADS = ("Job", "JobSet")
_POLL_SECONDS = 3.0
_SECONDS_TO_DELETE = 60.0


class Outcome(NamedTuple):
    """Result of submitting one object."""

    result: str
    """`created`, `changed` or `unchanged`; `again`: a failed one was replaced; `kept`: an existing one with another
    image or other options was left as it is."""
    kind: str
    name: str


def submit(manifests: list[Manifest], objects: ApiObjects, dry_run: bool = False) -> Iterator[Outcome]:
    """Apply the manifests in order.

    Existing Jobs are left unchanged: the controller owns `suspend`, and a Job's name contains the identity of its
    result. Failed Jobs are deleted and created again. The last manifest runs the pipeline (the controller's Job or the
    JobSet); if it has ended, it is created again when a stage was. Kubernetes does not allow changes to a running Job,
    so differences are only logged.

    Raises:
        UserError, FtjobsError: the cluster rejected a manifest or is unreachable. Objects applied before remain.
    """
    has_new_workloads, kept = False, 0
    for manifest in manifests:
        existing = objects.get(manifest)
        if manifest["kind"] not in _WORKLOADS:
            result = _apply(manifest, existing, objects, dry_run)
        elif existing is None:
            objects.apply(manifest, dry_run)
            result = "created"
        else:
            end = end_condition(existing)
            restarts = end == "Failed" or (end and manifest is manifests[-1] and has_new_workloads)
            result = "again" if restarts else "unchanged"
            if restarts and not dry_run:
                _recreate(manifest, existing, objects)
            elif not end and _container_options(existing) != _container_options(manifest):
                result, kept = "kept", kept + 1
        has_new_workloads |= manifest["kind"] in _WORKLOADS and result in ("created", "again")
        yield Outcome(result, manifest["kind"], manifest["metadata"]["name"])
    if kept:
        LOG.warning(
            "kept %d unfinished Jobs with another image or other options; to replace them, run `kubectl --namespace %s "
            "delete jobs --selector %s=%s` and submit again",
            *(kept, objects.namespace, PIPELINE, manifests[-1]["metadata"]["labels"][PIPELINE]),
        )


def end_condition(workload: Manifest) -> str | None:
    """Return `Complete` or `Failed` for a Job or JobSet that has ended, else None."""
    for condition in workload.get("status", {}).get("conditions") or []:
        if condition["status"] == "True" and condition["type"] in ("Complete", "Completed", "Failed"):
            return "Failed" if condition["type"] == "Failed" else "Complete"
    return None


def wait(manifests: list[Manifest], objects: ApiObjects) -> None:
    """Log the progress of the stages until the report is published.

    Raises:
        FtjobsError: the pipeline failed, or the object that runs it was deleted.
    """
    runner = manifests[-1]
    pipeline = runner["metadata"]["labels"][PIPELINE]
    runner_title = f"{runner['kind']} {runner['metadata']['name']}"
    names = {manifest["metadata"]["name"] for manifest in manifests if manifest["kind"] == "Job"}
    logged: dict[str, str] = {}
    while True:
        try:
            current = objects.get(runner)
            jobs = objects.jobs(f"{PIPELINE}={pipeline},{STAGE}")
        except FtjobsError as error:
            if error.exit_code != FtjobsError.exit_code:
                raise
            LOG.warning("%s; retrying", error)  # the pipeline runs without this process
            time.sleep(_POLL_SECONDS)
            continue
        if runner["kind"] == "Job":  # without Jobs of other versions of the job file
            jobs = [job for job in jobs if job["metadata"]["name"] in names]
        for job in jobs:
            _log_progress(job, logged)
        if current is None:
            raise FtjobsError(f"{runner_title} was deleted; submit the job again")
        end = end_condition(current)
        if end == "Complete":
            return
        if end == "Failed":
            failed = [job for job in jobs if end_condition(job) == "Failed"]
            problems = [_failure(job, _title(job), objects.namespace) for job in failed]
            raise FtjobsError(problems or [_failure(current, runner_title, objects.namespace)])
        time.sleep(_POLL_SECONDS)


def _container_options(workload: Manifest) -> tuple[object, ...] | None:
    """Return image, arguments and GPUs of a Job; None for a JobSet, whose name is a hash of its spec."""
    if workload["kind"] != "Job":
        return None
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    return container["image"], container.get("args"), container["resources"].get("limits", {}).get(GPU)


def _apply(manifest: Manifest, existing: Manifest | None, objects: ApiObjects, dry_run: bool) -> str:
    applied = objects.apply(manifest, dry_run)
    if existing is None:
        return "created"
    return "unchanged" if _content(applied) == _content(existing) else "changed"


def _content(manifest: Manifest) -> Manifest:
    """Return an object without the metadata that the API server maintains."""
    maintained = ("managedFields", "resourceVersion", "generation")
    metadata = {key: value for key, value in manifest["metadata"].items() if key not in maintained}
    return manifest | {"metadata": metadata}


def _recreate(manifest: Manifest, existing: Manifest, objects: ApiObjects) -> None:
    objects.delete(manifest)
    end = time.monotonic() + _SECONDS_TO_DELETE
    while True:
        current = objects.get(manifest)
        if current is None or current["metadata"]["uid"] != existing["metadata"]["uid"]:
            objects.apply(manifest)
            return
        if time.monotonic() > end:
            raise FtjobsError(f"Job {manifest['metadata']['name']}: deletion is still in progress; submit again later")
        time.sleep(0.2)


def _log_progress(job: Manifest, logged: dict[str, str]) -> None:
    """Log one line when a stage's state has changed."""
    stage, status = _title(job), job.get("status", {})
    end = end_condition(job)
    if end:
        state = "done" if end == "Complete" else "failed"
    elif job["spec"].get("suspend"):
        state = (job["metadata"].get("annotations") or {}).get(SUSPENDED) or "waits"
    else:
        state = "running" if status.get("ready") else "starting"
        if SEED not in job["metadata"]["labels"] and job["spec"].get("completions", 1) > 1:
            state += f", {status.get('succeeded', 0)} of {job['spec']['completions']} seeds done"
    if logged.get(stage) != state:
        LOG.info("%s: %s", stage, state)
        logged[stage] = state


def _title(job: Manifest) -> str:
    labels = job["metadata"]["labels"]
    return f"{labels[STAGE]} seed {labels[SEED]}" if SEED in labels else str(labels[STAGE])


def _failure(workload: Manifest, title: str, namespace: str) -> str:
    """Return title, reason and message of a failure, and the command that prints the log.

    The title is an argument because items of a list have no `kind`.
    """
    reason = next(
        f"{condition.get('reason', '')}: {condition.get('message', '')}"
        for condition in workload["status"]["conditions"]
        if condition["type"] == "Failed"
    )
    log = f"`kubectl --namespace {namespace} logs job/{workload['metadata']['name']}`"
    return f"{title} failed: {reason}" + ("" if title.startswith("JobSet ") else f"; see {log}")
