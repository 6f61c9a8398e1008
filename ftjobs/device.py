"""The device that this process computes on: decided once, before anything of accelerate is used."""

from __future__ import annotations

import torch
from accelerate.state import PartialState


def on_cpu() -> bool:
    """Whether this machine has no accelerator that PyTorch can use."""
    return not torch.accelerator.is_available()


def training_device() -> torch.device:
    """The accelerator of this process, or the CPU."""
    device: torch.device = PartialState(cpu=on_cpu()).device
    return device
