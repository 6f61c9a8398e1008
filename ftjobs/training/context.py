"""What a training stage has from the attempt it runs in: a keeper of its state, and a log of its metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ftjobs.tracking import Log, nowhere
from ftjobs.training import memory, records
from ftjobs.training.state import Checkpointer


@dataclass(frozen=True)
class TrainingContext:
    """Both are optional: a stage trains without either."""

    checkpointer: Checkpointer | None = None
    log: Log = nowhere

    def log_step(self, step: int, loss: torch.Tensor, rate: float) -> None:
        """Log the training loss now and then: reading it makes a GPU wait."""
        if step % records.STEPS_BETWEEN == 0:
            self.log(records.step_record(float(loss), rate), step)

    def log_before(self, metrics: dict[str, float]) -> None:
        """Log masked-LM metrics of the model as it was before the first step."""
        self.log(records.start_record(metrics), 0)

    def log_epoch(self, step: int, record: dict[str, Any], examples_per_second: float) -> None:
        """Log the metrics of an epoch, and what only this attempt measured under `system/`."""
        metrics = records.epoch_record(record)
        peak, where = memory.peak()
        metrics[f"system/peak_{where}_memory_bytes"] = peak
        if examples_per_second:  # no step of this epoch was left to take after resuming
            metrics["system/examples_per_second"] = examples_per_second
        self.log(metrics, step)
