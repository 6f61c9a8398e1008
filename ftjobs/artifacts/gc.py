"""Garbage collection: find and remove stored files that no stage or reader needs."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

from ftjobs.artifacts.manifest import KEY, MANIFEST, read_manifest
from ftjobs.errors import CorruptArtifact, UserError
from ftjobs.storage import IncompleteUpload, Storage, StoredObject, parallel_map

GarbageKind = Literal["attempt", "training state", "heartbeat", "incomplete upload"]

#: Folder next to a manifest -> kind of garbage in it.
_FOLDER_KINDS: dict[str, GarbageKind] = {"attempts": "attempt", "state": "training state"}
#: Files next to a manifest that running stages write (`ftjobs.execution.heartbeat`).
_HEARTBEAT = re.compile(r"running(-\d+)?\.json|failed\.json")


class Garbage(NamedTuple):
    """Stored files that can be removed together."""

    kind: GarbageKind
    key: str
    """Key of the folder or file."""
    files: Sequence[StoredObject | IncompleteUpload]

    @property
    def size(self) -> int | None:
        """Bytes; None for an incomplete upload whose size the store does not report."""
        sizes = [file.size for file in self.files if file.size is not None]
        return sum(sizes) if len(sizes) == len(self.files) else None

    @property
    def modified(self) -> datetime:
        """Time of the latest write to any of the files."""
        return max(file.modified for file in self.files)


def find_garbage(storage: Storage, older_than: timedelta, pipeline: str | None = None) -> Iterator[Garbage]:
    """Find garbage that has not been written to for `older_than`.

    Garbage is: attempts that no manifest refers to, training states and heartbeats of published stages, and incomplete
    uploads.
    """
    folders: dict[tuple[str, str], list[StoredObject]] = defaultdict(list)
    for entry in storage.list(pipeline or ""):
        if match := re.fullmatch(rf"(?P<key>{KEY})/(?P<path>.+)", entry.key):
            first, *others = match["path"].split("/")
            if first in _FOLDER_KINDS and len(others) > 1:
                folders[match["key"], f"{first}/{others[0]}"].append(entry)
            elif not others and _HEARTBEAT.fullmatch(first):
                folders[match["key"], first].append(entry)
    latest = datetime.now(UTC) - older_than
    for (artifact_key, folder), files in folders.items():
        kind = _FOLDER_KINDS.get(folder.partition("/")[0], "heartbeat")
        garbage = Garbage(kind, f"{artifact_key}/{folder}", files)
        if garbage.modified < latest and not _is_needed(storage, artifact_key, garbage):
            yield garbage
    for upload in storage.list_incomplete_uploads(pipeline or ""):
        if upload.modified < latest:
            yield Garbage("incomplete upload", upload.key, [upload])


def remove_garbage(storage: Storage, garbage: Garbage) -> bool:
    """Delete all files of `garbage`; return False, and delete nothing, if it has been published since."""
    if garbage.kind == "incomplete upload":
        for upload in garbage.files:
            if isinstance(upload, IncompleteUpload):
                storage.abort_upload(upload)
        return True
    artifact_key = re.match(KEY, garbage.key)
    if artifact_key is None or _is_needed(storage, artifact_key[0], garbage):
        return False
    parallel_map(storage, storage.delete, [file.key for file in garbage.files])
    return True


def _is_needed(storage: Storage, artifact_key: str, garbage: Garbage) -> bool:
    """Return True if the current manifest refers to the files, or cannot be read."""
    try:
        manifest = read_manifest(storage, f"{artifact_key}/{MANIFEST}")
    except KeyError:
        return garbage.kind != "attempt"  # the stage may still resume from its state, and `status` reads its heartbeat
    except CorruptArtifact:
        return True
    return garbage.key == manifest.folder


def parse_age(text: str) -> timedelta:
    """Parse an age such as `90s`, `30m`, `24h` or `7d`.

    Raises:
        UserError: the text has another form.
    """
    match = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if match is None:
        raise UserError(f"--older-than {text}: not an age; use a whole number with a unit, such as 30m, 24h or 7d")
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    return timedelta(**{units[match[2]]: int(match[1])})
