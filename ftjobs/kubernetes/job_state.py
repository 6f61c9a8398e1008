"""What matters of a Job to a conductor."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ftjobs.kubernetes.stage_jobs import KUEUE_QUEUE, QUEUE, SUSPENDED


@dataclass(frozen=True)
class JobState:
    """A Job as it is now. Two are equal if there is no reason to look again."""

    name: str
    suspended: bool
    begun: bool = False
    """Whether it was resumed before: its spec has changed since it was created, and little else of it can change."""
    complete: bool = False
    failure: str | None = None
    """Why it failed, with the reason that Kubernetes gives first; None if it did not."""
    failed_indexes: frozenset[int] = frozenset()
    """Completion indexes that failed and will not be tried again."""
    succeeded: int = 0
    """Pods that ended well."""
    queue: str | None = None
    """The Kueue queue that it is in."""
    wanted_queue: str | None = None
    """The Kueue queue that it is to be handed to, by its annotation."""
    note: str | None = field(default=None, compare=False)
    """Why it is suspended, as a conductor has written on it."""

    @classmethod
    def of(cls, job: Mapping[str, Any]) -> JobState | None:
        """The state of a Job from the API's JSON; None if it is being deleted."""
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
            begun=(metadata.get("generation") or 1) > 1,
            complete="Complete" in conditions,
            failure=_failure(conditions.get("Failed")),
            failed_indexes=frozenset(_indexes(status.get("failedIndexes") or "", spec.get("completions") or 1)),
            succeeded=status.get("succeeded") or 0,
            queue=labels.get(KUEUE_QUEUE),
            wanted_queue=annotations.get(QUEUE),
            note=annotations.get(SUSPENDED),
        )


def _failure(condition: Mapping[str, Any] | None) -> str | None:
    if condition is None:
        return None
    words = ": ".join(filter(None, (condition.get("reason"), condition.get("message"))))
    return " ".join(words.split()) or "Failed"


def _indexes(text: str, completions: int) -> set[int]:
    """`1,3-5` as the numbers 1, 3, 4 and 5, those below `completions`."""
    found: set[int] = set()
    for part in text.split(","):
        if match := re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip()):
            first, last = int(match[1]), int(match[2] or match[1])
            found.update(range(first, min(last, completions - 1) + 1))
    return found
