"""The Weights & Biases tracker of a stage."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ftjobs.jobfile.fields import WandbTracking
from ftjobs.jobfile.local_files import digest
from ftjobs.plan import StageRun
from ftjobs.storage import Storage
from ftjobs.system.device import training_device
from ftjobs.system.progress import LOG
from ftjobs.tracking import wandb_folders
from ftjobs.tracking.tracker import RowLog, Tracker
from ftjobs.tracking.wandb_process import ProcessTracker, WorkerProcess, is_writable

#: File in a training state.
_STATE_FILE = "tracking.zip"
#: Time limit for opening a run online, in the background, before it is opened offline.
_OPEN_SECONDS = 30.0
#: Time limits for ending a run online, where the server may hang, and offline.
_ONLINE_FINISH_SECONDS, _OFFLINE_FINISH_SECONDS = 10.0, 30.0
#: Share of the online limit for the remaining upload.
_UPLOAD_SECONDS = 6.0
#: Time limit for starting the worker, added where a run ends soon after its start.
_START_SECONDS = 10.0
_ARTIFACT_TYPES = {
    **dict.fromkeys(("prepare", "data", "corpus"), "dataset"),
    **dict.fromkeys(("adapt", "classify"), "model"),
    "report": "report",
}
#: Set after a server has timed out; later stages of this process then run offline.
_server_failed = threading.Event()


class WandbTracker(Tracker):
    """Logs a stage to Weights & Biases. No method raises, and only `finish` and `close` wait, for a bounded time."""

    def __init__(self, run: StageRun, settings: WandbTracking, storage: Storage, work: Path) -> None:
        self.run, self.settings, self.storage = run, settings, storage
        self.run_id = run_id(run)
        self.local = work / "tracking"
        preferred = Path(os.environ.get("WANDB_DIR") or self.local).absolute()
        self.parents = [preferred, self.local] if is_writable(preferred) else [self.local]
        self.row_log = RowLog()
        self.wandb: ProcessTracker | None = None
        self._earlier_folders: set[str] = set()

    def log(self, metrics: dict[str, Any], step: int) -> None:
        """Log metrics of a step; takes microseconds."""
        complete_row = self.row_log.add(metrics, step)
        if complete_row and self.wandb:
            step, metrics = complete_row
            self.wandb.log(metrics, step)

    def start(self, state: Path | None) -> None:
        """Open the run, continuing from the rows in a training state; rows logged before this call are included."""
        with _errors_logged("the rows of earlier attempts cannot be read"):
            if state is not None and (state / _STATE_FILE).exists():
                self.row_log.load(wandb_folders.unpack(state / _STATE_FILE, self.local))
        with _errors_logged("training continues without Weights & Biases"):
            self._earlier_folders = {folder.name for folder in self._folders()}
            self._start(offline=_server_failed.is_set())
            if self.wandb and len(self.row_log.rows) > 1:
                self.wandb.log_rows(self.row_log.rows[:-1])

    def save_state(self, folder: Path) -> None:
        """Write rows and run folders to a training state."""
        with _errors_logged("not saved with the training state"):
            wandb_folders.pack(self._folders(), self.row_log.dump(), folder / _STATE_FILE)

    def finish(self, output: Path, metrics: dict[str, Any]) -> None:
        """Log the results and end the run; run folders that are not uploaded are copied to `output`."""
        if self.wandb is None:
            self.start(None)
        with _errors_logged("training continues without Weights & Biases"):
            if self.wandb and self.wandb.process:  # only on the main process
                self._finish(output, metrics, self.wandb.process)

    def close(self, exit_code: int, seconds: float | None = None) -> None:
        """End the run if `finish` has not; another attempt may resume it."""
        if self.wandb and self.wandb.process and not self.wandb.process.ended:
            self.wandb.process.finish(exit_code, _ONLINE_FINISH_SECONDS if seconds is None else seconds)

    def _start(self, offline: bool) -> WorkerProcess | None:
        training_device()  # sets up accelerate's process state, which its trackers read
        run = self.run
        title = f"{run.stage}-seed-{run.seed}" if run.has_seed else run.stage
        self.wandb = ProcessTracker(
            self.settings.project,
            self.parents[0],
            self.local,
            self._folders(),
            None if offline else _OPEN_SECONDS,
            _UPLOAD_SECONDS,
            entity=self.settings.entity,
            id=self.run_id,
            name=f"{title}-{run.identity[:8]}",
            group=run.pipeline,
            job_type=run.kind,
            config={
                **run.settings.model_dump(mode="json"),
                "pipeline": run.pipeline,
                "stage": run.stage,
                "kind": run.kind,
                "identity": run.identity,
                "inputs": {role: source.identity for role, source in run.inputs.items()},
                **({"seed": run.seed} if run.has_seed else {}),
            },
        )
        self.wandb.start()
        return self.wandb.process

    def _finish(self, output: Path, metrics: dict[str, Any], process: WorkerProcess) -> None:
        last = self.row_log.rows[-1:]
        messages: list[dict[str, Any]] = [{"do": "log", "rows": last}, *self._results(output, metrics)]
        offline = process.opened == "offline" or _server_failed.is_set()
        seconds = _OFFLINE_FINISH_SECONDS if offline else _ONLINE_FINISH_SECONDS
        left_to_start = max(0.0, process.started + _START_SECONDS - time.monotonic())
        complete = _end(process, messages, left_to_start + seconds)
        was_online = process.opened == "online"
        if not complete or process.unreachable:
            _server_failed.set()
        if not complete:
            self.parents.reverse()  # the disk of the first may be full
            # Log the rows of this process again; the worker skips those in earlier run folders.
            restarted = self._start(offline=True)
            assert restarted is not None, "this is the main process"
            process = restarted
            _end(process, [{"do": "log", "rows": self.row_log.rows}, *messages[1:]], _OFFLINE_FINISH_SECONDS)
        if process.finished != "online" and (remaining := self._folders_to_publish(was_online)):
            wandb_folders.copy_run_folders(remaining, output / "wandb")
            online = "" if all(folder.name.startswith("offline-") for folder in remaining) else " --include-online"
            LOG.info(
                "tracking: the artifact contains the run: `ftjobs pull --all`, then `wandb sync%s DIR/wandb`", online
            )

    def _results(self, output: Path, metrics: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the final messages: metrics of the manifest, tables of the report, address of the artifact."""
        values = dict(_flatten("result", metrics))
        if self.run.kind == "report":
            report = json.loads((output / "report.json").read_text(encoding="utf-8"))
            sections = {name: report.get(name) or [] for name in ("results", "adaptation", "hypotheses")}
            tables = {name: _table(rows) for name, rows in sections.items() if rows}
            yield {"do": "report", "folder": str(output), "tables": tables}
            values |= {
                key: value
                for row in sections["results"] + sections["adaptation"]
                for key, value in _flatten(row["stage"], row)
            }
        yield {"do": "summarize", "values": values}
        yield {"do": "reference", "artifact": self._reference(output)}

    def _reference(self, output: Path) -> dict[str, Any]:
        run = self.run
        address = self.storage.uri(run.key)
        if "://" not in address:
            address = Path(address).absolute().as_uri()
        files = sorted(path for path in output.rglob("*") if path.is_file())
        hashes = {path.relative_to(output).as_posix(): digest(path) for path in files}
        return {
            "name": "-".join([run.pipeline, run.stage, *([f"seed-{run.seed}"] if run.has_seed else [])]),
            "kind": _ARTIFACT_TYPES[run.kind],
            "uri": f"{address}/manifest.json",
            "metadata": {"identity": run.identity, "artifact": address, "sha256": hashes},
        }

    def _folders_to_publish(self, was_online: bool) -> list[Path]:
        """Return the run folders except those of online runs that were never opened, which are empty."""
        keep = self._earlier_folders
        folders = self._folders()
        return [path for path in folders if was_online or path.name.startswith("offline-") or path.name in keep]

    def _folders(self) -> list[Path]:
        return wandb_folders.find_run_folders(self.run_id, *(parent / "wandb" for parent in self.parents))


