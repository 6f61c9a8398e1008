"""The task and the measure of a report, from its findings."""

from __future__ import annotations

from typing import Any

from ftjobs.tasks import DEFAULT_LABEL_TYPE, Task, get_task
from ftjobs.tasks.measures import Measure


def task_of(content: dict[str, Any]) -> Task:
    """Return the task that the job's strategies were trained for."""
    return get_task(content["data"].get("label_type", DEFAULT_LABEL_TYPE))


def measure(content: dict[str, Any]) -> Measure:
    """Return the measure by which the job's strategies are compared."""
    return task_of(content).measure
