"""Stages of a pipeline as Kubernetes Jobs: one Job per stage, one completion index per seed.

With several nodes per seed, each seed has its own Job with one completion index per node. A node that fails permanently
then ends only the nodes of its seed, and Kueue admits all nodes of a seed or none.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ftjobs.plan import StageRun

#: Labels and annotations of all objects of a pipeline.
PIPELINE, STAGE, IDENTITY, NEEDS = "ftjobs/pipeline", "ftjobs/stage", "ftjobs/identity", "ftjobs/needs"
#: Label of the Job of a single seed.
SEED = "ftjobs/seed"
#: Annotations of a stage's Job: the Kueue queue that releases it (instead of resuming it), and the reason why it is
#: suspended, written by the controller.
QUEUE, SUSPENDED = "ftjobs/queue", "ftjobs/suspended"
#: Label that hands a Job to Kueue.
KUEUE_QUEUE = "kueue.x-k8s.io/queue-name"


@dataclass(frozen=True)
class StageJob:
    """One Kubernetes Job: all seeds of a stage, or a single seed that runs on several nodes."""

    runs: tuple[StageRun, ...]
    """One per seed, in the job file's order; with one node per seed, the position is the completion index."""
    needs: tuple[str, ...]
    """Short names of the Jobs whose artifacts this Job reads."""
    nodes: int = 1
    """Pods that run one seed together."""

    @property
    def pipeline(self) -> str:
        """Name of the pipeline."""
        return self.runs[0].pipeline

    @property
    def stage(self) -> str:
        """Name of the stage."""
        return self.runs[0].stage

    @property
    def is_single_seed(self) -> bool:
        """True if the other seeds of the stage have separate Jobs."""
        return self.nodes > 1

    @property
    def title(self) -> str:
        """Name in messages: the stage, with its seed if the Job runs a single one."""
        return self.runs[0].title if self.is_single_seed else self.stage

    @property
    def short_name(self) -> str:
        """Name within the pipeline."""
        return _short_name(self.runs[0], self.nodes)

    @property
    def completions(self) -> int:
        """Pods that must succeed."""
        return self.nodes if self.is_single_seed else len(self.runs)

    @property
    def kind(self) -> str:
        """Kind of the stage, such as `prepare`, `adapt`, `classify` or `report`."""
        return self.runs[0].kind

    @property
    def identity(self) -> str:
        """sha256 over the identities of all runs: a changed seed or setting gives a different Job."""
        return hashlib.sha256("".join(run.identity for run in self.runs).encode()).hexdigest()

    @property
    def name(self) -> str:
        """Name of the Job. `<name>-<index>` is the host name of a pod, hence a DNS label of at most 63 characters; the
        API server checks this for Indexed Jobs (ValidateJob in pkg/apis/batch/validation). Pod names add 5 random
        characters; the Job controller truncates the part before them."""
        return f"{self.pipeline}-{self.short_name}-{self.identity[:8]}"


def stage_jobs(runs: list[StageRun], nodes: int = 1) -> list[StageJob]:
    """Group a plan into Jobs, each after the Jobs it needs.

    Args:
        runs: the plan.
        nodes: pods per seed of a training stage.
    """
    runs_by_name: dict[str, list[StageRun]] = {}
    for run in runs:
        runs_by_name.setdefault(_short_name(run, nodes), []).append(run)
    return [
        StageJob(tuple(group), _needs(group, nodes), nodes if group[0].has_seed else 1)
        for group in runs_by_name.values()
    ]


def _short_name(run: StageRun, nodes: int) -> str:
    return f"{run.stage}-{run.seed}" if nodes > 1 and run.has_seed else run.stage


def _needs(runs: list[StageRun], nodes: int) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_short_name(source, nodes) for run in runs for source in run.inputs.values()))
