"""Metrics under the names and axes that trackers and `metrics.jsonl` share: a record per logged step, and per epoch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

#: Reading a loss makes a GPU wait, so only every tenth is.
STEPS_BETWEEN = 10


def start_record(metrics: dict[str, float]) -> dict[str, Any]:
    """What is logged before the first step: masked-LM metrics on held-out texts."""
    return {"epoch": 0} | {f"mlm/{name}": value for name, value in metrics.items()}


def step_record(loss: float, rate: float) -> dict[str, Any]:
    """What is logged of an optimizer step: its mean training loss and its learning rate."""
    return {"train/loss": loss, "train/learning_rate": rate}


def epoch_record(record: dict[str, Any]) -> dict[str, Any]:
    """What is logged of an epoch: a classifier's metrics on a split under `eval/<split>/`, those of masked language
    modelling on held-out texts under `mlm/`.

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


def jsonl(
    steps: list[tuple[int, float, float]],
    epochs: list[dict[str, Any]],
    steps_per_epoch: int,
    before: dict[str, float] | None = None,
) -> str:
    """The content of `metrics.jsonl`: a JSON object a line, in the order of `step`, null for what is not finite.

    It is made of what training state holds, never appended to, so that a run that was killed and resumed has the lines
    of one that was not.

    Args:
        steps: number (from 1), loss and learning rate of the steps that were logged.
        epochs: `TrainOutput.epochs`.
        steps_per_epoch: optimizer steps.
        before: masked-LM metrics before the first step, if they were measured.
    """
    found: list[tuple[int, dict[str, Any]]] = [(step, step_record(loss, rate)) for step, loss, rate in steps]
    if before is not None:
        found.append((0, start_record(before)))
    found += [(record["epoch"] * steps_per_epoch, epoch_record(record)) for record in epochs]
    return "".join(_lines(sorted(found, key=lambda line: line[0])))  # stable: an epoch after its last step


def _lines(found: list[tuple[int, dict[str, Any]]]) -> Iterator[str]:
    for step, metrics in found:
        finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        yield json.dumps({"step": step, **finite}, allow_nan=False) + "\n"
