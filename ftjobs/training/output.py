"""Results of training, and the files a stage writes them to: metrics.json, metrics.jsonl, timing.json."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftjobs.jobfile.fields import TrainingFields
from ftjobs.system import device

#: Steps between logged losses: reading a loss makes a GPU synchronize.
LOGGING_STEPS = 10


@dataclass
class TrainOutput:
    """Results of a training run. The model itself holds the weights of the best epoch."""

    device: str
    mixed_precision: str
    processes: int
    steps_per_epoch: int
    """Optimizer steps."""
    steps: list[tuple[int, float, float]]
    """Number (from 1), mean loss and learning rate of every tenth step."""
    epochs: list[dict[str, Any]]
    """Per epoch: `epoch` (from 1), `train_loss` (mean per item), and the metrics of its evaluation."""
    best_epoch: int
    seconds: float
    """Wall time of training steps, without evaluation."""

    def stopping(self, settings: TrainingFields) -> dict[str, int]:
        """Return `epochs_run` for stages with early stopping, nothing for others."""
        return {} if settings.early_stopping is None else {"epochs_run": len(self.epochs)}

    def write(self, folder: Path, metrics: dict[str, Any], examples: int) -> None:
        """Write `metrics.json` (the stage's metrics and every epoch), `metrics.jsonl` (the records that trackers get)
        and `timing.json` to a folder."""
        (folder / "metrics.json").write_text(json.dumps({**metrics, "epochs": self.epochs}, indent=1) + "\n")
        lines = metrics_jsonl(self.steps, self.epochs, self.steps_per_epoch, metrics.get("before"))
        (folder / "metrics.jsonl").write_text(lines)
        (folder / "timing.json").write_text(json.dumps(self.timing(examples), indent=1) + "\n")

    def timing(self, examples: int) -> dict[str, Any]:
        """Return training time, device and peak memory. Not reproducible, hence separate from the metrics."""
        peak, where = device.peak_memory()
        return {
            "train_seconds": self.seconds,
            "examples_per_second": examples * len(self.epochs) / self.seconds if self.seconds else 0.0,
            "peak_memory_bytes": peak,
            "peak_memory_of": where,
            "device": self.device,
            "mixed_precision": self.mixed_precision,
            "processes": self.processes,
        }


def initial_metrics(metrics: dict[str, float]) -> dict[str, Any]:
    """Return the record of step 0: metrics of pretraining on held-out texts before training."""
    return {"epoch": 0} | {f"mlm/{name}": value for name, value in metrics.items()}


def step_metrics(loss: float, learning_rate: float) -> dict[str, Any]:
    """Return the record of an optimizer step."""
    return {"train/loss": loss, "train/learning_rate": learning_rate}


def epoch_metrics(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record of an epoch: metrics of a classifier as `eval/<split>/<metric>`, metrics of pretraining on
    held-out texts as `mlm/<metric>`.

    Args:
        record: one of `TrainOutput.epochs`.
    """
    metrics: dict[str, Any] = {"epoch": record["epoch"], "train/epoch_loss": record["train_loss"]}
    for name, value in record.items():
        if isinstance(value, dict):
            metrics |= {f"eval/{name}/{metric}": figure for metric, figure in value.items()}
        elif name not in ("epoch", "train_loss"):
            metrics[f"mlm/{name}"] = value
    return metrics


def metrics_jsonl(
    steps: list[tuple[int, float, float]],
    epochs: list[dict[str, Any]],
    steps_per_epoch: int,
    before: dict[str, float] | None = None,
) -> str:
    """Return the content of `metrics.jsonl`: one JSON object per line, ordered by `step`, null for values that are not
    finite.

    The lines are derived from training state instead of being appended during training, so that a resumed run has the
    same lines as an uninterrupted one.

    Args:
        steps: number (from 1), loss and learning rate of the logged steps.
        epochs: `TrainOutput.epochs`.
        steps_per_epoch: optimizer steps.
        before: metrics of pretraining before the first step, if measured.
    """
    records: list[tuple[int, dict[str, Any]]] = [(step, step_metrics(loss, rate)) for step, loss, rate in steps]
    if before is not None:
        records.append((0, initial_metrics(before)))
    records += [(record["epoch"] * steps_per_epoch, epoch_metrics(record)) for record in epochs]
    return "".join(_json_lines(sorted(records, key=lambda item: item[0])))  # stable: an epoch after its last step


def _json_lines(records: list[tuple[int, dict[str, Any]]]) -> Iterator[str]:
    for step, metrics in records:
        finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        yield json.dumps({"step": step, **finite}, allow_nan=False) + "\n"
