"""Manifests: what says that an artifact is published, and how to find them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator

from ftjobs.errors import CorruptArtifact, InputsNotPublished, UserError
from ftjobs.jobfile.fields import Fields
from ftjobs.plan import StageRun, artifact_key
from ftjobs.storage import Storage, open_storage

MANIFEST = "manifest.json"
#: Key of an artifact: pipeline, stage, seed, beginning of the identity.
KEY = r"[^/]+/[^/]+/seed-\d+/[0-9a-f]{12}"
_HEX_SHA256 = r"^[0-9a-f]{64}$"
_TRIES = 3


class FileEntry(Fields):
    """One file of an artifact."""

    path: str
    size: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=_HEX_SHA256)]

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
    identity: Annotated[str, Field(pattern=_HEX_SHA256)]
    attempt: Annotated[str, Field(pattern=r"^[0-9a-z-]{1,64}$")]
    settings: dict[str, Any]
    inputs: dict[str, str]
    """Role -> identity of each artifact that was read."""
    metrics: dict[str, Any]
    environment: dict[str, str]
    files: list[FileEntry]
    sha256: Annotated[str, Field(pattern=_HEX_SHA256)] | None = None
    """Of everything else in the manifest: no figure changes unnoticed, in the store or on the way. See `sealed`."""

    def sealed(self) -> bytes:
        """The manifest as it is stored, with its sha256."""
        sha256 = sha256_of(self.model_dump_json().encode())
        return self.model_copy(update={"sha256": sha256}).model_dump_json(indent=1).encode()

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)

    @property
    def key(self) -> str:
        """Where the artifact lives in storage."""
        return artifact_key(self.pipeline, self.stage, self.seed, self.identity)

    @property
    def folder(self) -> str:
        """Key of the folder that holds the files."""
        return f"{self.key}/attempts/{self.attempt}"


def find(storage: Storage, run: StageRun) -> Manifest | None:
    """The manifest of a stage's artifact, None if it is not published.

    Raises:
        CorruptArtifact: there is a manifest, but not a valid one, or one of another identity.
    """
    key = f"{run.key}/{MANIFEST}"
    try:
        manifest = read_manifest(storage, key)
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


def at(uri: str) -> tuple[Storage, Manifest]:
    """The store and the manifest of the artifact at an address, as `ls` prints it.

    Raises:
        UserError: it is no address of an artifact, or there is none.
    """
    match = re.fullmatch(rf"(?P<store>.*?)/?(?P<key>{KEY})(/{MANIFEST}|/attempts(/[^/]+)?)?/?", uri)
    if match is None:
        raise UserError(f"{uri}: is no address of an artifact; `ftjobs ls` prints those there are")
    storage = open_storage(match["store"] or ("/" if uri.startswith("/") else "."))
    try:
        return storage, read_manifest(storage, f"{match['key']}/{MANIFEST}")
    except KeyError:
        raise UserError(f"{uri}: nothing is published there; `ftjobs ls` prints what is") from None


def listing(storage: Storage, pipeline: str | None = None) -> Iterator[Manifest]:
    """Every published artifact, of one pipeline or of all, in the order of their keys."""
    for key in published(storage, pipeline):
        yield read_manifest(storage, f"{key}/{MANIFEST}")


def published(storage: Storage, pipeline: str | None = None) -> list[str]:
    """Keys of the artifacts that have a manifest, valid or not."""
    manifests = re.compile(rf"({KEY})/{re.escape(MANIFEST)}")
    return [match[1] for entry in storage.list(pipeline or "") if (match := manifests.fullmatch(entry.key))]


def read_manifest(storage: Storage, key: str) -> Manifest:
    """The manifest stored under `key`; one that was damaged on the way is read again.

    Raises:
        KeyError: there is none.
        CorruptArtifact: it is not valid, of a later version, or that of another artifact.
    """
    for _ in range(1 if storage.local_path(key) is not None else _TRIES):
        try:
            return _checked(storage.read(key), key, storage.uri(key))
        except CorruptArtifact as error:
            corrupt = error
    raise corrupt


def _checked(data: bytes, key: str, uri: str) -> Manifest:
    way_out = "delete its folder to have the stage run again"
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the whole file"
        raise CorruptArtifact(
            f"{uri}: no valid manifest ({place}: {first['msg']}); {way_out}, or use a newer ftjobs"
        ) from error
    if f"{manifest.key}/{MANIFEST}" != key:
        raise CorruptArtifact(f"{uri}: is the manifest of {manifest.key}; move it back or delete its folder")
    if manifest.sha256 != sha256_of(data):
        raise CorruptArtifact(f"{uri}: has another sha256 than it says of itself; {way_out}")
    return manifest


def sha256_of(manifest: bytes) -> str:
    """What a stored manifest has to say in `sha256`: that of all its other fields, however the JSON is laid out."""
    fields = json.loads(manifest)
    fields.pop("sha256", None)
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
