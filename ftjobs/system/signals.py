"""SIGTERM: how Kubernetes, a spot market and `docker stop` ask a process to end.

The first one raises `Stopped` where the program is, or at the end of a section that must not be cut, such as an
optimizer step. The second ends the process at once.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODE = 143  # 128 + SIGTERM, as shells say it
_SOON = 0.01


class Stopped(BaseException):
    """The process was asked to end. No Exception, so that no handler of errors keeps it from ending."""


class _Request:
    """Whether the process was asked to end, and whether it may do so right now."""

    pending = False
    deferred = 0
    callback: Callable[[], None] | None = None


def install() -> None:
    """Handle SIGTERM from now on. As PID 1 a process without a handler would ignore it."""
    signal.signal(signal.SIGTERM, _handle)
    signal.signal(signal.SIGALRM, _again)
    sys.unraisablehook = _swallowed


def on_stop(callback: Callable[[], None]) -> None:
    """Have `callback` called, in place of an earlier one, when the process is asked to end."""
    _Request.callback = callback


def requested() -> bool:
    """Whether the process was asked to end."""
    return _Request.pending


def check() -> None:
    """Raise `Stopped` if the process was asked to end."""
    if _Request.pending:
        raise Stopped


@contextmanager
def deferred() -> Iterator[None]:
    """A section that SIGTERM does not cut; `Stopped` is raised at its end."""
    _Request.deferred += 1
    try:
        yield
    finally:
        _Request.deferred -= 1
    if not _Request.deferred:
        check()


@contextmanager
def honoured() -> Iterator[None]:
    """Whatever the block raises once the process was asked to end is raised as `Stopped`.

    It may be `Stopped` in disguise: an extension module interrupted while it is imported says that its initialization
    failed, and a reader of files interrupted by C code that the file cannot be read.
    """
    try:
        yield
    except Exception as error:
        if _Request.pending:
            raise Stopped from error
        raise


def _handle(number: int, frame: FrameType | None) -> None:
    if _Request.pending:
        os._exit(EXIT_CODE)
    _Request.pending = True
    if _Request.callback:
        _Request.callback()
    _again(number, frame)


def _again(number: int, frame: FrameType | None) -> None:
    if not _Request.deferred:
        raise Stopped


def _swallowed(unraisable: sys.UnraisableHookArgs) -> None:
    """Where the program was, nothing can be raised: Python ran a destructor, say. Soon it will be elsewhere."""
    if isinstance(unraisable.exc_value, Stopped):
        signal.setitimer(signal.ITIMER_REAL, _SOON)
    else:
        sys.__unraisablehook__(unraisable)
