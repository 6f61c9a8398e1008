"""What a conductor does, given how things are: which stages to release, and what to say of the others.

No clock, no network: the same view gives the same decisions, to any number of conductors, whatever one knew before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ftjobs.kubernetes.job_state import JobState
from ftjobs.kubernetes.stage_jobs import KUEUE_QUEUE, SUSPENDED, StageJob
from ftjobs.plan import StageRun

_LONGEST_NOTE = 500


class State(StrEnum):
    """How a stage is."""

    PUBLISHED = "published"  # all its seeds
    WAITING = "waiting"  # for what it reads
    ABSENT = "absent"  # its Job is not there, or left nothing; for so short a time that this may yet change
    RELEASED = "released"  # it may run, and perhaps does
    FAILING = "failing"  # a seed failed for good, others may still run
    FAILED = "failed"  # none of it runs any more
    BLOCKED = "blocked"  # it reads what failed


#: As long as a stage is in one of these, more may come.
ACTIVE = frozenset({State.WAITING, State.ABSENT, State.RELEASED, State.FAILING})
_BROKEN = frozenset({State.FAILING, State.FAILED})


@dataclass(frozen=True)
class View:
    """How things are."""

    jobs: Mapping[str, JobState]
    """The Jobs that are there, by name. Those of no stage of the plan are ignored."""
    published: Collection[str]
    """Keys of the published artifacts."""
    lost: Collection[str] = ()
    """Names of Jobs that are not there, or complete without their artifacts, and had time enough for it to change."""
    errors: Mapping[str, str] | None = None
    """Why runs failed, as far as storage tells, by the key of their artifact."""
    queue: str | None = None
    """A Kueue queue that Jobs are handed to, unless they name another."""


@dataclass(frozen=True)
class Decision:
    """How a stage is, why, and what to change of its Job."""

    job: StageJob
    state: State
    why: str
    patch: dict[str, Any] | None
    """A merge patch, None where nothing is to be changed."""

    @property
    def releases(self) -> bool:
        """Whether the patch lets the Job run."""
        return self.patch is not None and ("spec" in self.patch or "labels" in self.patch["metadata"])


def decide(stages: list[StageJob], view: View) -> list[Decision]:
    """One decision for each stage, in their order, which has each after those it needs.

    A stage is released when everything that any of its seeds reads is published, and never before. One that is
    published already is left suspended if it never ran: its pods would wait for a GPU, perhaps start a machine, and
    find nothing to do. If it has begun it is let come to its end, where somebody suspended it when it was about to.
    """
    decisions: dict[str, Decision] = {}
    causes: dict[str, tuple[str, ...]] = {}  # Job -> the failed Jobs that it cannot run without
    for stage in stages:
        job = view.jobs.get(stage.name)
        waits = _waits(stage, view)
        state, why = _state(stage, job, waits, view)
        above = tuple(dict.fromkeys(cause for need in stage.needs for cause in causes[need]))
        if above and state in (State.WAITING, State.ABSENT):
            failed = [decisions[cause] for cause in above]
            state, why = State.BLOCKED, "; ".join(f"{one.job.title} failed: {one.why}" for one in failed)
        name = stage.short_name
        causes[name] = (name,) if state in _BROKEN else above if state is State.BLOCKED else ()
        decisions[name] = Decision(stage, state, why, _patch(job, state, why, view.queue))
    return list(decisions.values())


def _waits(stage: StageJob, view: View) -> list[str]:
    """Stages of which something that any seed reads is not published yet."""
    read = [one for run in stage.runs for one in run.inputs.values()]
    return list(dict.fromkeys(one.stage for one in read if one.key not in view.published))


def _state(stage: StageJob, job: JobState | None, waits: list[str], view: View) -> tuple[State, str]:
    """How a stage is, failures of those before it left aside."""
    missing = [index for index, run in enumerate(stage.runs) if run.key not in view.published]
    if not missing:
        return State.PUBLISHED, "published already; nothing to run"
    failed = [index for index in missing if job is not None and (job.failure or index in job.failed_indexes)]
    errors = _errors([stage.runs[index] for index in failed], view.errors or {})
    if job is not None and job.failure:
        return State.FAILED, "; ".join([job.failure, *errors])
    if job is None or job.complete:
        state = State.FAILED if stage.name in view.lost else State.ABSENT
        if job is None:
            return state, f"its Job {stage.name} is not there; apply the manifests again"
        titles = ", ".join(stage.runs[index].title for index in missing)
        return state, f"its Job {stage.name} is complete, but {titles} is not published; do both use the same store?"
    if failed:
        titles = ", ".join(stage.runs[index].title for index in failed)
        state = State.FAILED if waits else State.FAILING
        return state, "; ".join([f"no more tries for {titles}", *errors])
    if waits:
        return State.WAITING, f"waits for {', '.join(waits)}"
    return State.RELEASED, "released"


def _errors(runs: list[StageRun], errors: Mapping[str, str]) -> list[str]:
    """What storage tells of failed runs: each error once, with those it happened to."""
    titles: dict[str, list[str]] = {}
    for run in runs:
        if run.key in errors:
            titles.setdefault(errors[run.key], []).append(run.title)
    return [f"{', '.join(those)}: {error}" for error, those in titles.items()]


def _patch(job: JobState | None, state: State, why: str, queue: str | None) -> dict[str, Any] | None:
    """What makes the Job as the state wants it; a second one, by whomever, changes nothing."""
    if job is None or job.complete or job.failure:
        return None
    patch: dict[str, Any] = {"metadata": {}}
    released = state in (State.RELEASED, State.FAILING) or (state is State.PUBLISHED and job.begun)
    if released and job.suspended and job.queue is None:  # one that is in a queue already is Kueue's to start
        queue = job.wanted_queue or queue
        if queue:
            patch["metadata"]["labels"] = {KUEUE_QUEUE: queue}
        else:
            patch["spec"] = {"suspend": False}
    note = why[:_LONGEST_NOTE] if job.suspended and not released else None
    if state is State.BLOCKED and note:
        note = f"blocked: {note}"[:_LONGEST_NOTE]
    if note != job.note:
        patch["metadata"]["annotations"] = {SUSPENDED: note}
    return patch if patch["metadata"] or "spec" in patch else None
