"""Artifacts: what a stage publishes, all at once and for good.

Files go to a fresh attempt; then the manifest, which names every file with size and sha256, is put alone and last,
if absent. Readers trust the manifest only and check every digest, so nobody ever uses part of an artifact.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator

from ftjobs.errors import CorruptArtifact, InputsNotPublished, UserError
from ftjobs.jobfile.fields import Fields
from ftjobs.jobfile.localfiles import digest
from ftjobs.plan import StageRun
from ftjobs.storage import Storage

MANIFEST = "manifest.json"


class FileEntry(Fields):
    """One file of an artifact."""

    path: str
    size: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    @field_validator("path")
    @classmethod
    def _inside(cls, path: str) -> str:
        pure = PurePosixPath(path)
        plain = pure.as_posix() == path and not pure.is_absolute()  # `model//x` less `model/` would be absolute
        if not plain or path == "." or ".." in pure.parts or "\\" in path or "\0" in path:
            raise ValueError(f"{path!r} does not stay inside the artifact")
        return path


class Manifest(Fields):
    """The object whose existence means "published"."""

    version: Literal[1] = 1
    pipeline: str
    stage: str
    kind: str
    seed: int
    identity: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    attempt: Annotated[str, Field(pattern=r"^[0-9a-z-]{1,64}$")]
    settings: dict[str, Any]
    inputs: dict[str, str]
    """Role -> identity of each artifact that was read."""
    metrics: dict[str, Any]
    environment: dict[str, str]
    files: list[FileEntry]

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)

    @property
    def key(self) -> str:
        """Where the artifact lives in storage."""
        return f"{self.pipeline}/{self.stage}/seed-{self.seed}/{self.identity[:12]}"

    @property
    def folder(self) -> str:
        """Key of the folder that holds the files."""
        return f"{self.key}/attempts/{self.attempt}"


def publish(
    storage: Storage, run: StageRun, folder: Path, metrics: dict[str, Any], environment: dict[str, str]
) -> Manifest:
    """Publish every file of `folder` as the artifact of `run`.

    Returns the published manifest: this one, or the one of whoever published the same identity first.
    """
    files = [
        FileEntry(path=path.relative_to(folder).as_posix(), size=path.stat().st_size, sha256=digest(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    manifest = Manifest(
        pipeline=run.pipeline,
        stage=run.stage,
        kind=run.kind,
        seed=run.seed,
        identity=run.identity,
        attempt=secrets.token_hex(8),  # a name only: nothing is computed from it
        settings=run.settings.model_dump(mode="json"),
        inputs={role: read.identity for role, read in run.inputs.items()},
        metrics=metrics,
        environment=environment,
        files=files,
    )
    for file in files:
        storage.put(folder / file.path, f"{manifest.folder}/{file.path}")
    stored = dict(storage.list(manifest.folder))
    for file in files:
        if stored.get(f"{manifest.folder}/{file.path}") != file.size:
            raise CorruptArtifact(f"{storage.uri(manifest.folder)}/{file.path}: not stored whole; run the stage again")
    if not storage.put_if_absent(manifest.model_dump_json(indent=1).encode(), f"{run.key}/{MANIFEST}"):
        for file in files:  # somebody else published first; theirs counts
            storage.delete(f"{manifest.folder}/{file.path}")
    return _read_manifest(storage, f"{run.key}/{MANIFEST}")


def find(storage: Storage, run: StageRun) -> Manifest | None:
    """The manifest of a stage's artifact, None if it is not published.

    Raises:
        CorruptArtifact: there is a manifest, but not a valid one, or one of another identity.
    """
    key = f"{run.key}/{MANIFEST}"
    try:
        manifest = _read_manifest(storage, key)
    except KeyError:
        return None
    if manifest.identity != run.identity:
        raise CorruptArtifact(f"{storage.uri(key)}: belongs to identity {manifest.identity}, not {run.identity}")
    return manifest


def require(storage: Storage, run: StageRun) -> Manifest:
    """The manifest of a stage's artifact.

    Raises:
        InputsNotPublished: the stage has not published.
    """
    manifest = find(storage, run)
    if manifest is None:
        raise InputsNotPublished(f"{run.title} is not published at {storage.uri(run.key)}; run it first")
    return manifest


def fetch(storage: Storage, manifest: Manifest, work: Path) -> Path:
    """A local folder with the artifact's files, every sha256 checked; copied into `work` unless the store is local."""
    local = storage.local_path(manifest.folder)
    if local is None:
        local = work / manifest.folder
        for file in manifest.files:
            _copy(storage, manifest, file, local / file.path)
    else:
        for file in manifest.files:
            _check(local / file.path, file, storage.uri(f"{manifest.folder}/{file.path}"))
    return local


