"""Hooks into the training loop, and the callback that logs metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ftjobs.tracking import LogMetrics
from ftjobs.training import memory, output


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
        peak, where = memory.peak_memory()
        metrics[f"system/peak_{where}_memory_bytes"] = peak
        if event.examples_per_second:
            metrics["system/examples_per_second"] = event.examples_per_second
        self.log(metrics, event.step)
