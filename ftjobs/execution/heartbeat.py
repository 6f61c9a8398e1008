"""Heartbeats: the progress of a running stage, written to storage for `ftjobs status` and for peers.

Next to an artifact's manifest, `running.json` holds the progress of the current attempt and the time of its latest
heartbeat, and `failed.json` the error of the last failed attempt. No result depends on either. When several nodes run
a stage together, nodes of rank 1 and above write `running-<rank>.json` instead.
"""

from __future__ import annotations

import json
import math
import tempfile
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from ftjobs.errors import ExitCode, FtjobsError, TryLater, UserError
from ftjobs.execution.topology import SINGLE_PROCESS, Topology
from ftjobs.plan import StageRun
from ftjobs.storage import Storage

HEARTBEAT_INTERVAL_SECONDS = 10.0
#: Training speed is averaged over this many heartbeats, about one minute.
HEARTBEATS_PER_RATE = 7
RUNNING, FAILED = "running.json", "failed.json"
_Record = TypeVar("_Record", bound=BaseModel)


class _RunningRecord(BaseModel):
    """Content of `running.json`. Unknown fields are ignored: another version of ftjobs may have written it."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    step: int = 0
    total: int = 0
    rate: float | None = None
    elapsed: float = 0.0
    figures: dict[str, float] = {}
    at: float


class _FailedRecord(BaseModel):
    """Content of `failed.json`."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    error: str
    exit_code: int
    at: float


@dataclass(frozen=True)
class RunningAttempt:
    """Progress of an attempt as of its latest heartbeat."""

    step: int
    total: int
    """Optimizer steps in all; 0 before training begins."""
    rate: float | None
    """Steps per second; None if not known yet."""
    elapsed: float
    """Seconds since the attempt began."""
    figures: dict[str, float]
    """Latest metrics by name."""
    age: float
    """Seconds since the latest heartbeat."""


@dataclass(frozen=True)
class FailedAttempt:
    """Error of the last failed attempt."""

    age: float
    """Seconds since the failure."""
    error: str


class Heartbeat:
    """Context manager: write a heartbeat every ten seconds, at first more often, and the error if the block fails."""

    def __init__(
        self, storage: Storage, run: StageRun, interactive: bool = True, topology: Topology = SINGLE_PROCESS
    ) -> None:
        """
        Args:
            storage: store of the heartbeats.
            run: the stage that runs.
            interactive: a user has typed the command and reads its output. Invalid input that `prepare` or `data`
                detects is then not stored: it would leave a store with nothing but an error.
            topology: nodes that run the stage; the node of rank 0 writes `running.json` for all.
        """
        self.storage, self.run = storage, run
        self._file, self._is_main = _running_file(topology.rank), topology.is_main
        self._hides_user_errors = interactive and run.kind in ("prepare", "data")
        self.step, self.total = 0, 0
        self._metrics: dict[str, float] = {}
        self._started = time.monotonic()
        self._steps: deque[tuple[float, int]] = deque(maxlen=HEARTBEATS_PER_RATE)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat_until_ended, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._delete(self._file)
        hidden = self._hides_user_errors and isinstance(error, UserError)
        if isinstance(error, Exception) and not isinstance(error, TryLater) and not hidden:
            code = error.exit_code if isinstance(error, FtjobsError) else ExitCode.FAILED.value
            message = str(error) if isinstance(error, FtjobsError) else f"{type(error).__name__}: {error}"
            self._put(FAILED, _FailedRecord(error=message, exit_code=code, at=time.time()))

    def record_metrics(self, metrics: dict[str, float]) -> None:
        """Add training metrics to the next heartbeat. Values that are not finite are left out."""
        finite = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
        self._metrics = {**self._metrics, **finite}  # a new dict: the heartbeat's thread may be reading the old one

    def read_progress(self, path: Path) -> None:
        """Take the progress of another process from the file it writes: `[step, total]` as JSON."""
        with suppress(OSError, ValueError):  # not written yet, or half written
            self.step, self.total = json.loads(path.read_text())

    def _beat_until_ended(self) -> None:
        if not self._hides_user_errors:  # invalid input fails at once and must not leave a record
            self._beat()
        while not self._ended.wait(min(HEARTBEAT_INTERVAL_SECONDS, max(1.0, time.monotonic() - self._started))):
            self._beat()

    def _beat(self) -> None:
        if self._is_main:
            self._delete(FAILED)
        now, step = time.monotonic(), self.step
        if step:  # the first step seen is not 0 after a resume
            self._steps.append((now, step))
        record = _RunningRecord(
            step=step,
            total=self.total,
            rate=self._steps_per_second(),
            elapsed=now - self._started,
            figures=self._metrics,
            at=time.time(),
        )
        self._put(self._file, record)

    def _steps_per_second(self) -> float | None:
        if len(self._steps) < 2:
            return None
        (first_time, first_step), (last_time, last_step) = self._steps[0], self._steps[-1]
        return (last_step - first_step) / (last_time - first_time)

    def _put(self, name: str, content: BaseModel) -> None:
        with tempfile.TemporaryDirectory(prefix="ftjobs-") as folder:
            path = Path(folder, name)
            path.write_text(content.model_dump_json())
            with suppress(FtjobsError):  # reading inputs and publishing report a store that does not answer
                self.storage.put(path, f"{self.run.key}/{name}")

    def _delete(self, name: str) -> None:
        with suppress(FtjobsError):
            self.storage.delete(f"{self.run.key}/{name}")


def latest_attempt(storage: Storage, run: StageRun) -> RunningAttempt | FailedAttempt | None:
    """Read the latest attempt at a stage that is not published; None without a readable record.

    Raises:
        FtjobsError: the store does not answer.
    """
    running = _read(storage, f"{run.key}/{RUNNING}", _RunningRecord)
    if running is not None:
        age = _age(running.at)
        elapsed = round(running.elapsed + age, 1)
        return RunningAttempt(running.step, running.total, running.rate, elapsed, running.figures, age)
    failed = _read(storage, f"{run.key}/{FAILED}", _FailedRecord)
    return None if failed is None else FailedAttempt(_age(failed.at), failed.error)


def elapsed_seconds(storage: Storage, run: StageRun, rank: int) -> float | None:
    """Read from its latest heartbeat how long a node's attempt has run; None without a readable heartbeat.

    Raises:
        FtjobsError: the store does not answer.
    """
    running = _read(storage, f"{run.key}/{_running_file(rank)}", _RunningRecord)
    return None if running is None else running.elapsed


def _read(storage: Storage, key: str, kind: type[_Record]) -> _Record | None:
    try:
        return kind.model_validate_json(storage.read(key))
    except (KeyError, ValueError):
        return None


def _age(timestamp: float) -> float:
    return round(max(0.0, time.time() - timestamp), 1)


def _running_file(rank: int) -> str:
    return f"running-{rank}.json" if rank else RUNNING
