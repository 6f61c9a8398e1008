"""Training state in storage: what a killed stage leaves behind, and a new attempt goes on from.

`<artifact>/state/<step>-<attempt>/` holds the files of one state, and `whole.json`, put last, says that they are all
there. Older states are removed once a newer one is whole, so there is always one to resume from; two attempts that
run at once never write to the same place. `<artifact>/state/<name>/<sha256>` is a file that does not change while the
stage trains, such as the features of a frozen encoder. All of it is removed when the artifact is published.
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

_WHOLE = "whole.json"
_UNITS = {"s": 1, "m": 60, "h": 3600}


class Superseded(Exception):
    """Another attempt at the same stage was faster; what it published is the result of this one too."""


class State(Fields):
    """The marker of a whole state."""

    version: Literal[1] = 1
    step: int
    total: int
    files: list[FileEntry]


class Companion(Protocol):
    """What goes along with training and has something to keep in its state, such as a tracker. It must not raise."""

    def keep(self, folder: Path) -> None:
        """Add files to a state; called in the background."""

    def begin(self, state: Path | None) -> None:
        """Training is about to begin: from this state, or from the start."""


class StorageCheckpointer:
    """Keeps the training state of one stage in storage: saves in the background, finds the newest to resume from."""

    def __init__(
        self, storage: Storage, run: StageRun, every: str | int, work: Path, life: Heartbeat | None = None
    ) -> None:
        """
        Args:
            storage: where states are kept.
            run: the stage.
            every: `30s`, `5m`, `1h`, or a number of steps.
            work: local folder for copies on their way to storage and back.
            life: told how far training is.
        """
        self.storage, self.run = storage, run
        self.prefix, self.title = f"{run.key}/state", run.title
        self.every_steps = every if isinstance(every, int) else None
        self.every_seconds = None if isinstance(every, int) else int(every[:-1]) * _UNITS[every[-1]]
        self.work, self.life = work, life
        self.companion: Companion | None = None
        self.attempt = secrets.token_hex(4)  # a name only
        self.saved_at, self.saved_step = time.monotonic(), 0
        self._uploads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="training-state")
        self._last: Future[None] | None = None

    def latest(self) -> Path | None:
        """A local folder with the newest whole state; what is broken is passed over."""
        found = self._latest()
        if self.companion:
            self.companion.begin(found)
        return found

    def _latest(self) -> Path | None:
        while names := sorted(self._whole(), reverse=True):
            for name in names:
                folder = self._fetch(name)
                if folder is not None:
                    return folder
            if sorted(self._whole(), reverse=True) == names:
                break  # none is usable; otherwise another attempt has put a newer one in their place meanwhile
        return None

    def should_save(self, step: int, total: int) -> bool:
        """Whether `every` has passed since the last save; never right before the end."""
        if self.life:
            self.life.step, self.life.total = step, total
        if step >= total:
            return False
        if self.every_steps is not None:
            return step % self.every_steps == 0
        return self.every_seconds is not None and time.monotonic() - self.saved_at >= self.every_seconds

    def save(self, write: Callable[[Path], None], step: int, total: int, *, wait: bool) -> None:
        """Store the state that `write` puts into a folder, in the background unless `wait`.

        One save at a time: this one first waits for the last. A save that fails is logged; training goes on.

        Raises:
            Superseded: another attempt has published the artifact meanwhile.
        """
        self._finish()
        if not wait and artifacts.find(self.storage, self.run) is not None:
            raise Superseded
        if step > self.saved_step:
            self.saved_at, self.saved_step = time.monotonic(), step
            self._last = self._uploads.submit(self._store, write, step, total)
        if wait:
            self._finish()

    def cached_file(self, name: str) -> Path | None:
        """A local copy of what an earlier attempt kept under that name; what is broken is passed over."""
        for key, *_ in list(self.storage.list(f"{self.prefix}/{name}")):
            path = self.work / f"kept-{name}"
            try:
                if self.storage.get(key, path) == key.rpartition("/")[2]:
                    return path
            except KeyError:
                continue  # published and removed meanwhile, by another attempt
            LOG.warning("%s: %s has another sha256 than its name says; making it again", self.title, key)
        return None

    def cache_file(self, name: str, write: Callable[[Path], None]) -> None:
        """Store the file that `write` fills, in the background; one that fails is logged."""
        self._finish()
        self._last = self._uploads.submit(self._store_file, name, write)

    def clear(self) -> None:
        """Remove all states of the stage: it is published."""
        self._finish()
        for key, *_ in list(self.storage.list(self.prefix)):
            self.storage.delete(key)

    def close(self) -> None:
        """Let the save that is under way end."""
        self._uploads.shutdown(wait=True)

    def _fetch(self, name: str) -> Path | None:
        folder = Path(tempfile.mkdtemp(prefix="state-", dir=self.work))
        try:
            marker = State.model_validate_json(self.storage.read(f"{self.prefix}/{name}/{_WHOLE}"))
            for file in marker.files:
                if self.storage.get(f"{self.prefix}/{name}/{file.path}", folder / file.path) != file.sha256:
                    raise ValueError(f"{file.path} has another sha256 than its marker says")
        except (KeyError, ValueError) as error:
            LOG.warning("%s: training state %s is not usable (%s); trying an older one", self.title, name, error)
            shutil.rmtree(folder)
            return None
        self.saved_step = marker.step
        return folder

    def _finish(self) -> None:
        if self._last is not None:
            try:
                self._last.result()
            except (FtjobsError, OSError) as error:
                LOG.warning("%s: training state was not saved: %s", self.title, error)
            self._last = None

    def _store(self, write: Callable[[Path], None], step: int, total: int) -> None:
        name = f"{step:012d}-{self.attempt}"
        with tempfile.TemporaryDirectory(prefix="state-", dir=self.work) as temporary:
            folder = Path(temporary)
            write(folder)
            if self.companion:
                self.companion.keep(folder)
            files = []
            for path in sorted(folder.iterdir()):
                sha256 = self.storage.put(path, f"{self.prefix}/{name}/{path.name}")
                files.append(FileEntry(path=path.name, size=path.stat().st_size, sha256=sha256))
            marker = State(step=step, total=total, files=files).model_dump_json().encode()
            self.storage.put_if_absent(marker, f"{self.prefix}/{name}/{_WHOLE}")
        for key, *_ in list(self.storage.list(self.prefix)):
            found = re.match(r"(\d+)-", key.removeprefix(f"{self.prefix}/"))
            if found and int(found[1]) < step:
                self.storage.delete(key)

    def _store_file(self, name: str, write: Callable[[Path], None]) -> None:
        with tempfile.TemporaryDirectory(prefix="kept-", dir=self.work) as temporary:
            path = Path(temporary, "file")
            write(path)
            self.storage.put(path, f"{self.prefix}/{name}/{digest(path)}")

    def _whole(self) -> list[str]:
        names = [key.removeprefix(f"{self.prefix}/").split("/") for key, *_ in self.storage.list(self.prefix)]
        return [parts[0] for parts in names if parts[1:] == [_WHOLE] and re.fullmatch(r"\d+-[0-9a-f]+", parts[0])]
