"""The training process's side of the wandb worker: starting it, sending messages without waiting, and ending it."""

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

from accelerate.tracking import GeneralTracker, on_main_process

from ftjobs.system.progress import LOG

#: Queued messages for a slow worker. At one row every ten steps, that is a long time.
_MAX_QUEUED_MESSAGES = 10_000
_PACKAGE_ROOT = str(Path(__file__).parents[2])


class WorkerProcess:
    """A worker process and the queue of messages to it. Only `finish` waits, for a bounded time."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """
        Args:
            settings: settings of `ftjobs.tracking.wandb_worker.Worker`.
        """
        self.opened: str | None = None
        """`online` or `offline` once the run is open."""
        self.unreachable = False
        """True if the server did not respond when the run was opened."""
        self.finished: str | None = None
        """Set on success: `online` if everything is uploaded, `offline` if it is in run folders."""
        self.failed: str | None = None
        """The reason for a failure."""
        self.dropped = 0
        """Number of messages that were not sent."""
        self.started = time.monotonic()
        self._process: subprocess.Popen[str] | None = None
        self._messages: queue.Queue[dict[str, Any]] = queue.Queue(_MAX_QUEUED_MESSAGES)
        self._messages.put(settings)
        self._ended = threading.Event()
        threading.Thread(target=self._serve, name="tracking", daemon=True).start()

    def send(self, message: dict[str, Any]) -> None:
        """Queue a message. Once the queue is full, this and all later messages are dropped, with one log line."""
        if not self.dropped and not self.failed:
            with suppress(queue.Full):
                self._messages.put_nowait(message)
                return
            LOG.warning("tracking: Weights & Biases is too slow; training continues without it")
        self.dropped += 1  # drop everything from here on, so that the sent rows have no gap

    def finish(self, exit_code: int, seconds: float) -> bool:
        """End the run, and kill the worker after `seconds`; return True if the run ended with every message."""
        deadline = time.monotonic() + seconds
        with suppress(queue.Full):
            self._messages.put({"do": "finish", "exit_code": exit_code}, timeout=seconds / 2)
        self._ended.wait(max(0.0, deadline - time.monotonic()))
        if not self._ended.is_set() and self.finished is None:
            self._fail(f"the run did not end within {seconds:.0f} s")
        self.kill()
        return self.finished is not None and not self.dropped

    @property
    def ended(self) -> bool:
        """True if the worker has ended or failed."""
        return self._ended.is_set()

    def kill(self) -> None:
        """Kill the worker if it is running."""
        process = self._process
        if process is not None and process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # wandb-core watches its parent and exits too

    def _serve(self) -> None:
        """Start the worker and write messages to it; runs in a thread, because both may block."""
        search_path = [_PACKAGE_ROOT, os.environ.get("PYTHONPATH")]
        try:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "ftjobs.tracking.wandb_worker",
                ],  # -P: not from the working directory
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(filter(None, search_path)),
                },
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,  # Ctrl-C must reach only the training process
            )
        except OSError as error:
            self._fail(f"{type(error).__name__}: {error}")
            return
        threading.Thread(target=self._listen, name="tracking-responses", daemon=True).start()
        assert self._process.stdin is not None
        with suppress(OSError, ValueError):  # `_listen` notices that a worker has ended
            while True:
                message = self._messages.get()
                self._process.stdin.write(json.dumps(message) + "\n")
                self._process.stdin.flush()
                if message.get("do") == "finish":
                    break

    def _listen(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        reason = "its process ended"
        with suppress(OSError, ValueError):
            for line in self._process.stdout:
                response = json.loads(line)
                if "warning" in response:
                    LOG.warning("tracking: %s", response["warning"])
                elif "failed" in response:
                    reason = response["failed"]
                elif "opened" in response:
                    self._on_opened(response)
                else:
                    self.finished = response["finished"]
        self._process.wait()
        if self.finished is None:
            self._fail(reason)
        self._ended.set()

    def _on_opened(self, response: dict[str, Any]) -> None:
        self.opened, self.unreachable = response["opened"], response.get("unreachable", False)
        if self.opened == "online":
            LOG.info("tracking: %s", response["url"])
        elif "reason" in response:
            LOG.info("tracking: Weights & Biases runs offline: %s", response["reason"])

    def _fail(self, reason: str) -> None:
        if not self.failed:
            self.failed = reason
            LOG.warning("tracking: Weights & Biases failed, training continues without it: %s", reason)
        self._ended.set()


class ProcessTracker(GeneralTracker):
    """accelerate's tracker interface to a worker process, on the main process only.

    Unlike `accelerate.tracking.WandBTracker`, no wandb code runs in the training process or can stop it.
    """

    name = "wandb"
    requires_logging_directory = True
    main_process_only = True

    def __init__(
        self,
        run_name: str,
        logging_dir: Path,
        scratch: Path,
        folders: list[Path],
        seconds_to_open: float | None,
        seconds_to_upload: float,
        **init: Any,
    ) -> None:
        """
        Args:
            run_name: the project (the name of this argument is accelerate's).
            logging_dir: parent of the folder `wandb/` with run folders.
            scratch: folder for temporary files, which a killed worker leaves behind.
            folders: run folders of earlier attempts; an offline run does not log their rows again.
            seconds_to_open: time limit for reaching the server; None to run offline.
            seconds_to_upload: time limit for the remaining upload at the end of the run.
            init: arguments of `wandb.init`.
        """
        super().__init__()
        self.process: WorkerProcess | None = None
        self._settings = {
            "init": {"project": run_name, "dir": str(logging_dir), **init},
            "scratch": str(scratch),
            "folders": [str(folder) for folder in folders],
            "seconds_to_open": seconds_to_open,
            "seconds_to_upload": seconds_to_upload,
            "pid": os.getpid(),
            "environment": _writable_homes(logging_dir),
        }

    @property
    def tracker(self) -> WorkerProcess | None:
        return self.process

    @on_main_process
    def start(self) -> None:
        self.process = WorkerProcess(self._settings)

    @on_main_process
    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self._send({"do": "configure", "values": values})

    @on_main_process
    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        self._send({"do": "log", "rows": [[step, values]]})

    @on_main_process
    def log_rows(self, rows: list[tuple[int, dict[str, Any]]]) -> None:
        """Log several steps at once; the worker skips those that earlier attempts uploaded."""
        self._send({"do": "log", "rows": rows})

    @on_main_process
    def finish(self) -> None:
        if self.process is not None:
            self.process.finish(0, 10.0)

    def _send(self, message: dict[str, Any]) -> None:
        if self.process is not None:
            self.process.send(message)


def _writable_homes(logging_dir: Path) -> dict[str, str]:
    """Return environment variables that move wandb's folders below `logging_dir` where the defaults are read-only."""
    home = Path.home()
    defaults = {
        "WANDB_CONFIG_DIR": home / ".config/wandb",
        "WANDB_CACHE_DIR": home / ".cache/wandb",
        "WANDB_DATA_DIR": home / ".local/share/wandb",
    }
    return {
        name: str(logging_dir / "wandb-home")
        for name, folder in defaults.items()
        if name not in os.environ and not is_writable(folder)
    }


def is_writable(folder: Path) -> bool:
    """Return True if a folder can be written to, or created."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return os.access(existing, os.W_OK | os.X_OK)
