"""What a training stage has from the attempt it runs in: a keeper of its state, and a log of its metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ftjobs.tracking import Log, nowhere
from ftjobs.training import memory
from ftjobs.training.state import StateKeeper

_STEPS_BETWEEN_LOGS = 10


@dataclass(frozen=True)
class Session:
    """Both are optional: a stage trains without either."""

    keeper: StateKeeper | None = None
    log: Log = nowhere

    def log_step(self, step: int, loss: torch.Tensor, rate: float) -> None:
        """Log the training loss now and then: reading it makes a GPU wait."""
        if step % _STEPS_BETWEEN_LOGS == 0:
            self.log({"train/loss": float(loss), "train/learning_rate": rate}, step)

    def log_before(self, metrics: dict[str, float]) -> None:
        """Log masked-LM metrics of the model as it was before the first step."""
        self.log({"epoch": 0, **{f"mlm/{name}": value for name, value in metrics.items()}}, 0)

    def log_epoch(self, step: int, record: dict[str, Any], examples_per_second: float) -> None:
        """Log the metrics of an epoch: a classifier's on a split under `eval/<split>/`, masked-LM's under `mlm/`."""
        metrics: dict[str, Any] = {"epoch": record["epoch"], "train/epoch_loss": record["train_loss"]}
        for name, value in record.items():
            if isinstance(value, dict):
                metrics |= {f"eval/{name}/{metric}": figure for metric, figure in value.items()}
            elif name not in ("epoch", "train_loss"):
                metrics[f"mlm/{name}"] = value
        peak, where = memory.peak()
        metrics[f"system/peak_{where}_memory_bytes"] = peak
        if examples_per_second:  # no step of this epoch was left to take after resuming
            metrics["system/examples_per_second"] = examples_per_second
        self.log(metrics, step)