def read_text(storage: Storage, manifest: Manifest, path: str) -> str:
    """One small text file of an artifact, its sha256 checked."""
    with tempfile.TemporaryDirectory(prefix="ftjobs-") as folder:
        for file in manifest.files:
            if file.path == path:
                _copy(storage, manifest, file, Path(folder, "file"))
                return Path(folder, "file").read_text(encoding="utf-8")
    raise CorruptArtifact(_differs(f"{storage.uri(manifest.folder)}/{path}", "is not in the manifest"))


def pull(storage: Storage, manifest: Manifest, destination: Path, *, everything: bool = False) -> None:
    """Copy an artifact's checkpoint (or, without one or with `everything`, all its files) to a new folder.

    Files are copied and checked in a temporary sibling, which is then renamed: the folder appears whole or not at all.

    Raises:
        UserError: the destination exists.
        CorruptArtifact: a stored file is missing or differs from the manifest.
    """
    if os.path.lexists(destination):
        raise UserError(f"{destination} exists already; give a folder that does not")
    for parent in destination.parents:
        if os.path.isfile(parent):
            raise UserError(f"{destination}: {parent} is a file; give a folder that does not exist yet")
    model = [file for file in manifest.files if file.path.startswith("model/")]
    files = manifest.files if everything or not model else model
    prefix = "" if files is manifest.files else "model/"
    destination.parent.mkdir(parents=True, exist_ok=True)
    temporary = destination.parent / f".{destination.name}.{secrets.token_hex(4)}"
    try:
        for file in files:
            _copy(storage, manifest, file, temporary / file.path.removeprefix(prefix))
        temporary.rename(destination)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def listing(storage: Storage, pipeline: str | None = None) -> Iterator[Manifest]:
    """Every published artifact, of one pipeline or of all, in the order of their keys."""
    for key, _ in storage.list(pipeline or ""):
        if re.fullmatch(r"[^/]+/[^/]+/seed-\d+/[0-9a-f]{12}/manifest\.json", key):
            yield _read_manifest(storage, key)


def _read_manifest(storage: Storage, key: str) -> Manifest:
    data = storage.read(key)
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the whole file"
        raise CorruptArtifact(
            f"{storage.uri(key)}: no valid manifest ({place}: {first['msg']}); "
            "delete its folder to have the stage run again, or use a newer ftjobs"
        ) from error
    if f"{manifest.key}/{MANIFEST}" != key:
        raise CorruptArtifact(
            f"{storage.uri(key)}: is the manifest of {manifest.key}; move it back or delete its folder"
        )
    return manifest


def _copy(storage: Storage, manifest: Manifest, file: FileEntry, target: Path) -> None:
    key = f"{manifest.folder}/{file.path}"
    try:
        storage.get(key, target)
    except KeyError:
        raise CorruptArtifact(_differs(storage.uri(key), "is missing")) from None
    _check(target, file, storage.uri(key))


def _check(path: Path, file: FileEntry, uri: str) -> None:
    if not path.is_file():
        raise CorruptArtifact(_differs(uri, "is missing"))
    size = path.stat().st_size
    if size != file.size:
        raise CorruptArtifact(_differs(uri, f"has {size} bytes instead of {file.size}"))
    if digest(path) != file.sha256:
        raise CorruptArtifact(_differs(uri, "has another sha256 than its manifest says"))


def _differs(uri: str, how: str) -> str:
    return f"{uri} {how}; nothing of this artifact was used. Delete its folder to have the stage run again"
