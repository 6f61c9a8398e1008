"""Weights & Biases through accelerate's tracker interface, or nothing: without `tracking` wandb is not even imported.

One run per stage and seed, grouped by pipeline, with an id made of the identity, so that a restarted stage goes on in
its run. wandb lives in a process of its own that is told things and never waited for. All rows are kept here too, with
the training state, so whatever becomes of that process, of the network or of this machine, a run ends up with every
row, and with none twice: on the server, or in run folders that are published with the artifact, for `wandb sync`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ftjobs.errors import ExitCode
from ftjobs.plan import StageRun
from ftjobs.storage import Storage
from ftjobs.system.signals import Stopped
from ftjobs.tracking.journal import Log, nowhere

__all__ = ["Log", "Tracker", "nowhere", "tracker"]

_SECONDS_TO_STOP = 2.0


class Tracker:
    """A stage without a tracker."""

    def log(self, metrics: dict[str, Any], step: int) -> None:
        """Log to no tracker."""

    def begin(self, state: Path | None) -> None:
        """Nothing begins."""

    def keep(self, folder: Path) -> None:
        """Nothing is kept."""

    def conclude(self, output: Path, metrics: dict[str, Any]) -> None:
        """Nothing is left to say."""


@contextmanager
def tracker(run: StageRun, storage: Storage, work: Path) -> Iterator[Tracker]:
    """While the block runs, what is logged goes to the job's trackers.

    Args:
        run: the stage.
        storage: where its artifact will be: trackers are told the address.
        work: local folder for what trackers write, unless `WANDB_DIR` names another.
    """
    if run.tracking.wandb is None or os.environ.get("WANDB_MODE") == "disabled":
        yield Tracker()
        return
    from ftjobs.tracking.tracked import Tracked

    tracked = Tracked(run, run.tracking.wandb, storage, work)
    try:
        yield tracked
    except Exception:
        tracked.leave(1)
        raise
    except BaseException as stop:
        tracked.leave(ExitCode.TERMINATED if isinstance(stop, Stopped) else 1, _SECONDS_TO_STOP)
        raise
    tracked.leave(0, _SECONDS_TO_STOP)  # where there was nothing to conclude: another attempt was faster
