"""A pipeline's manifests onto a cluster, leaving alone what runs; and waiting until it is through."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

from ftjobs.errors import FtjobsError
from ftjobs.kubernetes.api_objects import ApiObjects
from ftjobs.kubernetes.objects import Manifest
from ftjobs.kubernetes.pods import GPU
from ftjobs.kubernetes.stage_jobs import PIPELINE, SEED, STAGE, SUSPENDED
from ftjobs.system.progress import LOG

#: Kinds that run: they are made or left, never changed.
_RUNS = ("Job", "JobSet")
_SECONDS_BETWEEN_LOOKS = 3.0
_SECONDS_TO_DELETE = 60.0


class Outcome(NamedTuple):
    """What became of one object."""

    what: str
    """`created`, `changed`, `unchanged`; `again`: it had failed, and was made anew; `kept`: it was made with another
    image or other options, and stays so."""
    kind: str
    name: str


def submit(manifests: list[Manifest], objects: ApiObjects, dry_run: bool = False) -> Iterator[Outcome]:
    """Apply the manifests in their order.

    A Job that is there is not touched: `suspend` belongs to the conductor, and its name says that its result would be
    the same. One that failed is deleted and made anew. The last manifest is what runs the pipeline, the conductor's Job
    or the JobSet: where it has ended, it is made anew for stages that were. What differs in what has not ended yet is
    logged, for Kubernetes changes no Job.

    Raises:
        UserError, FtjobsError: the cluster refused something, or did not answer. What was applied stays.
    """
    new_work, kept = False, 0
    for manifest in manifests:
        is_last = manifest is manifests[-1]
        there = objects.get(manifest)
        if manifest["kind"] not in _RUNS:
            what = _apply(manifest, there, objects, dry_run)
        elif there is None:
            objects.apply(manifest, dry_run)
            what = "created"
        else:
            ended = end_of(there)
            what = "again" if ended == "Failed" or (ended and is_last and new_work) else "unchanged"
            if what == "again" and not dry_run:
                _make_anew(manifest, there, objects)
            elif not ended and _container(there) != _container(manifest):
                what, kept = "kept", kept + 1
        new_work |= manifest["kind"] in _RUNS and what in ("created", "again")
        yield Outcome(what, manifest["kind"], manifest["metadata"]["name"])
    if kept:
        LOG.warning(
            "kept as they are: %d Jobs that were made with another image or other options, and have not ended; to "
            "change them, `kubectl --namespace %s delete jobs --selector %s=%s` and submit again",
            *(kept, objects.namespace, PIPELINE, manifests[-1]["metadata"]["labels"][PIPELINE]),
        )


def _container(found: Manifest) -> tuple[object, ...] | None:
    """What a Job runs, as far as options of `submit` say; None for a JobSet, whose name is a hash of all it says."""
    if found["kind"] != "Job":
        return None
    (container,) = found["spec"]["template"]["spec"]["containers"]
    return container["image"], container.get("args"), container["resources"].get("limits", {}).get(GPU)


def end_of(running: Manifest) -> str | None:
    """`Complete` or `Failed` for a Job or JobSet that has ended, None for one that has not."""
    for condition in running.get("status", {}).get("conditions") or []:
        if condition["status"] == "True" and condition["type"] in ("Complete", "Completed", "Failed"):
            return "Failed" if condition["type"] == "Failed" else "Complete"
    return None


def wait(manifests: list[Manifest], objects: ApiObjects) -> None:
    """Say what the stages do, until the report is published.

    Raises:
        FtjobsError: the pipeline failed, or what runs it was deleted.
    """
    runner = manifests[-1]
    pipeline = runner["metadata"]["labels"][PIPELINE]
    names = {manifest["metadata"]["name"] for manifest in manifests if manifest["kind"] == "Job"}
    said: dict[str, str] = {}
    while True:
        try:
            running = objects.get(runner)
            jobs = objects.jobs(f"{PIPELINE}={pipeline},{STAGE}")
        except FtjobsError as error:
            if error.exit_code != FtjobsError.exit_code:
                raise
            LOG.warning("%s; trying again", error)  # it runs on without us
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            continue
        if runner["kind"] == "Job":  # others of the pipeline are of another job file
            jobs = [job for job in jobs if job["metadata"]["name"] in names]
        for job in jobs:
            _say(job, said)
        if running is None:
            raise FtjobsError(f"{runner['kind']} {runner['metadata']['name']} was deleted; submit the job again")
        ended = end_of(running)
        if ended == "Complete":
            return
        if ended == "Failed":
            failed = [job for job in jobs if end_of(job) == "Failed"]
            stages = [_why(job, _title(job), objects.namespace) for job in failed]
            name = f"{runner['kind']} {runner['metadata']['name']}"
            raise FtjobsError(stages or [_why(running, name, objects.namespace)])
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _apply(manifest: Manifest, there: Manifest | None, objects: ApiObjects, dry_run: bool) -> str:
    applied = objects.apply(manifest, dry_run)
    if there is None:
        return "created"
    return "unchanged" if _content(applied) == _content(there) else "changed"


def _content(found: Manifest) -> Manifest:
    """An object without what the API server keeps about it."""
    kept = ("managedFields", "resourceVersion", "generation")
    metadata = {key: value for key, value in found["metadata"].items() if key not in kept}
    return found | {"metadata": metadata}


def _make_anew(manifest: Manifest, there: Manifest, objects: ApiObjects) -> None:
    objects.delete(manifest)
    end = time.monotonic() + _SECONDS_TO_DELETE
    while True:
        found = objects.get(manifest)
        if found is None or found["metadata"]["uid"] != there["metadata"]["uid"]:
            objects.apply(manifest)
            return
        if time.monotonic() > end:
            raise FtjobsError(f"Job {manifest['metadata']['name']} is still being deleted; submit again later")
        time.sleep(0.2)


def _say(job: Manifest, said: dict[str, str]) -> None:
    """One line when a stage is otherwise than it was."""
    stage, status = _title(job), job.get("status", {})
    ended = end_of(job)
    if ended:
        state = "done" if ended == "Complete" else "failed"
    elif job["spec"].get("suspend"):
        state = (job["metadata"].get("annotations") or {}).get(SUSPENDED) or "waits"
    else:
        state = "runs" if status.get("ready") else "starts"
        if SEED not in job["metadata"]["labels"] and job["spec"].get("completions", 1) > 1:
            state += f", {status.get('succeeded', 0)} of {job['spec']['completions']} seeds done"
    if said.get(stage) != state:
        LOG.info("%s: %s", stage, state)
        said[stage] = state


def _title(job: Manifest) -> str:
    marks = job["metadata"]["labels"]
    return f"{marks[STAGE]} seed {marks[SEED]}" if SEED in marks else str(marks[STAGE])


def _why(failed: Manifest, what: str, namespace: str) -> str:
    """What failed, what Kubernetes says about it, and where to read more. `failed` may be an item of a list, which has
    no `kind`."""
    words = next(
        f"{condition.get('reason', '')}: {condition.get('message', '')}"
        for condition in failed["status"]["conditions"]
        if condition["type"] == "Failed"
    )
    log = f"`kubectl --namespace {namespace} logs job/{failed['metadata']['name']}`"
    return f"{what} failed: {words}" + ("" if what.startswith("JobSet ") else f"; its log: {log}")
