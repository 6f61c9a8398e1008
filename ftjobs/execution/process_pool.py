"""Several stages at once on this machine, each in a process of its own.

A step of a small encoder is made of many small operations, which a second core, or a whole GPU, makes little faster. A
second stage beside it does more. A process lives as long as the pipeline, so PyTorch is imported once in each.
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
from ftjobs.errors import FtjobsError
from ftjobs.execution import runner
from ftjobs.plan import StageRun
from ftjobs.storage import Storage, open_storage
from ftjobs.system import signals
from ftjobs.system.progress import LOG, log_to_stderr

_SECONDS_TO_END = 60.0
_SECONDS_TO_SAY = 1.0
#: The line by which a worker says that it has said all about a stage.
_ALL_SAID = "\0"


def run_all(runs: list[StageRun], storage: Storage, at_once: int) -> list[Manifest]:
    """Run the stages, up to `at_once` together, each after those that it reads; returns the manifest of each.

    Raises:
        UserError, FtjobsError: a stage failed; those beside it were stopped, and their training state is saved.
    """
    found = {run.key: manifest for run in runs if (manifest := artifacts.find(storage, run))}
    for run in runs:
        if run.key in found:
            LOG.info("%s: published already, %s", run.title, run.identity[:12])
    left = [run for run in _urgent_first(runs) if run.key not in found]
    with _workers(len(left), at_once, storage.uri(""), sorted({run.kind for run in left})) as workers:
        while len(found) < len(runs):
            idle = [worker for worker in workers if worker.run is None]
            ready = [run for run in left if all(read.key in found for read in run.inputs.values())]
            for worker, run in zip(idle, ready, strict=False):
                LOG.info("[%d/%d] %s: running", len(runs) - len(left) + 1, len(runs), run.title)
                left.remove(run)
                worker.begin(run)
            busy = [worker for worker in workers if worker.run is not None]
            answered = wait([worker.tasks for worker in busy])
            for run, manifest in (worker.result() for worker in busy if worker.tasks in answered):
                found[run.key] = manifest
    return [found[run.key] for run in runs]


def _urgent_first(runs: list[StageRun]) -> list[StageRun]:
    """Those first that most others wait for; of as many, those on a frozen encoder last, which are short and fill up
    what is left at the end."""
    return sorted(runs, key=lambda run: (-len(_readers(run, runs)), getattr(run.settings, "freeze_encoder", False)))


def _readers(run: StageRun, runs: list[StageRun]) -> set[str]:
    """Keys of the stages that read what a stage publishes, or what those publish in turn."""
    direct = [one for one in runs if run.key in {read.key for read in one.inputs.values()}]
    return {one.key for one in direct}.union(*(_readers(one, runs) for one in direct))


class _Worker:
    """A process that runs one stage after the other."""

    def __init__(self, number: int, of: int, store: str, kinds: list[str]) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would not have the threads of this process
        self.tasks, tasks = context.Pipe()
        said, stderr = context.Pipe(duplex=False)
        self.run: StageRun | None = None
        self.process = context.Process(target=_work, args=(number, of, store, kinds, tasks, stderr))
        self.process.start()
        tasks.close()
        stderr.close()
        self._all_said = threading.Semaphore(0)
        self._listener = threading.Thread(target=self._pass_on, args=(said,), daemon=True)
        self._listener.start()

    def begin(self, run: StageRun) -> None:
        """Have the stage run."""
        self.run = run
        with suppress(BrokenPipeError):  # `result` says how the process ended
            self.tasks.send(run)

    def result(self) -> tuple[StageRun, Manifest]:
        """What came of the stage, when all that it said is passed on.

        Raises:
            UserError, FtjobsError, OSError: as the stage failed, or because the process has ended.
        """
        assert self.run is not None
        run, self.run = self.run, None
        try:
            outcome: Manifest | Exception = self.tasks.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            code = self.process.exitcode or 0
            how = f"was killed by signal {-code}; is there memory enough?" if code < 0 else f"ended with {code}"
            raise FtjobsError(f"{run.title}: the process that ran it {how}") from None
        self._all_said.acquire(timeout=_SECONDS_TO_SAY)
        if isinstance(outcome, Exception):
            raise outcome
        return run, outcome

    def end(self) -> None:
        """Wait until the process has ended, and all that it said is passed on."""
        self.process.join(_SECONDS_TO_END)
        if self.process.is_alive():
            self.process.kill()
        self._listener.join(_SECONDS_TO_SAY)  # a process that it has left behind may keep the pipe open

    def _pass_on(self, said: Connection) -> None:
        """Log what the process says, line by line."""
        with open(said.fileno(), errors="replace", closefd=False) as lines:
            for line in map(str.rstrip, lines):
                if line == _ALL_SAID:
                    self._all_said.release()
                else:
                    LOG.info("%s", line)


@contextmanager
def _workers(needed: int, at_once: int, store: str, kinds: list[str]) -> Iterator[list[_Worker]]:
    """Those that are needed, each with the share of one of `at_once`, so that a pipeline that goes on ends in the same
    bytes. If the block fails they are asked to end as by SIGTERM."""
    workers: list[_Worker] = []
    try:
        for number in range(min(needed, at_once)):
            workers.append(_Worker(number, at_once, store, kinds))
        yield workers
        for worker in workers:
            worker.tasks.close()
    except BaseException:
        for worker in workers:
            worker.process.terminate()
        raise
    finally:
        for worker in workers:
            worker.end()


def _work(number: int, of: int, store: str, kinds: list[str], tasks: Connection, stderr: Connection) -> None:
    """What a worker does: import what stages of these kinds need, run what it is told to, and say what came of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the one that started this one ends it
    os.dup2(stderr.fileno(), 2)
    signals.install()
    log_to_stderr()
    storage = open_storage(store)
    try:
        with suppress(EOFError), signals.honoured():
            _take_share(number, of)
            for kind in kinds:
                stages.load(kind)
            while True:
                outcome = _outcome(tasks.recv(), storage)
                print(_ALL_SAID, file=sys.stderr, flush=True)
                tasks.send(outcome)
    except BrokenPipeError:  # whoever started this process has vanished
        pass
    except signals.Stopped:
        os._exit(signals.EXIT_CODE)  # as the command line does


def _outcome(run: StageRun, storage: Storage) -> Manifest | Exception:
    for handler in LOG.handlers:
        handler.setFormatter(_Titled(run.title))
    try:
        return runner.run_stage(run, storage)
    except (FtjobsError, OSError) as error:
        return error


class _Titled(logging.Formatter):
    """Lines that begin with the stage they are about; those of several stages come in any order."""

    def __init__(self, title: str) -> None:
        super().__init__("%(message)s")
        self._title = title

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        return line if line.startswith(self._title) else f"{self._title}: {line}"


def _take_share(number: int, of: int) -> None:
    """Use the cores that fall to this process, unless the user said how many; of several GPUs see one, in turn."""
    import torch

    from ftjobs.system.device import usable_cores

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, int(usable_cores()) // of))
    count = torch.cuda.device_count()  # counts without touching any: it is not too late to choose
    if count > 1:
        named = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = named.split(",") if named else [str(index) for index in range(count)]
        os.environ["CUDA_VISIBLE_DEVICES"] = names[number % count]
