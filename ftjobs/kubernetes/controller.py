"""Controller of a pipeline: observe its Jobs and its store, release stages whose inputs are published, and wait.

The controller keeps no state that it could not observe again. It may be killed at any time, and several controllers of
one pipeline do not conflict.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from ftjobs import artifacts
from ftjobs.artifacts import Manifest
from ftjobs.errors import CorruptArtifact, FtjobsError, UserError
from ftjobs.execution.heartbeat import FailedAttempt, latest_attempt
from ftjobs.kubernetes.api_objects import JobList, PipelineJobs
from ftjobs.kubernetes.reconcile import ACTIVE, Decision, Observation, State, reconcile
from ftjobs.kubernetes.stage_jobs import StageJob
from ftjobs.plan import StageRun
from ftjobs.storage import Storage, parallel_map
from ftjobs.system.progress import LOG

#: Seconds between two passes while no Job changes.
POLL = 15.0
#: Seconds until a missing Job counts as failed, because manifests are not applied all at once.
GRACE = 60.0


class _Pass(NamedTuple):
    """Observed Jobs, and the decisions that follow from them."""

    jobs: JobList
    decisions: list[Decision]


class Controller:
    """Runs one pipeline on a cluster until its report is published."""

    def __init__(self, stages: list[StageJob], storage: Storage, jobs: PipelineJobs, queue: str | None = None) -> None:
        """
        Args:
            stages: from `stage_jobs`; the report is last.
            storage: store of the pipeline's artifacts.
            jobs: Jobs of the pipeline.
            queue: default Kueue queue; a Job's annotation overrides it.
        """
        self.stages, self.storage, self.jobs, self.queue = stages, storage, jobs, queue
        self._published: dict[str, Manifest] = {}
        self._corrupt: dict[str, str] = {}
        self._missing_since: dict[str, float] = {}
        self._logged: dict[str, tuple[State, str]] = {}
        self._has_seen_jobs = False

    def run(self) -> Manifest:
        """Release stages until the report is published, and return its manifest.

        Unavailable clusters and stores are retried without limit, once both have responded; in a pod from the start,
        because exit code 1 fails the controller's Job permanently.

        Raises:
            UserError: the pipeline has no Jobs, or access is denied.
            FtjobsError: no stage can run any more; one problem per failed stage.
        """
        while True:
            result = self._reconcile_once()
            if result is None:
                time.sleep(POLL)
                continue
            if result.decisions[-1].state is State.PUBLISHED:
                return self._published[self.stages[-1].runs[0].key]
            if not any(decision.state in ACTIVE for decision in result.decisions):
                raise self._final_error(result)
            self.jobs.wait(result.jobs, POLL)

    def _reconcile_once(self) -> _Pass | None:
        """Observe, decide and patch; None if the cluster or the store is unavailable and a retry may help."""
        try:
            # Jobs before artifacts: the artifacts of a complete Job are then visible in the store.
            jobs = self.jobs.list()
            self._find_published()
            result = _Pass(jobs, reconcile(self.stages, self._observe(jobs)))
            for decision in result.decisions:
                if decision.patch is not None:
                    self.jobs.patch(decision.stage.name, decision.patch)
                self._log_change(decision)
        except UserError:
            raise
        except FtjobsError as error:
            if not self._logged and not self.jobs.cluster.in_cluster:
                raise
            LOG.warning("%s; the controller continues", error)
            return None
        return result

    def _find_published(self) -> None:
        """Look up artifacts not yet known as published; published artifacts are immutable."""

        def find(run: StageRun) -> Manifest | None:
            try:
                return artifacts.find_manifest(self.storage, run)
            except CorruptArtifact as error:
                self._corrupt[run.key] = str(error)
                return None

        runs = [run for stage in self.stages for run in stage.runs if run.key not in self._published]
        for run, manifest in zip(runs, parallel_map(self.storage, find, runs), strict=True):
            if manifest is not None:
                self._published[run.key] = manifest
                LOG.info("%s: published", run.title)

    def _observe(self, jobs: JobList) -> Observation:
        lost, failed = set(), list[StageRun]()
        for stage in self.stages:
            job = jobs.jobs.get(stage.name)
            missing = [run for run in stage.runs if run.key not in self._published]
            self._has_seen_jobs |= job is not None
            if missing and (job is None or job.complete):
                since = self._missing_since.setdefault(stage.name, time.monotonic())
                if time.monotonic() - since >= GRACE:
                    lost.add(stage.name)
            else:
                self._missing_since.pop(stage.name, None)
            if job is not None and (job.failure or job.failed_indexes):
                failed += missing
        return Observation(jobs.jobs, self._published, lost, self._stored_errors(failed), self.queue)

    def _stored_errors(self, runs: list[StageRun]) -> dict[str, str]:
        """Read the errors of failed runs from the store, by artifact key."""
        errors = {}
        for run in runs:
            try:
                error = self._corrupt.get(run.key) or self._stored_error(run)
            except FtjobsError as unreadable:
                LOG.debug("%s: %s", run.title, unreadable)
                continue
            if error:
                errors[run.key] = error.splitlines()[0]
        return errors

    def _stored_error(self, run: StageRun) -> str | None:
        attempt = latest_attempt(self.storage, run)
        return attempt.error if isinstance(attempt, FailedAttempt) else None

    def _log_change(self, decision: Decision) -> None:
        """Log one line when a stage is released or its state has changed."""
        stage, current = decision.stage.title, (decision.state, decision.reason)
        if decision.state is not State.PUBLISHED and (decision.releases or self._logged.get(stage) != current):
            prefix = f"{decision.state}: " if decision.state in (State.FAILING, State.FAILED, State.BLOCKED) else ""
            LOG.info("%s: %s%s", stage, prefix, decision.reason)
        self._logged[stage] = current

    def _final_error(self, result: _Pass) -> FtjobsError:
        """Return the error of a pipeline in which no stage can run any more."""
        namespace = self.jobs.cluster.namespace
        if not self._has_seen_jobs:
            others = "; its Jobs belong to another job file, or another --set or --nodes" if result.jobs.jobs else ""
            return UserError(
                f"namespace {namespace}: has no Jobs of these stages of pipeline {self.jobs.pipeline}{others}; apply "
                "the output of `ftjobs render` for this job file, or set --namespace and --context"
            )
        return FtjobsError(_failed_stages(result, namespace))


def _failed_stages(result: _Pass, namespace: str) -> list[str]:
    """Return one line per failed stage, and one with the remedy."""
    failed = [decision for decision in result.decisions if decision.state is State.FAILED]
    blocked = [decision.stage.title for decision in result.decisions if decision.state is State.BLOCKED]
    existing = [decision.stage.name for decision in failed if decision.stage.name in result.jobs.jobs]
    lines = []
    for decision in failed:
        name = decision.stage.name
        log = f"; see `kubectl --namespace {namespace} logs job/{name}`" if name in existing else ""
        lines.append(f"{decision.stage.title} failed: {decision.reason}{log}")
    blocked_stages = f"; blocked: {', '.join(blocked)}" if blocked else ""
    delete = "".join(f"job/{name} " for name in existing)
    remedy = f"fix the job and resubmit, or delete {delete}and the controller's Job and apply again"
    return [*lines, f"no stage can run any more{blocked_stages}; {remedy}"]