@contextmanager
def _errors_logged(problem: str) -> Iterator[None]:
    """Log exceptions of the block instead of raising them."""
    try:
        yield
    except Exception as error:
        LOG.warning("tracking: %s: %s: %s", problem, type(error).__name__, error)


def _end(process: WorkerProcess, messages: list[dict[str, Any]], seconds: float) -> bool:
    """Send the last messages and end the run; return True if it ended with every message."""
    for message in messages:
        process.send(message)
    return process.finish(0, seconds)


def run_id(run: StageRun) -> str:
    """Return the run id of a stage: part of its identity, and a digest that separates stages of equal identity."""
    stage = hashlib.sha256(f"{run.pipeline}/{run.stage}".encode()).hexdigest()
    return f"{run.identity[:12]}-{stage[:8]}"


def _flatten(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the numbers, strings and intervals in nested dictionaries by path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flatten(f"{name}/{key}", inner)
    elif isinstance(value, list) and name.endswith("/interval"):
        yield from zip((f"{name}/low", f"{name}/high"), value, strict=True)
    elif isinstance(value, bool | int | float | str):
        yield name, value


def _join_lists(value: dict[str, Any]) -> dict[str, Any]:
    """Replace lists by comma-separated text (the best epoch of every seed, the devices), except intervals."""
    joined: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, dict):
            joined[key] = _join_lists(inner)
        else:
            joined[key] = ", ".join(map(str, inner)) if isinstance(inner, list) and key != "interval" else inner
    return joined


def _table(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return columns and rows of a table of flattened rows, without the values per seed."""
    shown = [_join_lists({key: value for key, value in row.items() if key != "seeds"}) for row in rows]
    flat = [dict(_flatten("", row)) for row in shown]
    columns = list(dict.fromkeys(key for row in flat for key in row))
    return {"columns": [column[1:] for column in columns], "data": [[row.get(key) for key in columns] for row in flat]}
