"""Stages that nobody writes down: they bring what other stages ask for: data, or a corpus, of their own.

A derived stage is named after the first stage, in the file's order, that needs it, and others that ask for the same
share it. Like `prepare` it has no seed. The stages that need it find it among their inputs under its kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ftjobs.jobfile.fields import Classify, CorpusSource, Data, Job


@dataclass(frozen=True)
class ImplicitStage:
    """One derived stage."""

    kind: Literal["data", "corpus"]
    settings: Data | CorpusSource
    """What to bring."""
    users: tuple[str, ...]
    """The stages that need it, in the file's order."""

    @property
    def name(self) -> str:
        """`<first stage that needs it>-<kind>`."""
        return f"{self.users[0]}-{self.kind}"

    @property
    def field(self) -> tuple[str, ...]:
        """Path in the job file of what asks for it first."""
        return "stages", self.users[0], self.kind


def derived(job: Job) -> list[ImplicitStage]:
    """The derived stages of a job, in the order of the stages that they are named after."""
    found: list[ImplicitStage] = []
    for name in job.stages:
        asked = _asked(job, name)
        if asked is None:
            continue
        position = next((place for place, one in enumerate(found) if _same(one.settings, asked)), len(found))
        earlier = found[position].users if position < len(found) else ()
        kind: Literal["data", "corpus"] = "data" if isinstance(asked, Data) else "corpus"
        found[position : position + 1] = [ImplicitStage(kind, asked, (*earlier, name))]
    return found


def _asked(job: Job, name: str) -> Data | CorpusSource | None:
    """What a stage needs to have brought."""
    if isinstance(job.stages[name], Classify):
        return job.own_data(name)
    corpus = job.own_corpus(name)
    return None if corpus is None else corpus.of_source()


def _same(one: Data | CorpusSource, other: Data | CorpusSource) -> bool:
    if isinstance(one, Data):
        return isinstance(other, Data) and one.same_as(other)
    return isinstance(other, CorpusSource) and one.same_as(other)


def users(job: Job) -> dict[str, ImplicitStage]:
    """Stage -> the derived stage that it reads; only stages that read one."""
    return {name: one for one in derived(job) for name in one.users}
