"""Manifests: the objects whose existence means that an artifact is published."""

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
#: Key of an artifact: pipeline, stage, seed, and the first 12 digits of the identity.
KEY = r"[^/]+/[^/]+/seed-\d+/[0-9a-f]{12}"
_SHA256_PATTERN = r"^[0-9a-f]{64}$"
_MAX_READS = 3


class FileEntry(Fields):
    """One file of an artifact."""

    path: str
    size: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=_SHA256_PATTERN)]

    @field_validator("path")
    @classmethod
    def _stays_inside_the_artifact(cls, path: str) -> str:
        pure = PurePosixPath(path)
        plain = pure.as_posix() == path and not pure.is_absolute()  # `model//x` without `model/` would be absolute
        if not plain or path == "." or ".." in pure.parts or "\\" in path or "\0" in path:
            raise ValueError(f"{path!r} is outside the artifact")
        return path


class Manifest(Fields):
    """Description of a published artifact, stored as `manifest.json` next to its attempts."""

    version: Literal[1] = 1
    pipeline: str
    stage: str
    kind: str
    seed: int
    identity: Annotated[str, Field(pattern=_SHA256_PATTERN)]
    attempt: Annotated[str, Field(pattern=r"^[0-9a-z-]{1,64}$")]
    settings: dict[str, Any]
    inputs: dict[str, str]
    """Role -> identity of each artifact that the stage read."""
    metrics: dict[str, Any]
    environment: dict[str, str]
    files: list[FileEntry]
    sha256: Annotated[str, Field(pattern=_SHA256_PATTERN)] | None = None
    """Digest of all other fields, which detects damage in the store or in transit. Set by `to_json`."""

    def to_json(self) -> bytes:
        """Serialize the manifest for storage, with its sha256."""
        sha256 = compute_sha256(self.model_dump_json().encode())
        return self.model_copy(update={"sha256": sha256}).model_dump_json(indent=1).encode()

    @property
    def size(self) -> int:
        """Total bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def key(self) -> str:
        """Key of the artifact in storage."""
        return artifact_key(self.pipeline, self.stage, self.seed, self.identity)

    @property
    def folder(self) -> str:
        """Key of the attempt's folder, which holds the files."""
        return f"{self.key}/attempts/{self.attempt}"


def find_manifest(storage: Storage, run: StageRun) -> Manifest | None:
    """Return the manifest of a stage's artifact, or None if it is not published.

    Raises:
        CorruptArtifact: the manifest is invalid or belongs to another identity.
    """
    key = f"{run.key}/{MANIFEST}"
    try:
        manifest = read_manifest(storage, key)
    except KeyError:
        return None
    if manifest.identity != run.identity:
        raise CorruptArtifact(f"{storage.uri(key)}: belongs to identity {manifest.identity}, not {run.identity}")
    return manifest


def require_manifest(storage: Storage, run: StageRun) -> Manifest:
    """Return the manifest of a stage's artifact.

    Raises:
        InputsNotPublished: the artifact is not published.
    """
    manifest = find_manifest(storage, run)
    if manifest is None:
        raise InputsNotPublished(f"{run.title} is not published at {storage.uri(run.key)}; run it first")
    return manifest


def resolve_uri(uri: str) -> tuple[Storage, Manifest]:
    """Return the store and the manifest for the address of an artifact, as `ls` prints it.

    Raises:
        UserError: the address is not that of a published artifact.
    """
    match = re.fullmatch(rf"(?P<store>.*?)/?(?P<key>{KEY})(/{MANIFEST}|/attempts(/[^/]+)?)?/?", uri)
    if match is None:
        raise UserError(f"{uri}: not the address of an artifact; `ftjobs ls` lists all addresses")
    storage = open_storage(match["store"] or ("/" if uri.startswith("/") else "."))
    try:
        return storage, read_manifest(storage, f"{match['key']}/{MANIFEST}")
    except KeyError:
        raise UserError(f"{uri}: no artifact is published there; `ftjobs ls` lists all addresses") from None


def list_manifests(storage: Storage, pipeline: str | None = None) -> Iterator[Manifest]:
    """Yield the manifests of all published artifacts, or of one pipeline's, sorted by key."""
    for key in list_keys(storage, pipeline):
        yield read_manifest(storage, f"{key}/{MANIFEST}")


def list_keys(storage: Storage, pipeline: str | None = None) -> list[str]:
    """Return the keys of all artifacts that have a manifest, valid or not."""
    manifests = re.compile(rf"({KEY})/{re.escape(MANIFEST)}")
    return [match[1] for entry in storage.list(pipeline or "") if (match := manifests.fullmatch(entry.key))]


def read_manifest(storage: Storage, key: str) -> Manifest:
    """Read and validate a manifest; it is read again if it was damaged in transit.

    Raises:
        KeyError: the key does not exist.
        CorruptArtifact: the manifest is invalid, has a later version, or belongs to another artifact.
    """
    for _ in range(1 if storage.local_path(key) is not None else _MAX_READS):
        try:
            return _parse(storage.read(key), key, storage.uri(key))
        except CorruptArtifact as error:
            corrupt = error
    raise corrupt


def _parse(data: bytes, key: str, uri: str) -> Manifest:
    remedy = "delete its folder to rerun the stage"
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        field = ".".join(map(str, problem["loc"])) or "the whole file"
        raise CorruptArtifact(
            f"{uri}: invalid manifest ({field}: {problem['msg']}); {remedy}, or use a newer ftjobs"
        ) from error
    if f"{manifest.key}/{MANIFEST}" != key:
        raise CorruptArtifact(f"{uri}: this is the manifest of {manifest.key}; move it back or delete its folder")
    if manifest.sha256 != compute_sha256(data):
        raise CorruptArtifact(f"{uri}: its content does not match its own sha256; {remedy}")
    return manifest


def compute_sha256(manifest: bytes) -> str:
    """Return the sha256 of all fields of a serialized manifest except `sha256`, independent of whitespace and order."""
    fields = json.loads(manifest)
    fields.pop("sha256", None)
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
