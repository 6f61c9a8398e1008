"""Comparison of an artifact's files with its manifest."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from ftjobs.artifacts.manifest import MANIFEST, FileEntry, Manifest, read_manifest
from ftjobs.errors import CorruptArtifact
from ftjobs.jobfile.local_files import digest
from ftjobs.storage import Storage, parallel_map

SHA256_MISMATCH = "has another sha256 than in its manifest"


def verify(storage: Storage, key: str) -> list[str]:
    """Read all files of a published artifact and return one line per problem.

    Args:
        storage: the store.
        key: key of an artifact that has a manifest, valid or not.
    """
    try:
        manifest = read_manifest(storage, f"{key}/{MANIFEST}")
    except CorruptArtifact as error:
        return error.problems

    def check(file: FileEntry) -> str | None:
        mismatch = _find_stored_mismatch(storage, manifest, file)
        return mismatch and f"{storage.uri(f'{manifest.folder}/{file.path}')} {mismatch}"

    problems = [problem for problem in parallel_map(storage, check, manifest.files) if problem]
    return problems + [f"{storage.uri(key)} is not in the manifest" for key in find_unlisted_keys(storage, manifest)]


def check_files(storage: Storage, manifest: Manifest, files: Sequence[FileEntry], folder: Path) -> None:
    """Check files of an artifact in a local store.

    Raises:
        CorruptArtifact: a file is missing, differs from the manifest, or is not listed in it.
    """
    refuse_unlisted_files(storage, manifest)

    def check(file: FileEntry) -> None:
        if mismatch := find_mismatch(folder / file.path, file):
            raise corrupt_file(storage.uri(f"{manifest.folder}/{file.path}"), mismatch)

    parallel_map(storage, check, files)


def find_mismatch(path: Path, file: FileEntry) -> str | None:
    """Describe how a local file differs from its entry in a manifest; None if it does not."""
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    if size != file.size:
        return f"has {size} bytes instead of {file.size}"
    if digest(path) != file.sha256:
        return SHA256_MISMATCH
    return None


def refuse_unlisted_files(storage: Storage, manifest: Manifest) -> None:
    """Raise CorruptArtifact if the attempt contains files that the manifest does not list: loaders might use them."""
    for key in find_unlisted_keys(storage, manifest):
        raise corrupt_file(storage.uri(key), "is not in the manifest")


def find_unlisted_keys(storage: Storage, manifest: Manifest) -> list[str]:
    """Return the keys of stored files of the attempt that the manifest does not list."""
    listed = {f"{manifest.folder}/{file.path}" for file in manifest.files}
    return [entry.key for entry in storage.list(manifest.folder) if entry.key not in listed]


def corrupt_file(uri: str, problem: str) -> CorruptArtifact:
    """Return the error for a stored file that does not match its manifest."""
    return CorruptArtifact(f"{uri} {problem}; no file of this artifact was used. Delete its folder to rerun the stage")


def _find_stored_mismatch(storage: Storage, manifest: Manifest, file: FileEntry) -> str | None:
    """Describe how a stored file differs from its entry, downloading it from a remote store."""
    key = f"{manifest.folder}/{file.path}"
    local = storage.local_path(key)
    if local is not None:
        return find_mismatch(local, file)
    with tempfile.TemporaryDirectory(prefix="ftjobs-") as folder:
        try:
            storage.get(key, Path(folder, "file"))
        except KeyError:
            return "is missing"
        return find_mismatch(Path(folder, "file"), file)
