"""accelerate's tracker interface to Weights & Biases in a process of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from accelerate.tracking import GeneralTracker, on_main_process

from ftjobs.tracking.process import WorkerProcess


class WeightsAndBiases(GeneralTracker):
    """As `accelerate.tracking.WandBTracker`, but nothing of wandb runs in, or can stop, the process that trains.

    Like every tracker of accelerate it works on the main process only.
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
            run_name: the project, as accelerate calls it.
            logging_dir: where `wandb/` with the run folder is put.
            scratch: for temporary files, which a process that is killed leaves behind.
            folders: run folders of earlier attempts, whose rows an offline run does not log again.
            seconds_to_open: how long to try to reach a server; None to stay offline.
            seconds_to_upload: how long the rest of an upload may take at the end of the run.
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
            "environment": _homes(logging_dir),
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
        """Log many steps at once: those that an earlier attempt may not have got rid of."""
        self._send({"do": "log", "rows": rows})

    @on_main_process
    def finish(self) -> None:
        if self.process is not None:
            self.process.finish(0, 10.0)

    def _send(self, message: dict[str, Any]) -> None:
        if self.process is not None:
            self.process.send(message)


def _homes(logging_dir: Path) -> dict[str, str]:
    """Folders that wandb wants to write to, beside the run folders where the usual ones are on a read-only disk."""
    home = Path.home()
    usual = {
        "WANDB_CONFIG_DIR": home / ".config/wandb",
        "WANDB_CACHE_DIR": home / ".cache/wandb",
        "WANDB_DATA_DIR": home / ".local/share/wandb",
    }
    return {
        name: str(logging_dir / "wandb-home")
        for name, folder in usual.items()
        if name not in os.environ and not writable(folder)
    }


def writable(folder: Path) -> bool:
    """Whether a folder can be written to, or made."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return os.access(existing, os.W_OK | os.X_OK)
