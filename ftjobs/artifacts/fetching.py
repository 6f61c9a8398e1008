"""Reading artifacts: all files for a stage, a checkpoint for a user, or a single text file."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ftjobs.artifacts.manifest import FileEntry, Manifest
from ftjobs.artifacts.verification import (
    SHA256_MISMATCH,
    check_files,
    corrupt_file,
    find_mismatch,
    refuse_unlisted_files,
)
from ftjobs.errors import CorruptArtifact, FtjobsError, UserError
from ftjobs.storage import ProgressCallback, Storage, parallel_map
from ftjobs.storage.interface import ignore_progress
from ftjobs.system.progress import LOG, track

_MAX_DOWNLOAD_TRIES = 3


def fetch(storage: Storage, manifest: Manifest, work: Path, *, without: Sequence[str] = ()) -> Path:
    """Return a local folder with the verified files of an artifact, downloaded to `work` unless the store is local.

    Files whose path begins with one of `without` are neither downloaded nor verified.
    """
    files = [file for file in manifest.files if not file.path.startswith(tuple(without))]
    folder = storage.local_path(manifest.folder)
    if folder is None:
        folder = work / manifest.folder
        target = folder
        _download_files(storage, manifest, files, lambda file: target / file.path)
    else:
        check_files(storage, manifest, files, folder)
    return folder


def read_text(storage: Storage, manifest: Manifest, path: str) -> str:
    """Return the content of a small text file of an artifact, verified."""
    with tempfile.TemporaryDirectory(prefix="ftjobs-") as folder:
        for file in manifest.files:
            if file.path == path:
                _download_file(storage, manifest, file, Path(folder, "file"))
                return Path(folder, "file").read_text(encoding="utf-8")
    raise corrupt_file(f"{storage.uri(manifest.folder)}/{path}", "is not in the manifest")


def pull(storage: Storage, manifest: Manifest, destination: Path, *, everything: bool = False) -> None:
    """Copy an artifact's checkpoint to a new folder; all files if it has no checkpoint, or with `everything`.

    Files are downloaded to a temporary sibling folder, verified, and the folder is renamed, so the destination appears
    atomically. The temporary folder is named after the artifact and survives an interruption, so that the next pull
    resumes.

    Raises:
        UserError: the destination exists.
        FtjobsError: another pull to the same destination is running.
        CorruptArtifact: a stored file is missing or differs from the manifest.
    """
    _refuse_existing(destination)
    for parent in destination.parents:
        if os.path.isfile(parent):
            raise UserError(f"{destination}: {parent} is a file; choose a new folder")
    model_files = [file for file in manifest.files if file.path.startswith("model/")]
    files = manifest.files if everything or not model_files else model_files
    prefix = "" if files is manifest.files else "model/"
    temporary = destination.parent / f".{destination.name}.{manifest.identity[:12]}"
    temporary.mkdir(parents=True, exist_ok=True)
    with _locked(temporary, destination):
        _refuse_existing(destination)  # created by a pull that has completed since
        paths = {file.path: temporary / file.path.removeprefix(prefix) for file in files}
        try:
            _download_files(storage, manifest, files, lambda file: paths[file.path])
        except CorruptArtifact:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        _remove_other_files(temporary, set(paths.values()))
        temporary.rename(destination)


@contextmanager
def transfer_progress(title: str, total_bytes: int) -> Iterator[ProgressCallback]:
    """Show the progress of a transfer; the callback is thread-safe."""
    lock = threading.Lock()
    with track(title, total_bytes, in_bytes=True) as advance:

        def add(byte_count: int) -> None:
            with lock:
                advance(byte_count, "")

        yield add


def _download_files(
    storage: Storage, manifest: Manifest, files: Sequence[FileEntry], target: Callable[[FileEntry], Path]
) -> None:
    """Download files to the paths that `target` returns, in parallel; existing files that match are kept.

    Raises:
        CorruptArtifact: a stored file is missing, differs from the manifest, or is not listed in it.
    """
    refuse_unlisted_files(storage, manifest)
    title = f"{manifest.stage} seed {manifest.seed}: fetching"
    with transfer_progress(title, sum(file.size for file in files)) as progress:

        def download(file: FileEntry) -> None:
            if find_mismatch(target(file), file):
                _download_file(storage, manifest, file, target(file), progress)
            else:
                progress(file.size)

        parallel_map(storage, download, files)


def _download_file(
    storage: Storage, manifest: Manifest, file: FileEntry, path: Path, progress: ProgressCallback = ignore_progress
) -> None:
    """Download and verify one file, again if it was damaged in transit."""
    key = f"{manifest.folder}/{file.path}"
    uri = storage.uri(key)
    for tries in range(1, _MAX_DOWNLOAD_TRIES + 1):
        try:
            sha256 = storage.get(key, path, progress)
        except KeyError:
            raise corrupt_file(uri, "is missing") from None
        if sha256 == file.sha256:
            return
        size = path.stat().st_size
        path.unlink()
        mismatch = f"has {size} bytes instead of {file.size}" if size != file.size else SHA256_MISMATCH
        if tries == _MAX_DOWNLOAD_TRIES or storage.local_path(key) is not None:
            break
        LOG.warning("%s %s; downloading it again", uri, mismatch)
    raise corrupt_file(uri, mismatch)


def _refuse_existing(destination: Path) -> None:
    if os.path.lexists(destination):
        raise UserError(f"{destination}: already exists; choose a new folder")


@contextmanager
def _locked(folder: Path, destination: Path) -> Iterator[None]:
    """Lock a folder for this process; the system releases the lock when the process ends, even by SIGKILL."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FtjobsError(f"{destination}: another pull to this folder is running; wait until it ends") from None
        except OSError:
            pass  # the file system supports no locks, as on some clusters; concurrent pulls are rare
        yield
    finally:
        os.close(handle)


def _remove_other_files(folder: Path, keep: set[Path]) -> None:
    """Remove leftovers of an earlier pull that was interrupted, or that pulled more files."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in keep:
            path.unlink()
