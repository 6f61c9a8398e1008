"""The worker process, seen from the process that trains: told things without waiting, and left behind if need be."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ftjobs.system.progress import LOG

#: Messages that may wait for a slow worker; a row every tenth step, so this is a long time.
_WAITING = 10_000
_HERE = str(Path(__file__).parents[2])


class WorkerProcess:
    """Starts the worker and passes messages on in their order. Only `finish` waits, and not for long."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """
        Args:
            settings: what the worker is to know first: see `ftjobs.tracking.worker`.
        """
        self.opened: str | None = None
        """`online` or `offline`, once the run is open."""
        self.unreachable = False
        """Whether a server that should have answered did not."""
        self.finished: str | None = None
        """How the run ended well: `online` if all is uploaded, `offline` if run folders hold it."""
        self.failed: str | None = None
        self.dropped = 0
        self.started = time.monotonic()
        self._process: subprocess.Popen[str] | None = None
        self._messages: queue.Queue[dict[str, Any]] = queue.Queue(_WAITING)
        self._messages.put(settings)
        self._ended = threading.Event()
        threading.Thread(target=self._serve, name="tracking", daemon=True).start()

    def send(self, message: dict[str, Any]) -> None:
        """Have a message passed on; when too many wait, it and all that follow are dropped, which is said once."""
        if not self.dropped and not self.failed:
            with suppress(queue.Full):
                self._messages.put_nowait(message)
                return
            LOG.warning("tracking: Weights & Biases does not keep up; going on without it")
        self.dropped += 1  # from here on everything, so that what did get there has no gap

    def finish(self, exit_code: int, seconds: float) -> bool:
        """Let the run end, and say whether it did, with all that was sent; it is left behind after so many seconds."""
        deadline = time.monotonic() + seconds
        with suppress(queue.Full):
            self._messages.put({"do": "finish", "exit_code": exit_code}, timeout=seconds / 2)
        self._ended.wait(max(0.0, deadline - time.monotonic()))
        if not self._ended.is_set() and self.finished is None:
            self._fail(f"no end within {seconds:.0f} s")
        self.kill()
        return self.finished is not None and not self.dropped

    @property
    def ended(self) -> bool:
        """Whether the worker has ended, or was left behind."""
        return self._ended.is_set()

    def kill(self) -> None:
        """End the worker if it has not ended."""
        process = self._process
        if process is not None and process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # wandb-core follows: it watches who started it

    def _serve(self) -> None:
        """Start the worker and write to it; in a thread of its own, since both may take long."""
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ftjobs.tracking.worker"],  # -P: no module from where we happen to be
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [_HERE, os.environ.get("PYTHONPATH")]))},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,  # Ctrl-C is for the process that trains
            )
        except OSError as error:
            self._fail(f"{type(error).__name__}: {error}")
            return
        threading.Thread(target=self._listen, name="tracking-answers", daemon=True).start()
        assert self._process.stdin is not None
        with suppress(OSError, ValueError):  # a worker that has ended is noticed by who listens
            while True:
                message = self._messages.get()
                self._process.stdin.write(json.dumps(message) + "\n")
                self._process.stdin.flush()
                if message.get("do") == "finish":
                    break

    def _listen(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        why = "its process ended"
        with suppress(OSError, ValueError):
            for line in self._process.stdout:
                answer = json.loads(line)
                if "warning" in answer:
                    LOG.warning("tracking: %s", answer["warning"])
                elif "failed" in answer:
                    why = answer["failed"]
                elif "opened" in answer:
                    self._open(answer)
                else:
                    self.finished = answer["finished"]
        self._process.wait()
        if self.finished is None:
            self._fail(why)
        self._ended.set()

    def _open(self, answer: dict[str, Any]) -> None:
        self.opened, self.unreachable = answer["opened"], answer.get("unreachable", False)
        if self.opened == "online":
            LOG.info("tracking: %s", answer["url"])
        elif "why" in answer:
            LOG.info("tracking: Weights & Biases is kept offline: %s", answer["why"])

    def _fail(self, why: str) -> None:
        if not self.failed:
            self.failed = why
            LOG.warning("tracking: Weights & Biases failed, going on without it: %s", why)
        self._ended.set()
