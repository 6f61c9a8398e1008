"""The stages of a pipeline as a cluster runs them: one Job per stage, one completion index per seed.

Where several pods run a stage together, each seed has a Job of its own, with a completion index for each of them: so
one that fails for good ends the others of its seed, and no others, and Kueue admits all of a seed or none.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ftjobs.plan import StageRun

#: Labels and annotations of everything that belongs to a pipeline.
PIPELINE, STAGE, IDENTITY, NEEDS = "ftjobs/pipeline", "ftjobs/stage", "ftjobs/identity", "ftjobs/needs"
#: Label of a Job of one seed.
SEED = "ftjobs/seed"
#: Annotations of a stage's Job: the Kueue queue that it is handed to instead of being resumed; and, written by the
#: conductor, why it is suspended.
QUEUE, SUSPENDED = "ftjobs/queue", "ftjobs/suspended"
#: The label by which Kueue takes a Job over.
KUEUE_QUEUE = "kueue.x-k8s.io/queue-name"


@dataclass(frozen=True)
class StageJob:
    """One Kubernetes Job: all seeds of one stage, or one seed where several pods run it together."""

    runs: tuple[StageRun, ...]
    """One per seed, in the order of the job file's seeds; with one pod each, the position is the completion index."""
    needs: tuple[str, ...]
    """Short names of the Jobs whose artifacts it reads."""
    nodes: int = 1
    """Pods that run a seed together."""

    @property
    def pipeline(self) -> str:
        """Name of the pipeline."""
        return self.runs[0].pipeline

    @property
    def stage(self) -> str:
        """Name of the stage."""
        return self.runs[0].stage

    @property
    def is_of_one_seed(self) -> bool:
        """Whether other seeds of the stage have other Jobs."""
        return self.nodes > 1

    @property
    def title(self) -> str:
        """The Job as messages name it: by its stage, and its seed if it has but one."""
        return self.runs[0].title if self.is_of_one_seed else self.stage

    @property
    def short_name(self) -> str:
        """Name within the pipeline."""
        return _short_name(self.runs[0], self.nodes)

    @property
    def completions(self) -> int:
        """Pods that must end well."""
        return self.nodes if self.is_of_one_seed else len(self.runs)

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
        return f"{self.pipeline}-{self.short_name}-{self.identity[:8]}"


def stage_jobs(runs: list[StageRun], nodes: int = 1) -> list[StageJob]:
    """The Jobs of a plan, each after those it needs.

    Args:
        runs: the plan.
        nodes: pods that run each seed of a stage that trains.
    """
    by_name: dict[str, list[StageRun]] = {}
    for run in runs:
        by_name.setdefault(_short_name(run, nodes), []).append(run)
    return [
        StageJob(tuple(of_job), _needs(of_job, nodes), nodes if of_job[0].has_seed else 1)
        for of_job in by_name.values()
    ]


def _short_name(run: StageRun, nodes: int) -> str:
    return f"{run.stage}-{run.seed}" if nodes > 1 and run.has_seed else run.stage


def _needs(runs: list[StageRun], nodes: int) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_short_name(read, nodes) for run in runs for read in run.inputs.values()))
