"""What each of several processes does for one stage: run it, on its share of every step. See `launching`."""

from __future__ import annotations

import json
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from ftjobs import stages
from ftjobs.errors import FtjobsError, PeerLost
from ftjobs.execution.checkpointing import StorageCheckpointer, Superseded
from ftjobs.execution.launcher import SECONDS_BETWEEN_LOOKS, Task
from ftjobs.jobfile.fields import TrainingFields
from ftjobs.storage import open_storage
from ftjobs.system import signals
from ftjobs.system.progress import log_to_stderr
from ftjobs.tracking import nowhere, tracker


class _SharedProgress:
    """How far training is, for the process that started the workers."""

    def __init__(self, path: Path) -> None:
        self.path, self._told = path, 0.0

    def at(self, step: int, total: int) -> None:
        if time.monotonic() - self._told >= SECONDS_BETWEEN_LOOKS:
            self._told = time.monotonic()
            self.path.write_text(json.dumps([step, total]))


class _WorkersKeeper:
    """Goes on from the state that all workers were handed; only the first worker saves."""

    def __init__(self, task: Task, checkpointer: StorageCheckpointer | None) -> None:
        self.task, self.checkpointer = task, checkpointer
        self._progress = _SharedProgress(task.progress)

    def latest(self) -> Path | None:
        return self.task.newest

    def should_save(self, step: int, total: int) -> bool:
        if self.checkpointer is None:
            return False
        self._progress.at(step, total)
        return self.checkpointer.should_save(step, total)

    def save(self, write: Callable[[Path], None], step: int, total: int, *, wait: bool) -> None:
        if self.checkpointer is not None:
            self.checkpointer.save(write, step, total, wait=wait)

    def cached_file(self, name: str) -> Path | None:
        return self.checkpointer.cached_file(name) if self.checkpointer is not None else None

    def cache_file(self, name: str, write: Callable[[Path], None]) -> None:
        if self.checkpointer is not None:
            self.checkpointer.cache_file(name, write)


def work(task: Task, rank: int) -> None:
    """Run the stage as the worker of a rank; the first leaves its output where the task says, others nowhere."""
    settings = task.run.settings
    assert isinstance(settings, TrainingFields), "only stages that train run on several processes"
    stage = stages.load(task.run.kind)
    from ftjobs.training.context import TrainingContext

    if rank:
        with tempfile.TemporaryDirectory(dir=task.work) as unused:
            checkpointer = _WorkersKeeper(task, None)
            stage(settings, task.run.seed, task.inputs, Path(unused), TrainingContext(checkpointer, nowhere))
        return
    log_to_stderr()
    storage = open_storage(task.store)
    signals.on_stop(storage.hurry)
    with (
        closing(StorageCheckpointer(storage, task.run, settings.save_every, task.work)) as saving,
        tracker(task.run, storage, task.work) as tracked,
    ):
        saving.companion = tracked
        tracked.begin(task.newest)
        session = TrainingContext(_WorkersKeeper(task, saving), tracked.log)
        metrics = stage(settings, task.run.seed, task.inputs, task.output, session)
        tracked.conclude(task.output, metrics)
    task.result.write_text(json.dumps({"metrics": metrics}))


def main() -> None:
    """Entry point of a worker, started by the launcher."""
    signals.install()
    rank = int(os.environ["RANK"])
    task: Task = pickle.loads(Path(sys.argv[1]).read_bytes())
    try:
        with signals.honoured():
            work(task, rank)
    except Superseded:
        task.result.write_text(json.dumps({"superseded": True}))
        os._exit(1)
    except FtjobsError as error:
        if rank == 0 or not task.result.exists():
            task.result.write_text(json.dumps({"problems": error.problems, "exit_code": error.exit_code}))
        os._exit(error.exit_code)  # not sys.exit: another worker may wait for this one's gradients
    except signals.Stopped:
        # Asked to end, perhaps, was another machine, and with it all workers.
        os._exit(PeerLost.exit_code if _several_machines() else signals.EXIT_CODE)
    except RuntimeError as error:
        if not (_several_machines() and _is_of_lost_connection(error)):
            raise
        os._exit(PeerLost.exit_code)


def _several_machines() -> bool:
    return int(os.environ["GROUP_WORLD_SIZE"]) > 1


def _is_of_lost_connection(error: RuntimeError) -> bool:
    """Whether another process is gone. What gloo raises has no type of its own, but names gloo's source file."""
    from torch.distributed import DistError

    return isinstance(error, DistError) or "gloo/transport" in str(error)


if __name__ == "__main__":
    main()
