"""SIGTERM, sent by Kubernetes, spot markets and `docker stop` to end a process.

The first SIGTERM raises `Stopped` wherever the program is, or at the end of a section that must not be interrupted,
such as an optimizer step. The second one ends the process at once.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from ftjobs.errors import ExitCode

_RETRY_SECONDS = 0.01


class Stopped(BaseException):
    """The process has received SIGTERM. Not an Exception, so that no error handler swallows it."""


class _Request:
    """State of the handler."""

    pending = False
    deferred = 0
    """Depth of nested `deferred` blocks."""
    callback: Callable[[], None] | None = None


def install() -> None:
    """Handle SIGTERM from now on. A process without a handler that runs as PID 1 would ignore it."""
    signal.signal(signal.SIGTERM, _handle)
    signal.signal(signal.SIGALRM, _raise_unless_deferred)
    sys.unraisablehook = _retry_unraisable


def on_stop(callback: Callable[[], None]) -> None:
    """Call `callback` on SIGTERM. Replaces an earlier callback."""
    _Request.callback = callback


def requested() -> bool:
    """Return True once SIGTERM has been received."""
    return _Request.pending


def check() -> None:
    """Raise `Stopped` if SIGTERM has been received."""
    if _Request.pending:
        raise Stopped


@contextmanager
def deferred() -> Iterator[None]:
    """Protect a block from SIGTERM; `Stopped` is raised at its end."""
    _Request.deferred += 1
    try:
        yield
    finally:
        _Request.deferred -= 1
    if not _Request.deferred:
        check()


@contextmanager
def errors_as_stopped() -> Iterator[None]:
    """Raise `Stopped` in place of any exception that the block raises after SIGTERM.

    C code may turn `Stopped` into an error of another type: an extension module interrupted during import reports a
    failed initialization, and a file reader an unreadable file.
    """
    try:
        yield
    except Exception as error:
        if _Request.pending:
            raise Stopped from error
        raise


def _handle(number: int, frame: FrameType | None) -> None:
    if _Request.pending:
        os._exit(ExitCode.TERMINATED)
    _Request.pending = True
    if _Request.callback:
        _Request.callback()
    _raise_unless_deferred(number, frame)


def _raise_unless_deferred(number: int, frame: FrameType | None) -> None:
    if not _Request.deferred:
        raise Stopped


def _retry_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """Raise `Stopped` again a moment later if Python has dropped it, as it does in destructors."""
    if isinstance(unraisable.exc_value, Stopped):
        signal.setitimer(signal.ITIMER_REAL, _RETRY_SECONDS)
    else:
        sys.__unraisablehook__(unraisable)
