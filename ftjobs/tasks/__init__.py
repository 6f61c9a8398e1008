"""One module per value of `label_type`: label cells, head, loss, metrics, predictions and wording of a task."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from ftjobs.tasks.base import Criterion, Task
from ftjobs.tasks.wording import Metric

DEFAULT_LABEL_TYPE = "class"
"""The `label_type` of data that names none."""


@cache
def _registry() -> dict[str, Task]:
    modules = sorted(module.name for module in pkgutil.iter_modules(__path__))
    loaded = [importlib.import_module(f"{__name__}.{name}") for name in modules]
    tasks = [module.TASK for module in loaded if hasattr(module, "TASK")]
    return {task.name: task for task in sorted(tasks, key=lambda task: task.name)}


def all_tasks() -> tuple[Task, ...]:
    """Return every task, ordered by name.

    A task is the `TASK` of any module in this folder. Modules are imported on the first call, without torch,
    transformers, pyarrow or NumPy: job files are checked against the tasks.
    """
    return tuple(_registry().values())


def get_task(label_type: str) -> Task:
    """Return the task for a `label_type`.

    Raises:
        KeyError: no task has this name; job files are checked before.
    """
    return _registry()[label_type]


def task_names() -> tuple[str, ...]:
    """Return the accepted values of `label_type`."""
    return tuple(_registry())


def metric_names() -> tuple[str, ...]:
    """Return the metrics of all tasks, each once."""
    return tuple(dict.fromkeys(metric.key for task in all_tasks() for metric in task.metrics))


__all__ = [
    "DEFAULT_LABEL_TYPE",
    "Criterion",
    "Metric",
    "Task",
    "all_tasks",
    "get_task",
    "metric_names",
    "task_names",
]
