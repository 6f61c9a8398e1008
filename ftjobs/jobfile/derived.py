"""Stages that nobody writes down: they bring what other stages ask for, such as data of their own.

A derived stage is named after the first stage, in the file's order, that needs it, and others that ask for the same
share it. Like `prepare` it has no seed. The stages that need it find it among their inputs under its kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ftjobs.jobfile.fields import Classify, Data, Job


@dataclass(frozen=True)
class Derived:
    """One derived stage."""

    kind: Literal["data"]
    settings: Data
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


def derived(job: Job) -> list[Derived]:
    """The derived stages of a job, in the order of the stages that they are named after."""
    found: list[Derived] = []
    for name, stage in job.stages.items():
        data = job.own_data(name) if isinstance(stage, Classify) else None
        if data is None:
            continue
        position = next((place for place, one in enumerate(found) if one.settings.same_as(data)), len(found))
        earlier = found[position].users if position < len(found) else ()
        found[position : position + 1] = [Derived("data", data, (*earlier, name))]
    return found


def users(job: Job) -> dict[str, list[Derived]]:
    """Stage -> the derived stages that it reads; only stages that read any."""
    found: dict[str, list[Derived]] = {}
    for one in derived(job):
        for name in one.users:
            found.setdefault(name, []).append(one)
    return found
