"""The compute device of this process, chosen once before accelerate is used, and its processor cores."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from accelerate.state import PartialState

#: Resource limits of the container (cgroup v2).
CGROUP = Path("/sys/fs/cgroup")


def on_cpu() -> bool:
    """Return True if PyTorch can use no accelerator on this machine."""
    return not torch.accelerator.is_available()


def training_device() -> torch.device:
    """Return the accelerator of this process, or the CPU."""
    device: torch.device = PartialState(cpu=on_cpu()).device
    return device


def usable_cores() -> float:
    """Return the number of cores available to this process: its CPU affinity, capped by the limit of its container."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    try:
        quota, period = (CGROUP / "cpu.max").read_text().split()
        return min(cores, int(quota) / int(period))
    except (OSError, ValueError):  # no container, cgroup v1, or `max`
        return cores
