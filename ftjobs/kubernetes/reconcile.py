"""Decide which stages to release, from the observed Jobs and the published artifacts.

Pure functions without clock or network: equal observations give equal decisions, for any number of controllers.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ftjobs.kubernetes.stage_jobs import KUEUE_QUEUE, QUEUE, SUSPENDED, StageJob
from ftjobs.plan import StageRun

_LONGEST_ANNOTATION = 500


@dataclass(frozen=True)
class JobState:
    """State of a Job, as far as decisions depend on it. Equal states need no new decision."""

    name: str
    suspended: bool
    was_resumed: bool = False
    """True if it was ever resumed, inferred from a changed spec: other fields of a Job's spec rarely change."""
    complete: bool = False
    failure: str | None = None
    """Why it failed, starting with Kubernetes' reason; None if it did not."""
    failed_indexes: frozenset[int] = frozenset()
    """Completion indexes that failed without further retries."""
    succeeded: int = 0
    """Pods that succeeded."""
    queue: str | None = None
    """Kueue queue that manages it."""
    requested_queue: str | None = None
    """Kueue queue to hand it to on release, from its annotation."""
    suspend_reason: str | None = field(default=None, compare=False)
    """Reason why it is suspended, from the annotation that the controller writes."""

    @classmethod
    def from_json(cls, job: Mapping[str, Any]) -> JobState | None:
        """Parse a Job of the API; None if it is being deleted."""
        metadata, spec, status = job["metadata"], job.get("spec") or {}, job.get("status") or {}
        if metadata.get("deletionTimestamp"):
            return None
        labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
        conditions = {
            condition["type"]: condition
            for condition in status.get("conditions") or []
            if condition.get("status") == "True"
        }
        return cls(
            name=metadata["name"],
            suspended=bool(spec.get("suspend")),
            was_resumed=(metadata.get("generation") or 1) > 1,
            complete="Complete" in conditions,
            failure=_failure(conditions.get("Failed")),
            failed_indexes=frozenset(_parse_indexes(status.get("failedIndexes") or "", spec.get("completions") or 1)),
            succeeded=status.get("succeeded") or 0,
            queue=labels.get(KUEUE_QUEUE),
            requested_queue=annotations.get(QUEUE),
            suspend_reason=annotations.get(SUSPENDED),
        )


class State(StrEnum):
    """State of a stage."""

    PUBLISHED = "published"  # all seeds
    WAITING = "waiting"  # for its inputs
    ABSENT = "absent"  # Job missing, or complete without artifacts, but within the grace period
    RELEASED = "released"  # may run
    FAILING = "failing"  # one seed failed permanently, others may still run
    FAILED = "failed"  # no seed runs any more
    BLOCKED = "blocked"  # an input failed


#: A pipeline with a stage in one of these states can still make progress.
ACTIVE = frozenset({State.WAITING, State.ABSENT, State.RELEASED, State.FAILING})
_BROKEN = frozenset({State.FAILING, State.FAILED})


@dataclass(frozen=True)
class Observation:
    """Observed state of a pipeline in the cluster and in the store."""

    jobs: Mapping[str, JobState]
    """Existing Jobs by name. Jobs of stages outside the plan are ignored."""
    published: Collection[str]
    """Keys of the published artifacts."""
    lost: Collection[str] = ()
    """Names of Jobs that are missing, or complete without their artifacts, for longer than the grace period."""
    errors: Mapping[str, str] | None = None
    """Errors that failed runs have left in the store, by artifact key."""
    queue: str | None = None
    """Default Kueue queue of released Jobs."""


@dataclass(frozen=True)
class Decision:
    """State of a stage, the reason, and the change to its Job."""

    stage: StageJob
    state: State
    reason: str
    patch: dict[str, Any] | None
    """A JSON merge patch, None without a change."""

    @property
    def releases(self) -> bool:
        """True if the patch resumes the Job or hands it to Kueue."""
        return self.patch is not None and ("spec" in self.patch or "labels" in self.patch["metadata"])


