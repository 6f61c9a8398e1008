"""Weights & Biases through accelerate's tracker, or nothing: a job without `tracking` does not even import it.

One run per stage and seed, grouped by pipeline, with an id made of the identity, so that a restarted stage goes on in
its run. Without a key, runs are kept in `./wandb` for `wandb sync`. Whatever the tracker does, training goes on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ftjobs.jobfile.fields import WandbTracking
from ftjobs.plan import StageRun
from ftjobs.progress import LOG

#: Takes metrics by name, and the optimizer step they belong to.
Log = Callable[[dict[str, Any], int], None]


@contextmanager
def tracker(run: StageRun) -> Iterator[Log]:
    """While the block runs, what is logged goes to the job's trackers. Stages without a seed are not tracked."""
    if run.tracking.wandb is None or not run.has_seed:
        yield nowhere
        return
    wandb_run = _start(run.tracking.wandb, run)
    working = wandb_run is not None

    def log(metrics: dict[str, Any], step: int) -> None:
        nonlocal working
        if working:
            working = _survives(lambda: wandb_run.log(metrics, step=step))

    try:
        yield log
    finally:
        if working:
            _survives(lambda: wandb_run.finish())


def nowhere(metrics: dict[str, Any], step: int) -> None:
    """Log to no tracker."""


def _start(settings: WandbTracking, run: StageRun) -> Any:
    """A started tracker, or None if it does not start."""
    from accelerate.tracking import WandBTracker

    from ftjobs.device import training_device

    training_device()  # accelerate's trackers ask which process they are in
    found: list[Any] = []

    def start() -> None:
        import wandb

        offline = "WANDB_MODE" not in os.environ and not wandb.login(prompt=False, verify=False)
        wandb_run = WandBTracker(
            settings.project,
            entity=settings.entity,
            group=run.pipeline,
            job_type=run.kind,
            name=f"{run.stage}-seed-{run.seed}",
            id=run.identity[:16],
            resume="allow",
            config=run.settings.model_dump(mode="json") | {"seed": run.seed, "identity": run.identity},
            mode="offline" if offline else None,
            settings=wandb.Settings(silent=True, console="off"),
        )
        wandb_run.start()
        found.append(wandb_run)
        if offline:
            LOG.info("tracking: no key for Weights & Biases, logging to ./wandb; `wandb sync` uploads it later")

    return found[0] if _survives(start) else None


def _survives(call: Callable[[], Any]) -> bool:
    """Call the tracker; a failure is said once and is no failure of ours."""
    try:
        call()
    except Exception as error:
        LOG.warning("tracking: Weights & Biases failed, going on without it: %s: %s", type(error).__name__, error)
        return False
    return True
