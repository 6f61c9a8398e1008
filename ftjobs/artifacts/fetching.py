"""Reading artifacts: for a stage, for a user, or one text of one."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ftjobs.artifacts.manifest import Manifest
from ftjobs.artifacts.transfers import check_files, copy_file, copy_files, corrupt
from ftjobs.errors import CorruptArtifact, FtjobsError, UserError
from ftjobs.storage import Storage


def fetch(storage: Storage, manifest: Manifest, work: Path, *, without: Sequence[str] = ()) -> Path:
    """A local folder with the artifact's files, every sha256 checked; copied into `work` unless the store is local.

    Files whose path begins with one of `without` are neither copied nor checked.
    """
    files = [file for file in manifest.files if not file.path.startswith(tuple(without))]
    folder = storage.local_path(manifest.folder)
    if folder is None:
        folder = work / manifest.folder
        copied = folder
        copy_files(storage, manifest, files, lambda file: copied / file.path)
    else:
        check_files(storage, manifest, files, folder)
    return folder


def read_text(storage: Storage, manifest: Manifest, path: str) -> str:
    """One small text file of an artifact, its sha256 checked."""
    with tempfile.TemporaryDirectory(prefix="ftjobs-") as folder:
        for file in manifest.files:
            if file.path == path:
                copy_file(storage, manifest, file, Path(folder, "file"))
                return Path(folder, "file").read_text(encoding="utf-8")
    raise corrupt(f"{storage.uri(manifest.folder)}/{path}", "is not in the manifest")


def pull(storage: Storage, manifest: Manifest, destination: Path, *, everything: bool = False) -> None:
    """Copy an artifact's checkpoint (or, without one or with `everything`, all its files) to a new folder.

    Files are copied and checked in a temporary sibling, which is then renamed: the folder appears whole or not at all.
    The sibling is named after the artifact and stays when the copying is cut short, so that the next pull goes on.

    Raises:
        UserError: the destination exists.
        FtjobsError: another pull to the same destination is running.
        CorruptArtifact: a stored file is missing or differs from the manifest.
    """
    _refuse_existing(destination)
    for parent in destination.parents:
        if os.path.isfile(parent):
            raise UserError(f"{destination}: {parent} is a file; give a folder that does not exist yet")
    model = [file for file in manifest.files if file.path.startswith("model/")]
    files = manifest.files if everything or not model else model
    prefix = "" if files is manifest.files else "model/"
    temporary = destination.parent / f".{destination.name}.{manifest.identity[:12]}"
    temporary.mkdir(parents=True, exist_ok=True)
    with _locked(temporary, destination):
        _refuse_existing(destination)  # by a pull that has ended since
        paths = {file.path: temporary / file.path.removeprefix(prefix) for file in files}
        try:
            copy_files(storage, manifest, files, lambda file: paths[file.path])
        except CorruptArtifact:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        _remove_others(temporary, set(paths.values()))
        temporary.rename(destination)


def _refuse_existing(destination: Path) -> None:
    if os.path.lexists(destination):
        raise UserError(f"{destination} exists already; give a folder that does not")


@contextmanager
def _locked(folder: Path, destination: Path) -> Iterator[None]:
    """Hold a folder for this process alone; the system lets go of it when the process ends, however it does."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FtjobsError(f"{destination}: another pull is filling it; wait until it has ended") from None
        except OSError:
            pass  # a file system without locks, as some clusters have; two pulls at once are rare
        yield
    finally:
        os.close(handle)


def _remove_others(folder: Path, wanted: set[Path]) -> None:
    """Remove what an earlier pull that was cut short, or pulled more, has left in the temporary folder."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in wanted:
            path.unlink()
