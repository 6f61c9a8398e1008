"""The most memory a stage needed: what a user sizes the next machine by."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import Literal

import torch

from ftjobs.system.device import training_device

_PROCESS = Path("/proc/self")


def reset_peak_memory() -> None:
    """Count from here: one process may run several stages in turn."""
    if training_device().type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):  # no Linux, or not allowed: then the peak is that of the process since it started
        (_PROCESS / "clear_refs").write_text("5")  # proc(5): resets VmHWM to what is resident now


def peak() -> tuple[int, Literal["gpu", "process"]]:
    """Peak bytes since `reset_peak_memory`, and where: tensors on this process's GPU (the allocator's reserve is not
    counted), or without a GPU the resident memory of the process, libraries included."""
    if training_device().type == "cuda":
        return int(torch.cuda.max_memory_allocated()), "gpu"
    with suppress(OSError):
        for line in (_PROCESS / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1]), "process"
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most, "process"  # bytes there, KiB elsewhere
