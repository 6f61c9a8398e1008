"""The compute device of this process, chosen once before accelerate is used, its processor cores and peak memory."""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import Literal

import torch
from accelerate.state import PartialState

#: Resource limits of the container (cgroup v2).
CGROUP = Path("/sys/fs/cgroup")
_PROCESS = Path("/proc/self")


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


def reset_peak_memory() -> None:
    """Restart the measurement of peak memory: one process may run several stages in turn."""
    if training_device().type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):  # not Linux, or no permission: the peak is that of the whole process
        (_PROCESS / "clear_refs").write_text("5")  # proc(5): resets VmHWM to the current resident memory


def peak_memory() -> tuple[int, Literal["gpu", "process"]]:
    """Return the peak memory in bytes since `reset_peak_memory`, and its kind.

    `gpu`: memory of tensors on this process's GPU, without the allocator's reserve. `process`: resident memory of the
    process including libraries, on machines without a GPU.
    """
    if training_device().type == "cuda":
        return int(torch.cuda.max_memory_allocated()), "gpu"
    with suppress(OSError):
        for line in (_PROCESS / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1]), "process"
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return resident if sys.platform == "darwin" else 1024 * resident, "process"  # macOS reports bytes, Linux KiB
