"""One stage in Weights & Biases: its run, from the first row to the folder that is published."""

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
from ftjobs.tracking import Tracker, folders
from ftjobs.tracking.journal import Journal
from ftjobs.tracking.process import WorkerProcess
from ftjobs.tracking.weights_and_biases import WeightsAndBiases, writable

_STATE = "tracking.zip"
#: How long a run may take to be opened before it is kept offline instead; nobody waits for it.
_SECONDS_TO_OPEN = 30.0
#: How long the end of a run may take: with a server, which may hang, and without.
_SECONDS_ONLINE, _SECONDS_OFFLINE = 10.0, 30.0
#: How much of that the rest of an upload may take.
_SECONDS_TO_UPLOAD = 6.0
_SECONDS_TO_START = 10.0
_ARTIFACT_TYPES = {
    **dict.fromkeys(("prepare", "data", "corpus"), "dataset"),
    **dict.fromkeys(("adapt", "classify"), "model"),
    "report": "report",
}
#: Set once a server has let us wait: later stages of this process do not wait for it again.
_gave_up = threading.Event()


class Tracked(Tracker):
    """A stage that is tracked. Nothing here raises, and only the end waits, and not for long."""

    def __init__(self, run: StageRun, settings: WandbTracking, storage: Storage, work: Path) -> None:
        self.run, self.settings, self.storage = run, settings, storage
        self.run_id = run_id(run)
        self.kept = work / "tracking"
        wished = Path(os.environ.get("WANDB_DIR") or self.kept).absolute()
        self.places = [wished, self.kept] if writable(wished) else [self.kept]
        self.journal = Journal()
        self.wandb: WeightsAndBiases | None = None
        self._earlier: set[str] = set()

    def log(self, metrics: dict[str, Any], step: int) -> None:
        """Log metrics of a step. Takes microseconds."""
        whole = self.journal.add(metrics, step)
        if whole and self.wandb:
            self.wandb.log(whole[1], whole[0])

    def begin(self, state: Path | None) -> None:
        """Open the run, going on where the training state of an earlier attempt ends. What was logged before counts."""
        with _survived("what earlier attempts logged is not usable"):
            if state is not None and (state / _STATE).exists():
                self.journal.load(folders.unpack(state / _STATE, self.kept))
        with _survived("going on without Weights & Biases"):
            self._earlier = {folder.name for folder in self._folders()}
            self._start(offline=_gave_up.is_set())
            if self.wandb and len(self.journal.rows) > 1:
                self.wandb.log_rows(self.journal.rows[:-1])

    def keep(self, folder: Path) -> None:
        """Put rows and run folders into a training state."""
        with _survived("not kept with the training state"):
            folders.pack(self._folders(), self.journal.dump(), folder / _STATE)

    def conclude(self, output: Path, metrics: dict[str, Any]) -> None:
        """Log what came out, and end the run. What is not on a server is put into `output`, to be published.

        Args:
            output: the folder that is about to be published.
            metrics: those of the manifest.
        """
        if self.wandb is None:
            self.begin(None)
        with _survived("going on without Weights & Biases"):
            if self.wandb and self.wandb.process:  # there is one on the main process only
                self._conclude(output, metrics, self.wandb.process)

    def leave(self, exit_code: int, seconds: float | None = None) -> None:
        """End the run, unless `conclude` has; another attempt may go on in it."""
        if self.wandb and self.wandb.process and not self.wandb.process.ended:
            self.wandb.process.finish(exit_code, _SECONDS_ONLINE if seconds is None else seconds)

    def _start(self, offline: bool) -> WorkerProcess | None:
        training_device()  # accelerate's trackers ask which process they are in
        run = self.run
        title = f"{run.stage}-seed-{run.seed}" if run.has_seed else run.stage
        self.wandb = WeightsAndBiases(
            self.settings.project,
            self.places[0],
            self.kept,
            self._folders(),
            None if offline else _SECONDS_TO_OPEN,
            _SECONDS_TO_UPLOAD,
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
                "inputs": {role: read.identity for role, read in run.inputs.items()},
                **({"seed": run.seed} if run.has_seed else {}),
            },
        )
        self.wandb.start()
        return self.wandb.process

    def _conclude(self, output: Path, metrics: dict[str, Any], process: WorkerProcess) -> None:
        last = self.journal.rows[-1:]
        messages: list[dict[str, Any]] = [{"do": "log", "rows": last}, *self._results(output, metrics)]
        offline = process.opened == "offline" or _gave_up.is_set()
        seconds = _SECONDS_OFFLINE if offline else _SECONDS_ONLINE
        left_to_start = max(0.0, process.started + _SECONDS_TO_START - time.monotonic())
        whole = _end(process, messages, left_to_start + seconds)
        was_online = process.opened == "online"
        if not whole or process.unreachable:
            _gave_up.set()
        if not whole:
            self.places.reverse()  # the other may be full
            again = self._start(offline=True)  # from the rows kept here, behind those that run folders hold
            assert again is not None, "this is the main process"
            process = again
            _end(process, [{"do": "log", "rows": self.journal.rows}, *messages[1:]], _SECONDS_OFFLINE)
        if process.finished != "online" and (left := self._folders_left(was_online)):
            folders.copy(left, output / "wandb")
            online = "" if all(folder.name.startswith("offline-") for folder in left) else " --include-online"
            LOG.info("tracking: the artifact has the run: `ftjobs pull --all`, then `wandb sync%s DIR/wandb`", online)

    def _results(self, output: Path, metrics: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """What there is to say at the end: the figures of the manifest, the report's tables, where the artifact is."""
        values = dict(_flat("result", metrics))
        if self.run.kind == "report":
            report = json.loads((output / "report.json").read_text(encoding="utf-8"))
            found = {name: report.get(name) or [] for name in ("results", "adaptation", "hypotheses")}
            tables = {name: _table(rows) for name, rows in found.items() if rows}
            yield {"do": "report", "folder": str(output), "tables": tables}
            values |= {
                key: value for row in found["results"] + found["adaptation"] for key, value in _flat(row["stage"], row)
            }
        yield {"do": "summarise", "values": values}
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

    def _folders_left(self, was_online: bool) -> list[Path]:
        """The run folders, without those of runs that never opened: an online one that did not is empty."""
        found = self._folders()
        return [one for one in found if was_online or one.name.startswith("offline-") or one.name in self._earlier]

    def _folders(self) -> list[Path]:
        return folders.of_run(self.run_id, *(place / "wandb" for place in self.places))


@contextmanager
def _survived(what: str) -> Iterator[None]:
    """A failure within the block is said, and is no failure of ours."""
    try:
        yield
    except Exception as error:
        LOG.warning("tracking: %s: %s: %s", what, type(error).__name__, error)


def _end(process: WorkerProcess, messages: list[dict[str, Any]], seconds: float) -> bool:
    """Send the last messages and let the run end; whether it did, with all that it was sent."""
    for message in messages:
        process.send(message)
    return process.finish(0, seconds)


def run_id(run: StageRun) -> str:
    """The id of a stage's run: the beginning of its identity, and what tells stages of one identity apart."""
    stage = hashlib.sha256(f"{run.pipeline}/{run.stage}".encode()).hexdigest()
    return f"{run.identity[:12]}-{stage[:8]}"


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The figures and words in nested dictionaries, and intervals, by the path to them."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{name}/{key}", inner)
    elif isinstance(value, list) and name.endswith("/interval"):
        yield from zip((f"{name}/low", f"{name}/high"), value, strict=True)
    elif isinstance(value, bool | int | float | str):
        yield name, value


def _in_words(value: dict[str, Any]) -> dict[str, Any]:
    """The same with lists as words: the best epoch of every seed, the devices; not intervals."""
    words: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, dict):
            words[key] = _in_words(inner)
        else:
            words[key] = ", ".join(map(str, inner)) if isinstance(inner, list) and key != "interval" else inner
    return words


def _table(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Columns and rows of a table of what is nested in each row, without what every seed did."""
    shown = [_in_words({key: value for key, value in row.items() if key != "seeds"}) for row in rows]
    flat = [dict(_flat("", row)) for row in shown]
    columns = list(dict.fromkeys(key for row in flat for key in row))
    return {"columns": [column[1:] for column in columns], "data": [[row.get(key) for key in columns] for row in flat]}
