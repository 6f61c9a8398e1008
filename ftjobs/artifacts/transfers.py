"""One artifact's files from storage, every one checked against the manifest."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ftjobs.artifacts.manifest import FileEntry, Manifest
from ftjobs.errors import CorruptArtifact
from ftjobs.jobfile.local_files import digest
from ftjobs.storage import Advance, Storage, in_parallel
from ftjobs.storage.protocol import quietly
from ftjobs.system.progress import LOG, track

_TRIES = 3
_OTHER_SHA256 = "has another sha256 than its manifest says"


def copy_files(
    storage: Storage, manifest: Manifest, files: Sequence[FileEntry], target: Callable[[FileEntry], Path]
) -> None:
    """Fetch files to where `target` says, in parallel; those that are there already, and right, are kept.

    Raises:
        CorruptArtifact: a stored file is missing or differs from the manifest, or there is one that it does not name.
    """
    refuse_extras(storage, manifest)
    title = f"{manifest.stage} seed {manifest.seed}: fetching"
    with bytes_shown(title, sum(file.size for file in files)) as advance:

        def copy(file: FileEntry) -> None:
            if difference(target(file), file):
                copy_file(storage, manifest, file, target(file), advance)
            else:
                advance(file.size)

        in_parallel(storage, copy, files)


def copy_file(storage: Storage, manifest: Manifest, file: FileEntry, path: Path, advance: Advance = quietly) -> None:
    """Fetch one file and check it; one that was damaged on the way is fetched again."""
    key = f"{manifest.folder}/{file.path}"
    uri = storage.uri(key)
    for tried in range(1, _TRIES + 1):
        try:
            sha256 = storage.get(key, path, advance)
        except KeyError:
            raise corrupt(uri, "is missing") from None
        if sha256 == file.sha256:
            return
        size = path.stat().st_size
        path.unlink()
        how = f"has {size} bytes instead of {file.size}" if size != file.size else _OTHER_SHA256
        if tried == _TRIES or storage.local_path(key) is not None:
            break
        LOG.warning("%s %s; fetching it again", uri, how)
    raise corrupt(uri, how)


def check_files(storage: Storage, manifest: Manifest, files: Sequence[FileEntry], folder: Path) -> None:
    """Check files of an artifact where they lie, in a local store."""
    refuse_extras(storage, manifest)

    def check(file: FileEntry) -> None:
        if how := difference(folder / file.path, file):
            raise corrupt(storage.uri(f"{manifest.folder}/{file.path}"), how)

    in_parallel(storage, check, files)


def difference(path: Path, file: FileEntry) -> str | None:
    """How a local file differs from its entry in a manifest; None if it does not."""
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    if size != file.size:
        return f"has {size} bytes instead of {file.size}"
    if digest(path) != file.sha256:
        return _OTHER_SHA256
    return None


def extras(storage: Storage, manifest: Manifest) -> list[str]:
    """Keys of stored files beside an artifact's own that its manifest does not name."""
    named = {f"{manifest.folder}/{file.path}" for file in manifest.files}
    return [entry.key for entry in storage.list(manifest.folder) if entry.key not in named]


def refuse_extras(storage: Storage, manifest: Manifest) -> None:
    """Raise CorruptArtifact if there are files that the manifest does not name: a reader might take them for part."""
    for key in extras(storage, manifest):
        raise corrupt(storage.uri(key), "is not in the manifest")


def corrupt(uri: str, how: str) -> CorruptArtifact:
    """The error that says what is wrong with a stored file."""
    return CorruptArtifact(
        f"{uri} {how}; nothing of this artifact was used. Delete its folder to have the stage run again"
    )


@contextmanager
def bytes_shown(title: str, total: int) -> Iterator[Advance]:
    """Show the progress of a transfer; what it gives may be called from several threads."""
    lock = threading.Lock()
    with track(title, total, in_bytes=True) as advance:

        def add(count: int) -> None:
            with lock:
                advance(count, "")

        yield add
