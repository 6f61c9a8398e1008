"""Run several stages at once on this machine, each in its own process (`ftjobs run --parallel N`).

A training step of a small encoder consists of many small operations, so a second core, or most of a GPU, makes it
little faster; a second stage uses them better. A process runs one stage after another, so PyTorch is imported once per
process.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait

from ftjobs import artifacts, stages
from ftjobs.artifacts import Manifest
from ftjobs.errors import ExitCode, FtjobsError
from ftjobs.execution import runner
from ftjobs.plan import StageRun
from ftjobs.storage import Storage, open_storage
from ftjobs.system import signals
from ftjobs.system.progress import LOG, log_to_stderr

_STOP_TIMEOUT_SECONDS = 60.0
_LOG_TIMEOUT_SECONDS = 1.0
#: The line that ends a process's log about one stage.
_END_OF_LOG = "\0"


def run_all(runs: list[StageRun], storage: Storage, parallel: int) -> list[Manifest]:
    """Run the stages, up to `parallel` at once, each after its inputs; returns the manifest of each.

    Raises:
        UserError, FtjobsError: a stage failed. Stages that were running are stopped with their training state saved.
    """
    manifests = {run.key: manifest for run in runs if (manifest := artifacts.find_manifest(storage, run))}
    for run in runs:
        if run.key in manifests:
            LOG.info("%s: already published, %s", run.title, run.identity[:12])
    pending = [run for run in _in_order_of_priority(runs) if run.key not in manifests]
    kinds = sorted({run.kind for run in pending})
    with _start_processes(len(pending), parallel, storage.uri(""), kinds) as processes:
        while len(manifests) < len(runs):
            idle = [process for process in processes if process.run is None]
            ready = [run for run in pending if all(read.key in manifests for read in run.inputs.values())]
            for process, run in zip(idle, ready, strict=False):
                LOG.info("[%d/%d] %s: running", len(runs) - len(pending) + 1, len(runs), run.title)
                pending.remove(run)
                process.start_stage(run)
            busy = [process for process in processes if process.run is not None]
            finished = wait([process.tasks for process in busy])
            for run, manifest in (process.result() for process in busy if process.tasks in finished):
                manifests[run.key] = manifest
    return [manifests[run.key] for run in runs]


def _in_order_of_priority(runs: list[StageRun]) -> list[StageRun]:
    """Sort stages by the number of stages that depend on them, most first. Among equals, stages with a frozen encoder
    come last: they are short and fill the gaps at the end."""
    return sorted(runs, key=lambda run: (-len(_dependents(run, runs)), getattr(run.settings, "freeze_encoder", False)))


def _dependents(run: StageRun, runs: list[StageRun]) -> set[str]:
    """Return the keys of the stages that read the output of a stage, directly or through other stages."""
    readers = [reader for reader in runs if run.key in {read.key for read in reader.inputs.values()}]
    return {reader.key for reader in readers}.union(*(_dependents(reader, runs) for reader in readers))


class _StageProcess:
    """A process that runs one stage after another."""

    def __init__(self, index: int, count: int, store: str, kinds: list[str]) -> None:
        context = multiprocessing.get_context("spawn")  # a forked process would lack the threads of this one
        self.tasks, tasks = context.Pipe()
        log, stderr = context.Pipe(duplex=False)
        self.run: StageRun | None = None
        self.process = context.Process(target=_run_process, args=(index, count, store, kinds, tasks, stderr))
        self.process.start()
        tasks.close()
        stderr.close()
        self._log_ended = threading.Semaphore(0)
        self._log_thread = threading.Thread(target=self._forward_log, args=(log,), daemon=True)
        self._log_thread.start()

    def start_stage(self, run: StageRun) -> None:
        """Send a stage to the process."""
        self.run = run
        with suppress(BrokenPipeError):  # `result` reports how the process ended
            self.tasks.send(run)

    def result(self) -> tuple[StageRun, Manifest]:
        """Wait for the stage, and for its log to be forwarded; returns the stage with its manifest.

        Raises:
            UserError, FtjobsError, OSError: the stage failed, or the process has ended.
        """
        assert self.run is not None
        run, self.run = self.run, None
        try:
            outcome: Manifest | Exception = self.tasks.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            code = self.process.exitcode or 0
            reason = (
                f"was killed by signal {-code}; if memory was short, lower --parallel or the batch size"
                if code < 0
                else f"ended with exit code {code}"
            )
            raise FtjobsError(f"{run.title}: its process {reason}") from None
        self._log_ended.acquire(timeout=_LOG_TIMEOUT_SECONDS)
        if isinstance(outcome, Exception):
            raise outcome
        return run, outcome

    def join(self) -> None:
        """Wait until the process has ended and its log is forwarded; kill a process that does not end."""
        self.process.join(_STOP_TIMEOUT_SECONDS)
        if self.process.is_alive():
            self.process.kill()
        self._log_thread.join(_LOG_TIMEOUT_SECONDS)  # a child of the process may keep the pipe open

    def _forward_log(self, log: Connection) -> None:
        with open(log.fileno(), errors="replace", closefd=False) as lines:
            for line in map(str.rstrip, lines):
                if line == _END_OF_LOG:
                    self._log_ended.release()
                else:
                    LOG.info("%s", line)


@contextmanager
def _start_processes(pending: int, parallel: int, store: str, kinds: list[str]) -> Iterator[list[_StageProcess]]:
    """Start one process per pending stage, at most `parallel`; stop them as by SIGTERM if the block fails.

    Each gets its share of the cores for `parallel` processes, however many are started: the number of threads can
    change the last bits of a result, and a resumed pipeline must end in the same bytes.
    """
    processes: list[_StageProcess] = []
    try:
        for index in range(min(pending, parallel)):
            processes.append(_StageProcess(index, parallel, store, kinds))
        yield processes
        for process in processes:
            process.tasks.close()
    except BaseException:
        for process in processes:
            process.process.terminate()
        raise
    finally:
        for process in processes:
            process.join()


def _run_process(index: int, count: int, store: str, kinds: list[str], tasks: Connection, stderr: Connection) -> None:
    """Run a process of the pool: import the code of the kinds, then run stages until the connection is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the main process stops this one
    os.dup2(stderr.fileno(), 2)
    signals.install()
    log_to_stderr()
    storage = open_storage(store)
    try:
        with suppress(EOFError), signals.errors_as_stopped():
            _claim_share(index, count)
            for kind in kinds:
                stages.load(kind)
            while True:
                outcome = _run_stage(tasks.recv(), storage)
                print(_END_OF_LOG, file=sys.stderr, flush=True)
                tasks.send(outcome)
    except BrokenPipeError:  # the main process has disappeared
        pass
    except signals.Stopped:
        os._exit(ExitCode.TERMINATED)


def _run_stage(run: StageRun, storage: Storage) -> Manifest | Exception:
    for handler in LOG.handlers:
        handler.setFormatter(_TitleFormatter(run.title))
    try:
        return runner.run_stage(run, storage)
    except (FtjobsError, OSError) as error:
        return error


class _TitleFormatter(logging.Formatter):
    """Begin every line with the title of its stage: lines of several stages are interleaved."""

    def __init__(self, title: str) -> None:
        super().__init__("%(message)s")
        self._title = title

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        return line if line.startswith(self._title) else f"{self._title}: {line}"


def _claim_share(index: int, count: int) -> None:
    """Use an equal share of the cores, unless OMP_NUM_THREADS is set, and one of several GPUs, in rotation."""
    import torch

    from ftjobs.system.device import usable_cores

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, int(usable_cores()) // count))
    gpu_count = torch.cuda.device_count()  # does not initialize CUDA, so the variable below still takes effect
    if gpu_count > 1:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",") if visible else [str(gpu) for gpu in range(gpu_count)]
        os.environ["CUDA_VISIBLE_DEVICES"] = names[index % gpu_count]
