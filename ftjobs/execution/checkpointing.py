"""Training state in storage: saved while a stage trains, loaded by the attempt that resumes it.

`<artifact>/state/<step>-<attempt>/` holds the files of one training state, and `whole.json`, written last, marks it as
complete. Older states are removed once a newer one is complete, so there is always one to resume from. Two attempts
that run at once never write to the same folder. `<artifact>/state/<name>/<sha256>` is a cached file that stays valid
for the whole training, such as the features of a frozen encoder. Publishing the artifact removes all of it.
"""

from __future__ import annotations

import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Literal, Protocol

from ftjobs import artifacts
from ftjobs.artifacts import FileEntry
from ftjobs.errors import FtjobsError
from ftjobs.execution.heartbeat import Heartbeat
from ftjobs.jobfile.fields import Fields
from ftjobs.jobfile.local_files import digest
from ftjobs.plan import StageRun
from ftjobs.storage import Storage
from ftjobs.system.progress import LOG

_MARKER = "whole.json"
_SECONDS_PER_UNIT = {"s": 1, "m": 60, "h": 3600}


class Superseded(Exception):
    """Another attempt has published the artifact of this stage; its result counts for this attempt too."""


class StateMarker(Fields):
    """Content of `whole.json`."""

    version: Literal[1] = 1
    step: int
    total: int
    files: list[FileEntry]


class Companion(Protocol):
    """A part of an attempt that adds files to the training state, such as a tracker. Its methods must not raise."""

    def save_state(self, folder: Path) -> None:
        """Add files to a training state that is being saved; called in a background thread."""

    def start(self, state: Path | None) -> None:
        """Prepare for training from a state, or from the first step if there is none."""


