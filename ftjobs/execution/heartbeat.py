"""Signs of life: what a running stage leaves in storage, so that `status` can tell from there how it is.

Beside an artifact's manifest, `running.json` says how far an attempt is and when it last said so, and `failed.json` why
the last attempt failed. Nothing is computed from either. Where several machines run a stage together, those other than
the first give signs in `running-<rank>.json`.
"""

from __future__ import annotations

import json
import math
import tempfile
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic import BaseModel, ConfigDict

from ftjobs.errors import FtjobsError, TryLater, UserError
from ftjobs.execution.topology import ALONE, Topology
from ftjobs.plan import StageRun
from ftjobs.storage import Storage

RUNNING, FAILED = "running.json", "failed.json"
_SECONDS_BETWEEN_SIGNS = 10.0
#: The rate that a sign tells is that of the signs of about a minute.
_SIGNS_FOR_RATE = 7


class _Sign(BaseModel):
    """What is in `running.json`. It may be of another version of ftjobs, so what is not known here is passed over."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    step: int = 0
    total: int = 0
    rate: float | None = None
    elapsed: float = 0.0
    figures: dict[str, float] = {}
    at: float


class _Failure(BaseModel):
    """What is in `failed.json`."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    error: str
    exit_code: int
    at: float


class Heartbeat:
    """While the block runs, a sign of life every ten seconds, at first more often; if it fails, why."""

    def __init__(self, storage: Storage, run: StageRun, interactive: bool = True, machines: Topology = ALONE) -> None:
        """
        Args:
            storage: where the signs are left.
            run: the stage that runs.
            attended: whether somebody has just typed the command and reads what it says. Bad input that the first
                stage notices is then told to them alone, and leaves nothing behind.
            machines: this one among those that run the stage; the first speaks for all.
        """
        self.storage, self.run = storage, run
        self._name, self._is_main = _name(machines.rank), machines.is_main
        self._tells = interactive and run.kind in ("prepare", "data")
        self.step, self.total = 0, 0
        self._figures: dict[str, float] = {}
        self._started = time.monotonic()
        self._steps: deque[tuple[float, int]] = deque(maxlen=_SIGNS_FOR_RATE)
        self._ended = threading.Event()
        self._signs = threading.Thread(target=self._give_signs, name="signs-of-life", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._signs.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._signs.join()
        self._delete(self._name)
        told = self._tells and isinstance(error, UserError)
        if isinstance(error, Exception) and not isinstance(error, TryLater) and not told:
            code = error.exit_code if isinstance(error, FtjobsError) else 1
            message = str(error) if isinstance(error, FtjobsError) else f"{type(error).__name__}: {error}"
            self._put(FAILED, _Failure(error=message, exit_code=code, at=time.time()))

    def hear(self, metrics: dict[str, Any]) -> None:
        """Take note of the newest figures of training, for the next sign."""
        finite = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
        self._figures = {**self._figures, **finite}  # a new one: the thread that gives signs may be reading the old

    def follow(self, progress: Path) -> None:
        """Take note of how far another process is, from the file where it says so: `[step, total]` as JSON."""
        with suppress(OSError, ValueError):  # not written yet, or being written
            self.step, self.total = json.loads(progress.read_text())

    def _give_signs(self) -> None:
        if not self._tells:  # the first stage fails at once if it fails by bad input
            self._sign()
        while not self._ended.wait(min(_SECONDS_BETWEEN_SIGNS, max(1.0, time.monotonic() - self._started))):
            self._sign()

    def _sign(self) -> None:
        if self._is_main:
            self._delete(FAILED)
        now, step = time.monotonic(), self.step
        if step:  # steps are counted from the first seen, which after a resume is not 0
            self._steps.append((now, step))
        sign = _Sign(
            step=step,
            total=self.total,
            rate=self._rate(),
            elapsed=now - self._started,
            figures=self._figures,
            at=time.time(),
        )
        self._put(self._name, sign)

    def _rate(self) -> float | None:
        """Steps per second, None if there is nothing yet to tell it from."""
        if len(self._steps) < 2:
            return None
        (before, first), (now, last) = self._steps[0], self._steps[-1]
        return (last - first) / (now - before)

    def _put(self, name: str, content: BaseModel) -> None:
        with tempfile.TemporaryDirectory(prefix="ftjobs-") as folder:
            path = Path(folder, name)
            path.write_text(content.model_dump_json())
            with suppress(FtjobsError):  # a store that does not answer is noticed, and said, where it matters
                self.storage.put(path, f"{self.run.key}/{name}")

    def _delete(self, name: str) -> None:
        with suppress(FtjobsError):
            self.storage.delete(f"{self.run.key}/{name}")


def attempt_seconds(storage: Storage, run: StageRun, rank: int) -> float | None:
    """How long the attempt on the machine of that rank has run, as its newest sign of life says; None without one.

    Raises:
        FtjobsError: the store does not answer.
    """
    try:
        return _Sign.model_validate_json(storage.read(f"{run.key}/{_name(rank)}")).elapsed
    except (KeyError, ValueError):
        return None


def _name(rank: int) -> str:
    return f"running-{rank}.json" if rank else RUNNING


def signs(storage: Storage, run: StageRun) -> dict[str, Any]:
    """What is known of attempts at a stage that is not published.

    Returns:
        `state` (`running`, `failed` or `none`), and `age` (seconds since the last sign of life); for a running one
        `step`, `total`, `rate` (steps per second, None if not known), `elapsed` (seconds since the attempt began) and
        `figures` (its newest metrics by name); for a failed one `error`.
    """
    for name, kind in ((RUNNING, _Sign), (FAILED, _Failure)):
        try:
            content = kind.model_validate_json(storage.read(f"{run.key}/{name}"))
        except (KeyError, ValueError):
            continue
        age = round(max(0.0, time.time() - content.at), 1)
        if isinstance(content, _Failure):
            return {"state": "failed", "age": age, "error": content.error}
        said = content.model_dump(exclude={"at"})
        return {"state": "running", **said, "age": age, "elapsed": round(content.elapsed + age, 1)}
    return {"state": "none"}
