"""Services that a stage attempt provides to training: checkpointing, metrics logging, and further callbacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ftjobs.tracking import LogMetrics, discard_metrics
from ftjobs.training.callbacks import Callback


class Checkpointer(Protocol):
    """Save and restore the training state of one stage. `execution.checkpointing` implements it on storage."""

    def latest(self) -> Path | None:
        """Return a local folder with the latest complete training state of this stage, or None."""

    def should_save(self, step: int, total: int) -> bool:
        """Return whether to save now; called after every optimizer step."""

    def save(self, write: Callable[[Path], None], step: int, total: int, *, wait: bool) -> None:
        """Call `write` with an empty folder and store the folder as training state.

        Returns at once unless `wait`; the next save waits for a pending one.
        """

    def cached_file(self, name: str) -> Path | None:
        """Return a local copy of the file that an earlier attempt cached under `name`, or None."""

    def cache_file(self, name: str, write: Callable[[Path], None]) -> None:
        """Call `write` with a path and store the file under `name` for later attempts. Returns at once."""


@dataclass(frozen=True)
class TrainingContext:
    """Checkpointing, metrics logging and callbacks of a training run; all are optional."""

    checkpointer: Checkpointer | None = None
    log: LogMetrics = discard_metrics
    callbacks: tuple[Callback, ...] = ()
