"""A worker process of a stage that runs on several processes, started by `ftjobs.execution.launcher`."""

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
from ftjobs.errors import ExitCode, FtjobsError, PeerLost
from ftjobs.execution.checkpointing import StorageCheckpointer, Superseded
from ftjobs.execution.launcher import POLL_INTERVAL_SECONDS, WorkerTask
from ftjobs.jobfile.fields import TrainingFields
from ftjobs.storage import open_storage
from ftjobs.system import signals
from ftjobs.system.progress import log_to_stderr
from ftjobs.tracking import discard_metrics, open_tracker


class _WorkerCheckpointer:
    """Resumes from the training state of the task, the same for all workers; only rank 0 saves and reports progress."""

    def __init__(self, task: WorkerTask, checkpointer: StorageCheckpointer | None) -> None:
        """
        Args:
            task: input of the worker.
            checkpointer: on rank 0; None elsewhere.
        """
        self.task, self.checkpointer = task, checkpointer
        self._progress_written_at = 0.0

    def latest(self) -> Path | None:
        return self.task.state

    def should_save(self, step: int, total: int) -> bool:
        if self.checkpointer is None:
            return False
        if time.monotonic() - self._progress_written_at >= POLL_INTERVAL_SECONDS:
            self._progress_written_at = time.monotonic()
            self.task.progress.write_text(json.dumps([step, total]))
        return self.checkpointer.should_save(step, total)

    def save(self, write: Callable[[Path], None], step: int, total: int, *, wait: bool) -> None:
        if self.checkpointer is not None:
            self.checkpointer.save(write, step, total, wait=wait)

    def cached_file(self, name: str) -> Path | None:
        return self.checkpointer.cached_file(name) if self.checkpointer is not None else None

    def cache_file(self, name: str, write: Callable[[Path], None]) -> None:
        if self.checkpointer is not None:
            self.checkpointer.cache_file(name, write)


def run_stage(task: WorkerTask, rank: int) -> None:
    """Run the stage as the worker of a rank. Rank 0 writes output and result; the output of other ranks is dropped."""
    settings = task.run.settings
    assert isinstance(settings, TrainingFields), "only stages that train run on several processes"
    stage = stages.load(task.run.kind)
    from ftjobs.training.callbacks import TrainingContext

    if rank:
        with tempfile.TemporaryDirectory(dir=task.work) as unused:
            checkpointer = _WorkerCheckpointer(task, None)
            stage(settings, task.run.seed, task.inputs, Path(unused), TrainingContext(checkpointer, discard_metrics))
        return
    log_to_stderr()
    storage = open_storage(task.store)
    signals.on_stop(storage.stop_retrying)
    with (
        closing(StorageCheckpointer(storage, task.run, settings.save_every, task.work)) as storage_checkpointer,
        open_tracker(task.run, storage, task.work) as tracker,
    ):
        storage_checkpointer.companion = tracker
        tracker.start(task.state)
        context = TrainingContext(_WorkerCheckpointer(task, storage_checkpointer), tracker.log)
        metrics = stage(settings, task.run.seed, task.inputs, task.output, context)
        tracker.finish(task.output, metrics)
    task.result.write_text(json.dumps({"metrics": metrics}))


def main() -> None:
    """Run the task whose file is the only argument, as the rank that torchrun's variables name."""
    signals.install()
    rank = int(os.environ["RANK"])
    task: WorkerTask = pickle.loads(Path(sys.argv[1]).read_bytes())
    try:
        with signals.errors_as_stopped():
            run_stage(task, rank)
    except Superseded:
        task.result.write_text(json.dumps({"superseded": True}))
        os._exit(ExitCode.FAILED)
    except FtjobsError as error:
        if rank == 0 or not task.result.exists():
            task.result.write_text(json.dumps({"problems": error.problems, "exit_code": error.exit_code}))
        os._exit(error.exit_code)  # not sys.exit: another worker may be waiting for this one's gradients
    except signals.Stopped:
        # With several nodes, another node may have been stopped, and with it all workers.
        os._exit(PeerLost.exit_code if _has_several_nodes() else ExitCode.TERMINATED)
    except RuntimeError as error:
        if not (_has_several_nodes() and _is_lost_connection(error)):
            raise
        os._exit(PeerLost.exit_code)


def _has_several_nodes() -> bool:
    return int(os.environ["GROUP_WORLD_SIZE"]) > 1


def _is_lost_connection(error: RuntimeError) -> bool:
    """Return True if a collective operation failed. Errors of gloo have no type, but name gloo's source file."""
    from torch.distributed import DistError

    return isinstance(error, DistError) or "gloo/transport" in str(error)


if __name__ == "__main__":
    main()
