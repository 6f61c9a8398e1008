"""The stages of a pipeline as a cluster runs them: one Job per stage, one completion index per seed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ftjobs.plan import StageRun

#: Labels and annotations of everything that belongs to a pipeline.
PIPELINE, STAGE, IDENTITY, NEEDS = "ftjobs/pipeline", "ftjobs/stage", "ftjobs/identity", "ftjobs/needs"
#: Annotations of a stage's Job: the Kueue queue that it is handed to instead of being resumed; and, written by the
#: conductor, why it is suspended.
QUEUE, SUSPENDED = "ftjobs/queue", "ftjobs/suspended"
#: The label by which Kueue takes a Job over.
KUEUE_QUEUE = "kueue.x-k8s.io/queue-name"


@dataclass(frozen=True)
class StageJob:
    """All seeds of one stage: one Kubernetes Job."""

    runs: tuple[StageRun, ...]
    """One per seed, in the order of the job file's seeds; the position is the Job's completion index."""
    needs: tuple[str, ...]
    """Names of the stages whose artifacts it reads."""

    @property
    def pipeline(self) -> str:
        """Name of the pipeline."""
        return self.runs[0].pipeline

    @property
    def stage(self) -> str:
        """Name of the stage."""
        return self.runs[0].stage

    @property
    def kind(self) -> str:
        """`prepare`, `adapt`, `classify` or `report`."""
        return self.runs[0].kind

    @property
    def identity(self) -> str:
        """sha256 over the identities of its runs: another seed or another setting makes another Job."""
        return hashlib.sha256("".join(run.identity for run in self.runs).encode()).hexdigest()

    @property
    def name(self) -> str:
        """Name of the Job. With `-<index>` behind it, it is the host name of a pod: a DNS label of at most 63
        characters, which the API server checks of Indexed Jobs (ValidateJob in pkg/apis/batch/validation). Names of
        pods have 5 random characters more; the Job controller cuts what stands before them."""
        return f"{self.pipeline}-{self.stage}-{self.identity[:8]}"


def stage_jobs(runs: list[StageRun]) -> list[StageJob]:
    """The Jobs of a plan, each after those it needs."""
    by_stage: dict[str, list[StageRun]] = {}
    for run in runs:
        by_stage.setdefault(run.stage, []).append(run)
    return [StageJob(tuple(of_stage), _needs(of_stage)) for of_stage in by_stage.values()]


def _needs(runs: list[StageRun]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(read.stage for run in runs for read in run.inputs.values()))
