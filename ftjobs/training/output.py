"""What comes out of training besides the model, and the files it is written to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftjobs.jobfile.fields import TrainingFields
from ftjobs.training import memory, records


@dataclass
class TrainOutput:
    """What came out of training; the model itself holds the weights of the best epoch."""

    device: str
    mixed_precision: str
    processes: int
    steps_per_epoch: int
    """Optimizer steps."""
    steps: list[tuple[int, float, float]]
    """Number (from 1), mean loss and learning rate of every tenth step."""
    epochs: list[dict[str, Any]]
    """Per epoch: `epoch` (from 1), `train_loss` (mean per item), and the evaluation's metrics."""
    best_epoch: int
    seconds: float
    """Wall time in training steps, evaluation excluded."""

    def stopping(self, settings: TrainingFields) -> dict[str, int]:
        """For the metrics of a stage that may stop early: how many epochs there were. Nothing for others."""
        return {} if settings.early_stopping is None else {"epochs_run": len(self.epochs)}

    def write(self, folder: Path, metrics: dict[str, Any], examples: int) -> None:
        """Write `metrics.json` (the stage's metrics and every epoch), `metrics.jsonl` (what a tracker is told) and
        `timing.json` to a folder."""
        (folder / "metrics.json").write_text(json.dumps({**metrics, "epochs": self.epochs}, indent=1) + "\n")
        log = records.jsonl(self.steps, self.epochs, self.steps_per_epoch, metrics.get("before"))
        (folder / "metrics.jsonl").write_text(log)
        (folder / "timing.json").write_text(json.dumps(self.timing(examples), indent=1) + "\n")

    def timing(self, examples: int) -> dict[str, Any]:
        """How long training took, on what, and how much memory the stage needed. Measured, so kept apart from what must
        be reproducible."""
        peak, where = memory.peak()
        return {
            "train_seconds": self.seconds,
            "examples_per_second": examples * len(self.epochs) / self.seconds if self.seconds else 0.0,
            "peak_memory_bytes": peak,
            "peak_memory_of": where,
            "device": self.device,
            "mixed_precision": self.mixed_precision,
            "processes": self.processes,
        }
