"""Hooks into the training loop: callbacks, metrics logging, and the checkpointer that saves training state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from ftjobs.system import device
from ftjobs.tracking import LogMetrics, discard_metrics
from ftjobs.training import output


@dataclass(frozen=True)
class StepEnd:
    """An optimizer step that has been taken."""

    step: int
    """Number of the step, from 1."""
    loss: torch.Tensor
    """Mean training loss: scalar, on the device. Reading it makes a GPU synchronize."""
    learning_rate: float
    """Learning rate of the step, of the first parameter group."""


@dataclass(frozen=True)
class EpochEnd:
    """An epoch that has been trained and evaluated."""

    step: int
    """Number of the last step, from 1."""
    record: dict[str, Any]
    """Metrics of the epoch, as in `TrainOutput.epochs`."""
    examples_per_second: float
    """Training speed of the steps that this attempt took; 0 if it took none."""


class Callback:
    """Base class of callbacks; the hooks do nothing unless overridden. Callbacks must not change the model."""

    def on_step_end(self, event: StepEnd) -> None:
        """Run after each optimizer step."""

    def on_epoch_end(self, event: EpochEnd) -> None:
        """Run after the evaluation of each epoch."""


class MetricsLogger(Callback):
    """Log training losses and the metrics of epochs to a tracker."""

    def __init__(self, log: LogMetrics) -> None:
        self.log = log

    def on_step_end(self, event: StepEnd) -> None:
        """Log loss and learning rate of every tenth step."""
        if event.step % output.LOGGING_STEPS == 0:
            self.log(output.step_metrics(float(event.loss), event.learning_rate), event.step)

    def on_epoch_end(self, event: EpochEnd) -> None:
        """Log the metrics of the epoch, and measurements of this attempt under `system/`."""
        metrics = output.epoch_metrics(event.record)
        peak, where = device.peak_memory()
        metrics[f"system/peak_{where}_memory_bytes"] = peak
        if event.examples_per_second:
            metrics["system/examples_per_second"] = event.examples_per_second
        self.log(metrics, event.step)


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
