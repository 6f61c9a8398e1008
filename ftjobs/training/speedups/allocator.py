"""Keep freed memory in the process: fewer page faults in each training step on a CPU."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

from ftjobs.system.device import on_cpu

#: Options of glibc's mallopt (malloc.h), what they are set to, and their defaults: the free memory at the heap's top
#: from which it is given back, how much more than needed the heap grows by, and how many blocks may be mapped alone.
_KEEP = ((-1, 2**31 - 1, 2**17), (-2, 2**26, 2**17), (-4, 0, 2**16))


@contextmanager
def retain_freed_memory() -> Iterator[None]:
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