class StorageCheckpointer:
    """Saves the training state of one stage to storage, in the background, and loads the latest one.

    Implements `ftjobs.training.state.Checkpointer`.
    """

    def __init__(
        self, storage: Storage, run: StageRun, save_every: str | int, work: Path, heartbeat: Heartbeat | None = None
    ) -> None:
        """
        Args:
            storage: store of the training states.
            run: the stage.
            save_every: interval between saves: `30s`, `5m`, `1h`, or a number of steps.
            work: local folder for files on their way to and from storage.
            heartbeat: its step and total follow training.
        """
        self.storage, self.run = storage, run
        self.prefix, self.title = f"{run.key}/state", run.title
        self.every_steps = save_every if isinstance(save_every, int) else None
        self.every_seconds = (
            None if isinstance(save_every, int) else int(save_every[:-1]) * _SECONDS_PER_UNIT[save_every[-1]]
        )
        self.work, self.heartbeat = work, heartbeat
        self.companion: Companion | None = None
        self.attempt = secrets.token_hex(4)
        self.saved_at, self.saved_step = time.monotonic(), 0
        self._uploads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="training-state")
        self._last_upload: Future[None] | None = None

    def latest(self) -> Path | None:
        """Fetch the latest complete training state into a local folder; None if there is none. Skips damaged states."""
        state = self._fetch_latest()
        if self.companion:
            self.companion.start(state)
        return state

    def _fetch_latest(self) -> Path | None:
        while names := sorted(self._complete_states(), reverse=True):
            for name in names:
                folder = self._fetch(name)
                if folder is not None:
                    return folder
            if sorted(self._complete_states(), reverse=True) == names:
                break  # all are damaged; a changed list means that another attempt saved a newer one
        return None

    def should_save(self, step: int, total: int) -> bool:
        """Return True if the save interval has passed; never at the last step, after which the stage publishes."""
        if self.heartbeat:
            self.heartbeat.step, self.heartbeat.total = step, total
        if step >= total:
            return False
        if self.every_steps is not None:
            return step % self.every_steps == 0
        return self.every_seconds is not None and time.monotonic() - self.saved_at >= self.every_seconds

    def save(self, write: Callable[[Path], None], step: int, total: int, *, wait: bool) -> None:
        """Save the training state that `write` puts into a folder, in the background unless `wait`.

        Waits for the previous save first. A save that fails is logged and training continues.

        Raises:
            Superseded: another attempt has published the artifact in the meantime.
        """
        self._finish_upload()
        if not wait and artifacts.find_manifest(self.storage, self.run) is not None:
            raise Superseded
        if step > self.saved_step:
            self.saved_at, self.saved_step = time.monotonic(), step
            self._last_upload = self._uploads.submit(self._store_state, write, step, total)
        if wait:
            self._finish_upload()

    def cached_file(self, name: str) -> Path | None:
        """Fetch a cached file that an earlier attempt has stored; None if there is none. Skips damaged files."""
        for key, *_ in list(self.storage.list(f"{self.prefix}/{name}")):
            path = self.work / f"cached-{name}"
            try:
                if self.storage.get(key, path) == key.rpartition("/")[2]:
                    return path
            except KeyError:
                continue  # another attempt has published and removed it
            LOG.warning("%s: %s does not match the sha256 in its name; computing it again", self.title, key)
        return None

    def cache_file(self, name: str, write: Callable[[Path], None]) -> None:
        """Cache the file that `write` writes, in the background; a failure is logged."""
        self._finish_upload()
        self._last_upload = self._uploads.submit(self._store_file, name, write)

    def clear(self) -> None:
        """Remove all training states and cached files of the stage, once it is published."""
        self._finish_upload()
        for key, *_ in list(self.storage.list(self.prefix)):
            self.storage.delete(key)

    def close(self) -> None:
        """Wait for the current save."""
        self._uploads.shutdown(wait=True)

    def _fetch(self, name: str) -> Path | None:
        folder = Path(tempfile.mkdtemp(prefix="state-", dir=self.work))
        try:
            marker = StateMarker.model_validate_json(self.storage.read(f"{self.prefix}/{name}/{_MARKER}"))
            for file in marker.files:
                if self.storage.get(f"{self.prefix}/{name}/{file.path}", folder / file.path) != file.sha256:
                    raise ValueError(f"{file.path} does not match its sha256 in {_MARKER}")
        except (KeyError, ValueError) as error:
            LOG.warning("%s: training state %s cannot be used (%s); trying an older one", self.title, name, error)
            shutil.rmtree(folder)
            return None
        self.saved_step = marker.step
        return folder

    def _finish_upload(self) -> None:
        if self._last_upload is not None:
            try:
                self._last_upload.result()
            except (FtjobsError, OSError) as error:
                LOG.warning("%s: training state was not saved: %s", self.title, error)
            self._last_upload = None

    def _store_state(self, write: Callable[[Path], None], step: int, total: int) -> None:
        name = f"{step:012d}-{self.attempt}"
        with tempfile.TemporaryDirectory(prefix="state-", dir=self.work) as temporary:
            folder = Path(temporary)
            write(folder)
            if self.companion:
                self.companion.save_state(folder)
            files = []
            for path in sorted(folder.iterdir()):
                sha256 = self.storage.put(path, f"{self.prefix}/{name}/{path.name}")
                files.append(FileEntry(path=path.name, size=path.stat().st_size, sha256=sha256))
            marker = StateMarker(step=step, total=total, files=files).model_dump_json().encode()
            self.storage.put_if_absent(marker, f"{self.prefix}/{name}/{_MARKER}")
        for key, *_ in list(self.storage.list(self.prefix)):
            saved_step = re.match(r"(\d+)-", key.removeprefix(f"{self.prefix}/"))
            if saved_step and int(saved_step[1]) < step:
                self.storage.delete(key)

    def _store_file(self, name: str, write: Callable[[Path], None]) -> None:
        with tempfile.TemporaryDirectory(prefix="cached-", dir=self.work) as temporary:
            path = Path(temporary, "file")
            write(path)
            self.storage.put(path, f"{self.prefix}/{name}/{digest(path)}")

    def _complete_states(self) -> list[str]:
        """Return the names of the folders that hold a marker."""
        paths = [key.removeprefix(f"{self.prefix}/").split("/") for key, *_ in self.storage.list(self.prefix)]
        return [parts[0] for parts in paths if parts[1:] == [_MARKER] and re.fullmatch(r"\d+-[0-9a-f]+", parts[0])]
