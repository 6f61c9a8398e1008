"""The tracker interface of stages, and the row log that trackers share."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ftjobs.errors import ExitCode, UserError
from ftjobs.jobfile.fields import Tracking
from ftjobs.plan import StageRun
from ftjobs.storage import Storage
from ftjobs.system.signals import Stopped

#: Receives metrics by name and the optimizer step that they belong to.
LogMetrics = Callable[[dict[str, Any], int], None]
#: An optimizer step and all its metrics.
Row = tuple[int, dict[str, Any]]

INSTALL_REMEDY = "run `pip install 'ftjobs[wandb]'`"
_STOP_SECONDS = 2.0


def discard_metrics(metrics: dict[str, Any], step: int) -> None:
    """A LogMetrics that does nothing."""


class Tracker:
    """The tracker of a stage. This base class tracks nothing."""

    def log(self, metrics: dict[str, Any], step: int) -> None:
        """Log metrics of an optimizer step."""

    def start(self, state: Path | None) -> None:
        """Open the run, continuing from the training state of an earlier attempt if there is one."""

    def save_state(self, folder: Path) -> None:
        """Write the rows so far to a training state."""

    def finish(self, output: Path, metrics: dict[str, Any]) -> None:
        """Log the results and end the run.

        Args:
            output: output folder of the stage, before it is published.
            metrics: metrics of the manifest.
        """


def is_enabled(tracking: Tracking) -> bool:
    """Return True if the job file configures a tracker and the environment does not disable it."""
    return tracking.wandb is not None and os.environ.get("WANDB_MODE") != "disabled"


def check_installed(tracking: Tracking) -> None:
    """Check that the package of the configured tracker is installed, without importing it.

    Raises:
        UserError: wandb is missing.
    """
    if is_enabled(tracking) and not is_wandb_installed():
        raise UserError(f"tracking.wandb: the package wandb is not installed; {INSTALL_REMEDY}, or remove the field")


def is_wandb_installed() -> bool:
    """Return True if wandb can be imported. A folder `wandb` of run folders in the working directory does not count."""
    spec = importlib.util.find_spec("wandb")
    return spec is not None and spec.origin is not None


@contextmanager
def open_tracker(run: StageRun, storage: Storage, work: Path) -> Iterator[Tracker]:
    """Yield the tracker of a stage, and close it when the block ends.

    Args:
        run: the stage.
        storage: store of the artifact; trackers record the address.
        work: local folder for files of the tracker, unless `WANDB_DIR` is set.

    Raises:
        UserError: the package of the tracker is not installed.
    """
    if run.tracking.wandb is None or not is_enabled(run.tracking):
        yield Tracker()
        return
    check_installed(run.tracking)
    from ftjobs.tracking.wandb_tracker import WandbTracker

    tracker = WandbTracker(run, run.tracking.wandb, storage, work)
    try:
        yield tracker
    except Exception:
        tracker.close(1)
        raise
    except BaseException as error:
        tracker.close(ExitCode.TERMINATED if isinstance(error, Stopped) else 1, _STOP_SECONDS)
        raise
    tracker.close(0, _STOP_SECONDS)  # does nothing after `finish`; another attempt may have published first


class RowLog:
    """All rows of a run, sorted by step, each step once, whichever attempt logged it.

    The last row is open: further metrics of the same step are added to it. A row is passed to the tracker once the next
    row begins, because trackers do not accept additions to a row.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def add(self, metrics: dict[str, Any], step: int) -> Row | None:
        """Add metrics; return the row that is now complete, if any. Steps before the last row are ignored: an earlier
        attempt logged them."""
        if not self.rows or step > self.rows[-1][0]:
            self.rows.append((step, metrics))
            return self.rows[-2] if len(self.rows) > 1 else None
        if step == self.rows[-1][0]:
            self.rows[-1] = (step, {**self.rows[-1][1], **metrics})  # a copy: another thread may serialize the old one
        return None

    def dump(self) -> str:
        """Return all rows as JSON."""
        return json.dumps(list(self.rows))

    def load(self, text: str) -> None:
        """Start with the rows in `text`, and add the current ones after them."""
        later, self.rows = self.rows, [(int(step), dict(metrics)) for step, metrics in json.loads(text)]
        for step, metrics in later:
            self.add(metrics, step)
