"""Training state: all that a killed training run needs to go on as if nothing had happened.

Weights and optimizer moments, learning-rate schedule, position in the data order, and the best epoch so far. Random
numbers need no state: order, masks and dropout are functions of seed, epoch and step. Tensors are stored as
safetensors, everything else as JSON: reading a state runs no code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

_TENSORS, _VALUES = "state.safetensors", "state.json"


class Checkpointer(Protocol):
    """Where a stage leaves its training state; the runner puts storage behind it."""

    def latest(self) -> Path | None:
        """A folder with the newest whole state of this stage, None if there is none."""

    def should_save(self, step: int, total: int) -> bool:
        """Whether it is time to save; called after every optimizer step."""

    def save(self, write: Callable[[Path], None], step: int, total: int, *, wait: bool) -> None:
        """Have `write` fill a folder and keep it. Returns at once unless `wait`; the next save waits for this one."""

    def cached_file(self, name: str) -> Path | None:
        """What an earlier attempt has kept under that name, as a local file; None if there is nothing."""

    def cache_file(self, name: str, write: Callable[[Path], None]) -> None:
        """Have `write` fill a file and keep it, once for all states of this stage. Returns at once."""


@dataclass
class TrainerState:
    """How far training is, and what it has seen."""

    epoch: int = 1
    steps_in_epoch: int = 0
    step: int = 0
    losses: float = 0.0
    """Sum over the items of this epoch."""
    items: float = 0
    seconds: float = 0.0
    best_epoch: int = 0
    best_score: float = float("-inf")
    steps: list[tuple[int, float, float]] = field(default_factory=list)
    """As in `TrainOutput.steps`."""
    epochs: list[dict[str, Any]] = field(default_factory=list)

    def has_waited(self, patience: int | None) -> bool:
        """Whether that many epochs have passed since the best one."""
        return patience is not None and len(self.epochs) - self.best_epoch >= patience

    def end_epoch(self, record: dict[str, Any], score: float) -> bool:
        """Go to the next epoch; returns whether the one that ended is the best so far."""
        is_best = score > self.best_score
        if is_best:
            self.best_score, self.best_epoch = score, self.epoch
        self.epochs.append(record)
        self.epoch, self.steps_in_epoch, self.items, self.losses = self.epoch + 1, 0, 0, 0.0
        return is_best


@dataclass
class TrainingState:
    """A copy of everything that training changes, apart from the objects it was taken from."""

    tensors: dict[str, torch.Tensor]
    values: dict[str, Any]

    def write(self, folder: Path) -> None:
        """Write the state to an existing folder."""
        save_file(self.tensors, folder / _TENSORS)
        (folder / _VALUES).write_text(json.dumps(self.values))

    @classmethod
    def read(cls, folder: Path) -> TrainingState:
        """Read what `write` wrote."""
        return cls(load_file(folder / _TENSORS), json.loads((folder / _VALUES).read_text()))

    def part(self, name: str) -> dict[str, torch.Tensor]:
        """The tensors under `name/`, without it."""
        prefix = f"{name}/"
        return {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}


def capture(
    trained: Mapping[str, nn.Parameter],
    optimizer: Any,
    rates: LRScheduler,
    scaler: Any,
    position: TrainerState,
    best: dict[str, torch.Tensor],
) -> TrainingState:
    """Copy the state of training to host memory, so that training may go on while the copy is stored."""
    tensors = {f"model/{name}": parameter.detach() for name, parameter in trained.items()}
    tensors |= {f"best/{name}": value for name, value in best.items()}
    optimizer_state = optimizer.state_dict()
    for index, moments in optimizer_state["state"].items():
        tensors |= {f"optimizer/{index}/{name}": value for name, value in moments.items()}
    schedule = rates.state_dict()
    values = {
        "position": asdict(position),
        "learning_rates": [group["lr"] for group in optimizer_state["param_groups"]],
        "schedule": {name: schedule[name] for name in ("last_epoch", "_step_count", "_last_lr")},
        "scaler": scaler.state_dict() if scaler is not None else None,
    }
    return TrainingState({name: value.to("cpu", copy=True).contiguous() for name, value in tensors.items()}, values)


@torch.no_grad()
def restore(
    state: TrainingState, trained: Mapping[str, nn.Parameter], optimizer: Any, rates: LRScheduler, scaler: Any
) -> tuple[TrainerState, dict[str, torch.Tensor]]:
    """Put a state back into the objects it was captured from, built anew. Returns the position and the best weights."""
    for name, value in state.part("model").items():
        trained[name].copy_(value)
    device = next(iter(trained.values())).device
    fresh = optimizer.state_dict()
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in state.part("optimizer").items():
        index, _, moment = name.partition("/")
        moments.setdefault(int(index), {})[moment] = value
    for group, rate in zip(fresh["param_groups"], state.values["learning_rates"], strict=True):
        group["lr"] = rate
    optimizer.load_state_dict({"state": moments, "param_groups": fresh["param_groups"]})
    rates.load_state_dict({**rates.state_dict(), **state.values["schedule"]})
    if scaler is not None and state.values["scaler"] is not None:
        scaler.load_state_dict(state.values["scaler"])
    best = {name: value.to(device) for name, value in state.part("best").items()}
    return TrainerState(**state.values["position"]), best
