"""What this process computes on: a device, decided once, before anything of accelerate is used; and processor cores."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from accelerate.state import PartialState

#: Where a container reads what it is limited to.
CGROUP = Path("/sys/fs/cgroup")


def on_cpu() -> bool:
    """Whether this machine has no accelerator that PyTorch can use."""
    return not torch.accelerator.is_available()


def training_device() -> torch.device:
    """The accelerator of this process, or the CPU."""
    device: torch.device = PartialState(cpu=on_cpu()).device
    return device


def usable_cores() -> float:
    """Cores that this process may keep busy: those it may run on, or fewer if its container is limited to fewer."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    try:
        quota, period = (CGROUP / "cpu.max").read_text().split()
        return min(cores, int(quota) / int(period))
    except (OSError, ValueError):  # no container, another version of cgroups, or `max`
        return cores
