"""The conductor: looks at storage and at the Jobs of a pipeline, releases stages whose inputs are published, and waits.

It remembers nothing that it could not see again, so it may be killed at any moment, and two of it do no harm.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from ftjobs import artifacts
from ftjobs.artifacts import Manifest
from ftjobs.errors import CorruptArtifact, FtjobsError, UserError
from ftjobs.execution.heartbeat import FailedAttempt, latest_attempt
from ftjobs.kubernetes.cluster import Cluster, Listing
from ftjobs.kubernetes.reconcile import ACTIVE, Decision, State, View, decide
from ftjobs.kubernetes.stage_jobs import StageJob
from ftjobs.plan import StageRun
from ftjobs.storage import Storage, in_parallel
from ftjobs.system.progress import LOG

#: Seconds between two looks while no Job changes.
POLL = 15.0
#: Seconds after which a Job that is not there counts as failed: manifests are not applied all at one moment.
GRACE = 60.0


class _Look(NamedTuple):
    """What one look has shown, and what follows from it."""

    listing: Listing
    decisions: list[Decision]


class Controller:
    """Conducts one pipeline to its end."""

    def __init__(self, stages: list[StageJob], storage: Storage, cluster: Cluster, queue: str | None = None) -> None:
        """
        Args:
            stages: as `stage_jobs` gives them; the report is the last.
            storage: where they publish.
            cluster: where their Jobs are.
            queue: a Kueue queue to hand Jobs to, unless their annotation names one.
        """
        self.stages, self.storage, self.cluster, self.queue = stages, storage, cluster, queue
        self._published: dict[str, Manifest] = {}
        self._corrupt: dict[str, str] = {}
        self._gone_since: dict[str, float] = {}
        self._said: dict[str, tuple[State, str]] = {}
        self._has_seen_jobs = False

    def run(self) -> Manifest:
        """Conduct until the report is published; returns its manifest.

        A cluster or a store that is down is waited for, without end once both have answered, and in a pod from the
        start: its Job takes exit code 1 for the end of the pipeline.

        Raises:
            UserError: there are no Jobs of the pipeline, or something is not allowed.
            FtjobsError: nothing more can run; each problem is a stage that failed.
        """
        while True:
            look = self._look_and_act()
            if look is None:
                time.sleep(POLL)
                continue
            if look.decisions[-1].state is State.PUBLISHED:
                return self._published[self.stages[-1].runs[0].key]
            if not any(decision.state in ACTIVE for decision in look.decisions):
                raise self._end(look)
            self.cluster.wait(look.listing, POLL)

    def _look_and_act(self) -> _Look | None:
        """None: cluster or store did not answer, and can be waited for."""
        try:
            # Jobs first: when one is complete, what it has published is there when storage is asked next.
            listing = self.cluster.jobs()
            self._look_for_artifacts()
            look = _Look(listing, decide(self.stages, self._view(listing)))
            for decision in look.decisions:
                if decision.patch is not None:
                    self.cluster.patch(decision.job.name, decision.patch)
                self._say(decision)
        except UserError:
            raise
        except FtjobsError as error:
            if not self._said and not self.cluster.connection.in_cluster:
                raise
            LOG.warning("%s; going on", error)
            return None
        return look

    def _look_for_artifacts(self) -> None:
        """Ask for what was not published at the last look; what is published stays so."""

        def find(run: StageRun) -> Manifest | None:
            try:
                return artifacts.find(self.storage, run)
            except CorruptArtifact as error:
                self._corrupt[run.key] = str(error)
                return None

        runs = [run for stage in self.stages for run in stage.runs if run.key not in self._published]
        for run, manifest in zip(runs, in_parallel(self.storage, find, runs), strict=True):
            if manifest is not None:
                self._published[run.key] = manifest
                LOG.info("%s: published", run.title)

    def _view(self, listing: Listing) -> View:
        lost, failed = set(), list[StageRun]()
        for stage in self.stages:
            job = listing.jobs.get(stage.name)
            missing = [run for run in stage.runs if run.key not in self._published]
            self._has_seen_jobs |= job is not None
            if missing and (job is None or job.complete):
                since = self._gone_since.setdefault(stage.name, time.monotonic())
                if time.monotonic() - since >= GRACE:
                    lost.add(stage.name)
            else:
                self._gone_since.pop(stage.name, None)
            if job is not None and (job.failure or job.failed_indexes):
                failed += missing
        return View(listing.jobs, self._published, lost, self._errors(failed), self.queue)

    def _errors(self, runs: list[StageRun]) -> dict[str, str]:
        """Why runs failed, by the key of their artifact, as far as they could leave it in storage."""
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

    def _say(self, decision: Decision) -> None:
        """One line when a stage is released, or is otherwise than it was."""
        stage, said = decision.job.title, (decision.state, decision.why)
        if decision.state is not State.PUBLISHED and (decision.releases or self._said.get(stage) != said):
            word = f"{decision.state}: " if decision.state in (State.FAILING, State.FAILED, State.BLOCKED) else ""
            LOG.info("%s: %s%s", stage, word, decision.why)
        self._said[stage] = said

    def _end(self, look: _Look) -> FtjobsError:
        """What to say when nothing more can run."""
        namespace = self.cluster.connection.namespace
        pipeline = self.cluster.pipeline
        if not self._has_seen_jobs:
            others = "; those it has belong to another job file, or other --set or --nodes" if look.listing.jobs else ""
            return UserError(
                f"namespace {namespace} has no Jobs of these stages of pipeline {pipeline}{others}; apply what "
                "`ftjobs render` prints for this job file, or say where with --namespace and --context"
            )
        return FtjobsError(_what_failed(look, namespace))


def _what_failed(look: _Look, namespace: str) -> list[str]:
    """A line for each stage that failed, and one for what to do."""
    failed = [one for one in look.decisions if one.state is State.FAILED]
    blocked = [one.job.title for one in look.decisions if one.state is State.BLOCKED]
    there = [one.job.name for one in failed if one.job.name in look.listing.jobs]
    lines = []
    for one in failed:
        log = f"; its log: `kubectl --namespace {namespace} logs job/{one.job.name}`" if one.job.name in there else ""
        lines.append(f"{one.job.title} failed: {one.why}{log}")
    waiting = f"; {', '.join(blocked)} will not run without" if blocked else ""
    delete = "".join(f"job/{name} " for name in there)
    again = f"mend it and submit the job again, or delete {delete}and the conductor's Job and apply again"
    return [*lines, f"nothing more can run{waiting}; {again}"]
