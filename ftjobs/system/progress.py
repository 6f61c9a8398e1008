"""Progress bars on a terminal, periodic log lines elsewhere; both on stderr."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

LOG = logging.getLogger("ftjobs")
#: Called with the units done since the last call and a short note, such as the current loss.
Advance = Callable[[int, str], None]
_LOG_INTERVAL_SECONDS = 10.0


@contextmanager
def track(title: str, total: int, *, in_bytes: bool = False) -> Iterator[Advance]:
    """Show the progress of a task while the block runs.

    Args:
        title: of the task.
        total: amount of work, in units such as steps.
        in_bytes: units are bytes, displayed as MB.
    """
    if sys.stderr.isatty():
        with _bar(title, total, in_bytes) as advance:
            yield advance
    else:
        yield _lines(title, total, in_bytes)


@contextmanager
def _bar(title: str, total: int, in_bytes: bool) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    amount = (DownloadColumn(), TransferSpeedColumn()) if in_bytes else (MofNCompleteColumn(),)
    columns = (TextColumn("{task.description}"), BarColumn(), *amount, TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total, note="")

        def advance(units: int, note: str) -> None:
            bar.update(task, advance=units, note=note)

        yield advance


def _lines(title: str, total: int, in_bytes: bool) -> Advance:
    done, last = 0, time.monotonic()

    def advance(units: int, note: str) -> None:
        nonlocal done, last
        done += units
        if time.monotonic() - last >= _LOG_INTERVAL_SECONDS:
            last = time.monotonic()
            amount = f"{done / 1e6:.0f} of {total / 1e6:.0f} MB" if in_bytes else f"{done} of {total}"
            LOG.info("%s: %s%s", title, amount, f", {note}" if note else "")

    return advance


def log_to_stderr(console: Console | None = None, *, verbose: bool = False) -> None:
    """Send the log of the package to stderr. On a terminal, lines appear above bars and live displays of `console`."""
    handler: logging.Handler
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.logging import RichHandler

        console = console or Console(stderr=True)
        handler = RichHandler(console=console, show_time=False, show_path=False, show_level=False)
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    LOG.handlers = [handler]
    LOG.setLevel(logging.DEBUG if verbose else logging.INFO)
    LOG.propagate = False