def reconcile(stages: list[StageJob], observed: Observation) -> list[Decision]:
    """Return one decision per stage, in order; each stage comes after those it needs.

    A stage is released once the inputs of all its seeds are published, never before. A published stage that never ran
    stays suspended: its pods would request a GPU, perhaps scale up the cluster, and exit at once. A published stage
    that ran before is resumed, so that its Job can complete.
    """
    decisions: dict[str, Decision] = {}
    causes: dict[str, tuple[str, ...]] = {}  # Job -> the failed Jobs that block it
    for stage in stages:
        job = observed.jobs.get(stage.name)
        state, reason = _stage_state(stage, job, observed)
        upstream = tuple(dict.fromkeys(cause for need in stage.needs for cause in causes[need]))
        if upstream and state in (State.WAITING, State.ABSENT):
            failed = [decisions[cause] for cause in upstream]
            state = State.BLOCKED
            reason = "; ".join(f"{decision.stage.title} failed: {decision.reason}" for decision in failed)
        name = stage.short_name
        causes[name] = (name,) if state in _BROKEN else upstream if state is State.BLOCKED else ()
        decisions[name] = Decision(stage, state, reason, _patch(job, state, reason, observed.queue))
    return list(decisions.values())


def _stage_state(stage: StageJob, job: JobState | None, observed: Observation) -> tuple[State, str]:
    """Return the state of a stage and the reason, without regard to failures of its inputs."""
    missing = [index for index, run in enumerate(stage.runs) if run.key not in observed.published]
    if not missing:
        return State.PUBLISHED, "already published; nothing to run"
    failed = [index for index in missing if job is not None and (job.failure or index in job.failed_indexes)]
    errors = _errors_by_run([stage.runs[index] for index in failed], observed.errors or {})
    if job is not None and job.failure:
        return State.FAILED, "; ".join([job.failure, *errors])
    if job is None or job.complete:
        state = State.FAILED if stage.name in observed.lost else State.ABSENT
        if job is None:
            return state, f"its Job {stage.name} does not exist; apply the manifests again"
        titles = ", ".join(stage.runs[index].title for index in missing)
        return state, f"its Job {stage.name} is complete without publishing {titles}; check that both use one store"
    waits = _unpublished_inputs(stage, observed)
    if failed:
        titles = ", ".join(stage.runs[index].title for index in failed)
        state = State.FAILED if waits else State.FAILING
        return state, "; ".join([f"no retries left for {titles}", *errors])
    if waits:
        return State.WAITING, f"waits for {', '.join(waits)}"
    return State.RELEASED, "released"


def _unpublished_inputs(stage: StageJob, observed: Observation) -> list[str]:
    """Return the stages with an unpublished artifact that any seed reads."""
    sources = [source for run in stage.runs for source in run.inputs.values()]
    return list(dict.fromkeys(source.stage for source in sources if source.key not in observed.published))


def _errors_by_run(runs: list[StageRun], errors: Mapping[str, str]) -> list[str]:
    """Return the errors of failed runs, each once, with the titles of its runs."""
    titles: dict[str, list[str]] = {}
    for run in runs:
        if run.key in errors:
            titles.setdefault(errors[run.key], []).append(run.title)
    return [f"{', '.join(run_titles)}: {error}" for error, run_titles in titles.items()]


def _patch(job: JobState | None, state: State, reason: str, queue: str | None) -> dict[str, Any] | None:
    """Return the patch that brings a Job in line with the state of its stage; idempotent."""
    if job is None or job.complete or job.failure:
        return None
    patch: dict[str, Any] = {"metadata": {}}
    released = state in (State.RELEASED, State.FAILING) or (state is State.PUBLISHED and job.was_resumed)
    if released and job.suspended and job.queue is None:  # Kueue resumes the Jobs in its queues
        queue = job.requested_queue or queue
        if queue:
            patch["metadata"]["labels"] = {KUEUE_QUEUE: queue}
        else:
            patch["spec"] = {"suspend": False}
    suspend_reason = reason[:_LONGEST_ANNOTATION] if job.suspended and not released else None
    if state is State.BLOCKED and suspend_reason:
        suspend_reason = f"blocked: {suspend_reason}"[:_LONGEST_ANNOTATION]
    if suspend_reason != job.suspend_reason:
        patch["metadata"]["annotations"] = {SUSPENDED: suspend_reason}
    return patch if patch["metadata"] or "spec" in patch else None


def _failure(condition: Mapping[str, Any] | None) -> str | None:
    if condition is None:
        return None
    text = ": ".join(filter(None, (condition.get("reason"), condition.get("message"))))
    return " ".join(text.split()) or "Failed"


def _parse_indexes(text: str, completions: int) -> set[int]:
    """Parse `1,3-5` to 1, 3, 4 and 5, without indexes of `completions` or above."""
    indexes: set[int] = set()
    for part in text.split(","):
        if match := re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip()):
            first, last = int(match[1]), int(match[2] or match[1])
            indexes.update(range(first, min(last, completions - 1) + 1))
    return indexes
