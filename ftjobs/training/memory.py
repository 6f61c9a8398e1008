"""The most memory a stage needed: what a user sizes the next machine by."""

from __future__ import annotations

import ctypes
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import torch

from ftjobs.device import on_cpu, training_device

_PROCESS = Path("/proc/self")

#: Options of glibc's mallopt (malloc.h), what they are set to, and their defaults: the free memory at the heap's top
#: from which it is given back, how much more than needed the heap grows by, and how many blocks may be mapped alone.
_KEEP = ((-1, 2**31 - 1, 2**17), (-2, 2**26, 2**17), (-4, 0, 2**16))


@contextmanager
def freed_is_kept() -> Iterator[None]:
    """Within the block, glibc's allocator keeps what is freed, up to 2 GB, for what is allocated next.

    Left alone it maps big tensors anew and gives them back at once, so in each training step on a CPU the kernel pages
    gradients in and zeroes them: a tenth of the step. On a GPU, and elsewhere than on glibc, nothing happens.
    """
    try:
        glibc = ctypes.CDLL("libc.so.6") if on_cpu() else None
    except OSError:
        glibc = None
    if glibc is None:
        yield
        return
    for option, value, _ in _KEEP:
        glibc.mallopt(option, value)
    try:
        yield
    finally:
        for option, _, default in _KEEP:
            glibc.mallopt(option, default)
        glibc.malloc_trim(0)


def start_over() -> None:
    """Count from here: one process may run several stages in turn."""
    if training_device().type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):  # no Linux, or not allowed: then the peak is that of the process since it started
        (_PROCESS / "clear_refs").write_text("5")  # proc(5): resets VmHWM to what is resident now


def peak() -> tuple[int, Literal["gpu", "process"]]:
    """Most bytes in use at once since `start_over`, and where: tensors on this process's GPU (what the allocator keeps
    in reserve is not counted), or without a GPU all that was resident of the process, libraries included."""
    if training_device().type == "cuda":
        return int(torch.cuda.max_memory_allocated()), "gpu"
    with suppress(OSError):
        for line in (_PROCESS / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1]), "process"
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most, "process"  # bytes there, KiB elsewhere
