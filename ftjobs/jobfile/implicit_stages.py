"""Implicit stages: stages without an entry in the job file that provide data or a corpus for other stages.

A `classify` stage with its own `data:`, and an `adapt` stage with its own `corpus:`, read it from an implicit stage of
kind `data` or `corpus`. An implicit stage is named after its first reader in the order of the file; readers with equal
settings share it. Like `prepare` it has no seed. Readers have it among their inputs under its kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ftjobs.jobfile.fields import Classify, CorpusSource, Data, Job


@dataclass(frozen=True)
class ImplicitStage:
    """A stage that provides data or a corpus."""

    kind: Literal["data", "corpus"]
    settings: Data | CorpusSource
    readers: tuple[str, ...]
    """Names of the stages that read it, in the order of the file."""

    @property
    def name(self) -> str:
        """`<first reader>-<kind>`."""
        return f"{self.readers[0]}-{self.kind}"

    @property
    def field(self) -> tuple[str, ...]:
        """Path in the job file of the settings of the first reader."""
        return "stages", self.readers[0], self.kind


def implicit_stages(job: Job) -> list[ImplicitStage]:
    """Return the implicit stages of a job, in the order of their first readers."""
    implicit: list[ImplicitStage] = []
    for name in job.stages:
        settings = _own_settings(job, name)
        if settings is None:
            continue
        index = next((i for i, stage in enumerate(implicit) if _are_same(stage.settings, settings)), len(implicit))
        earlier = implicit[index].readers if index < len(implicit) else ()
        kind: Literal["data", "corpus"] = "data" if isinstance(settings, Data) else "corpus"
        implicit[index : index + 1] = [ImplicitStage(kind, settings, (*earlier, name))]
    return implicit


def provided_by(job: Job) -> dict[str, ImplicitStage]:
    """Map each stage that reads an implicit stage to it."""
    return {name: stage for stage in implicit_stages(job) for name in stage.readers}


def _own_settings(job: Job, name: str) -> Data | CorpusSource | None:
    """Return the data or corpus that a stage does not share with the job; None if it has none."""
    if isinstance(job.stages[name], Classify):
        return job.own_data(name)
    corpus = job.own_corpus(name)
    return None if corpus is None else corpus.of_source()


def _are_same(first: Data | CorpusSource, second: Data | CorpusSource) -> bool:
    if isinstance(first, Data):
        return isinstance(second, Data) and first.same_as(second)
    return isinstance(second, CorpusSource) and first.same_as(second)
