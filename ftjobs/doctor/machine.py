"""Checks of this machine: versions, processors and their arithmetic, memory and disks."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import torch

from ftjobs.doctor import Finding
from ftjobs.system.device import CGROUP, on_cpu, training_device, usable_cores
from ftjobs.training.optimization import autocast, resolve_precision

_NVIDIA = Path("/proc/driver/nvidia/version")
_SHARED_MEMORY = Path("/dev/shm")
#: Space for a model of 110 M parameters, its training state and a copy of the state.
_FREE_BYTES = 5 * 10**9
#: NCCL and the processes of a stage on several GPUs exchange data through shared memory.
_SHARED_BYTES = 10**9
#: Largest relative error of a matrix product: mean absolute error by mean absolute entry. bf16 (8 bits) has 0.003.
_MAX_RELATIVE_ERROR = 0.02
_GIB = 2**30


def check() -> Iterator[Finding]:
    """Check versions, processors, memory and disks."""
    yield _versions()
    yield _cores()
    yield _device()
    yield _arithmetic()
    yield _memory()
    yield _work_folder()
    if torch.accelerator.is_available() and torch.accelerator.device_count() > 1:
        yield _shared_memory()


def _versions() -> Finding:
    libraries = ("ftjobs", "torch", "transformers", "accelerate")
    found = ", ".join(f"{library} {version(library)}" for library in libraries)
    return Finding("versions", f"Python {platform.python_version()}, {found}")


def _cores() -> Finding:
    cores, threads = usable_cores(), torch.get_num_threads()
    found = f"{cores:g} cores, {threads} threads of PyTorch"
    if threads > max(1.0, cores):
        return Finding(
            "cores",
            found,
            "warning",
            f"more threads than cores slow each other down: set OMP_NUM_THREADS={max(1, int(cores))}",
        )
    return Finding("cores", found)


def _device() -> Finding:
    if on_cpu():
        if _NVIDIA.exists():
            built = f"PyTorch {torch.__version__} is built for CUDA {torch.version.cuda}"
            remedy = "install a newer driver" if torch.version.cuda else "install a build of PyTorch with CUDA"
            return Finding("device", f"an NVIDIA driver is loaded, but PyTorch sees no GPU; {built}", "problem", remedy)
        return Finding("device", "CPU; PyTorch sees no GPU")
    device = training_device()
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())] or [str(device)]
    return Finding("device", ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names)))


@torch.no_grad()
def _arithmetic() -> Finding:
    """Multiply matrices in the precision that `mixed_precision: auto` selects, and compare with fp64."""
    device = training_device()
    kind = {"no": "fp32"}.get(found := resolve_precision("auto", device), found)
    generator = torch.Generator().manual_seed(0)
    size = 1024 if device.type == "cpu" else 8192
    left, right = (torch.randn(size, size, generator=generator).to(device) for _ in range(2))
    try:
        with autocast("auto", device):
            product = left @ right
            started = time.perf_counter()
            for _ in range(3):
                left @ right
            float((left @ right)[0, 0])  # waits for the device
        seconds = (time.perf_counter() - started) / 4
    except RuntimeError as error:
        return Finding("arithmetic", f"{kind}: {error}".splitlines()[0], "problem", "try another machine")
    exact = left[:8].double().cpu() @ right.double().cpu()
    relative_error = float((product[:8].double().cpu() - exact).abs().mean() / exact.abs().mean())
    if not relative_error < _MAX_RELATIVE_ERROR:
        return Finding(
            "arithmetic", f"{kind} has a relative error of {relative_error:.0%}", "problem", "try another machine"
        )
    return Finding("arithmetic", f"{kind}, {2 * size**3 / seconds / 1e12:.2g} TFLOP/s")


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = int((CGROUP / "memory.max").read_text())
    except (OSError, ValueError):
        limit = total
    if limit < total:
        return Finding("memory", f"{limit / _GIB:.1f} GiB, the limit of this container")
    found = f"{total / _GIB:.1f} GiB"
    if not on_cpu() and torch.cuda.is_available():
        free, whole = torch.cuda.mem_get_info()
        found += f"; GPU: {free / _GIB:.1f} of {whole / _GIB:.1f} GiB free"
        if free < whole / 2:
            return Finding("memory", found, "warning", "another process uses the GPU: `nvidia-smi` lists processes")
    return Finding("memory", found)


def _work_folder() -> Finding:
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    found = f"{folder}: {free / _GIB:.1f} GiB free"
    if _in_memory(folder):
        return Finding("work folder", f"{found}, in memory", "warning", "set TMPDIR to a folder on a disk")
    if free < _FREE_BYTES:
        return Finding("work folder", found, "warning", "free space, or set TMPDIR to a folder on a larger disk")
    return Finding("work folder", found)


def _in_memory(folder: str) -> bool:
    """Return True if the mount that contains a folder is a tmpfs."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return False
    path = Path(folder).resolve()
    above = [(place, kind) for place, kind in mounts if path.is_relative_to(place)]
    return max(above, key=lambda mount: len(mount[0]), default=("", ""))[1] == "tmpfs"


def _shared_memory() -> Finding:
    try:
        size = shutil.disk_usage(_SHARED_MEMORY).total
    except OSError:
        return Finding("shared memory", f"{_SHARED_MEMORY} does not exist", "warning", "mount a tmpfs there")
    found = f"{_SHARED_MEMORY}: {size / _GIB:.2f} GiB"
    if size < _SHARED_BYTES:
        return Finding("shared memory", found, "warning", "for several GPUs: `docker run --shm-size=8g`")
    return Finding("shared memory", found)
