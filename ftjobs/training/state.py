"""Training state: everything a killed training run needs to resume with identical results.

It consists of weights, optimizer moments, learning-rate schedule, position in the data order, and the best epoch so
far. Random generators are not part of it: data order, masks and dropout are functions of seed, epoch and step. Tensors
are stored as safetensors, everything else as JSON, so reading a training state runs no code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

_TENSORS, _VALUES = "state.safetensors", "state.json"


@dataclass
class TrainerState:
    """Position of a training run, and the metrics it has recorded."""

    epoch: int = 1
    """Current epoch, from 1."""
    steps_in_epoch: int = 0
    """Optimizer steps taken in the current epoch."""
    step: int = 0
    """Optimizer steps taken."""
    losses: float = 0.0
    """Loss of the current epoch, summed over its items."""
    items: float = 0
    """Loss denominator of the current epoch."""
    seconds: float = 0.0
    """Wall time of training steps."""
    best_epoch: int = 0
    best_score: float = float("-inf")
    steps: list[tuple[int, float, float]] = field(default_factory=list)
    """As in `TrainOutput.steps`."""
    epochs: list[dict[str, Any]] = field(default_factory=list)
    """As in `TrainOutput.epochs`."""

    def should_stop_early(self, patience: int | None) -> bool:
        """Return whether `patience` epochs have passed since the best one."""
        return patience is not None and len(self.epochs) - self.best_epoch >= patience

    def end_epoch(self, record: dict[str, Any], score: float) -> bool:
        """Record the current epoch and move to the next. Returns whether the recorded epoch is the best so far."""
        is_best = score > self.best_score
        if is_best:
            self.best_score, self.best_epoch = score, self.epoch
        self.epochs.append(record)
        self.epoch, self.steps_in_epoch, self.items, self.losses = self.epoch + 1, 0, 0, 0.0
        return is_best


@dataclass
class Snapshot:
    """A copy of all state that training changes, independent of the objects it was captured from."""

    tensors: dict[str, torch.Tensor]
    values: dict[str, Any]

    def write(self, folder: Path) -> None:
        """Write the snapshot to an existing folder."""
        save_file(self.tensors, folder / _TENSORS)
        (folder / _VALUES).write_text(json.dumps(self.values))

    @classmethod
    def read(cls, folder: Path) -> Snapshot:
        """Read a snapshot from a folder that `write` filled."""
        return cls(load_file(folder / _TENSORS), json.loads((folder / _VALUES).read_text()))

    def part(self, name: str) -> dict[str, torch.Tensor]:
        """Return the tensors under the prefix `name/`, by their names without it."""
        prefix = f"{name}/"
        return {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}


def capture(
    trained: Mapping[str, nn.Parameter],
    optimizer: Any,
    lr_scheduler: LRScheduler,
    scaler: Any,
    state: TrainerState,
    best: dict[str, torch.Tensor],
) -> Snapshot:
    """Copy the state of training to host memory, so that training can continue while the copy is stored.

    Args:
        trained: parameters that are trained in any epoch, by name.
        optimizer: over these parameters.
        lr_scheduler: of the optimizer.
        scaler: gradient scaler of fp16 training, else None.
        state: position and recorded metrics.
        best: weights of the best epoch so far, by name.
    """
    tensors = {f"model/{name}": parameter.detach() for name, parameter in trained.items()}
    tensors |= {f"best/{name}": value for name, value in best.items()}
    optimizer_state = optimizer.state_dict()
    for index, moments in optimizer_state["state"].items():
        tensors |= {f"optimizer/{index}/{name}": value for name, value in moments.items()}
    schedule = lr_scheduler.state_dict()
    values = {
        "position": asdict(state),
        "learning_rates": [group["lr"] for group in optimizer_state["param_groups"]],
        "schedule": {name: schedule[name] for name in ("last_epoch", "_step_count", "_last_lr")},
        "scaler": scaler.state_dict() if scaler is not None else None,
    }
    return Snapshot({name: value.to("cpu", copy=True).contiguous() for name, value in tensors.items()}, values)


@torch.no_grad()
def restore(
    snapshot: Snapshot, trained: Mapping[str, nn.Parameter], optimizer: Any, lr_scheduler: LRScheduler, scaler: Any
) -> tuple[TrainerState, dict[str, torch.Tensor]]:
    """Load a snapshot into newly built objects like those it was captured from.

    Returns:
        The position and recorded metrics, and the weights of the best epoch by name.
    """
    for name, value in snapshot.part("model").items():
        trained[name].copy_(value)
    device = next(iter(trained.values())).device
    optimizer_state = optimizer.state_dict()
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in snapshot.part("optimizer").items():
        index, _, moment = name.partition("/")
        moments.setdefault(int(index), {})[moment] = value
    for group, learning_rate in zip(optimizer_state["param_groups"], snapshot.values["learning_rates"], strict=True):
        group["lr"] = learning_rate
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer_state["param_groups"]})
    lr_scheduler.load_state_dict({**lr_scheduler.state_dict(), **snapshot.values["schedule"]})
    if scaler is not None and snapshot.values["scaler"] is not None:
        scaler.load_state_dict(snapshot.values["scaler"])
    best = {name: value.to(device) for name, value in snapshot.part("best").items()}
    return TrainerState(**snapshot.values["position"]), best
