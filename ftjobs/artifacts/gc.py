"""Looking after a store: is what is stored still right, and what may be removed?"""

from __future__ import annotations

import re
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from ftjobs.artifacts.manifest import KEY, MANIFEST, FileEntry, Manifest, read_manifest
from ftjobs.artifacts.transfers import difference, extras
from ftjobs.errors import CorruptArtifact, UserError
from ftjobs.storage import Storage, Stored, Unfinished, in_parallel


def verify(storage: Storage, key: str) -> list[str]:
    """Read everything of a published artifact again; what is wrong with it, one line for each file.

    Args:
        storage: the store.
        key: of the artifact: it has a manifest, be it a broken one.
    """
    try:
        manifest = read_manifest(storage, f"{key}/{MANIFEST}")
    except CorruptArtifact as error:
        return error.problems

    def check(file: FileEntry) -> str | None:
        how = _stored_difference(storage, manifest, file)
        return how and f"{storage.uri(f'{manifest.folder}/{file.path}')} {how}"

    found = [problem for problem in in_parallel(storage, check, manifest.files) if problem]
    return found + [f"{storage.uri(key)} is not in the manifest" for key in extras(storage, manifest)]


def _stored_difference(storage: Storage, manifest: Manifest, file: FileEntry) -> str | None:
    key = f"{manifest.folder}/{file.path}"
    local = storage.local_path(key)
    if local is not None:
        return difference(local, file)
    with tempfile.TemporaryDirectory(prefix="ftjobs-") as folder:
        try:
            storage.get(key, Path(folder, "file"))
        except KeyError:
            return "is missing"
        return difference(Path(folder, "file"), file)


#: What lies in which folder of an artifact, and what running stages leave beside its manifest
#: (`ftjobs.execution.heartbeat`).
_KINDS = {"attempts": "attempt", "state": "training state"}
_SIGN = re.compile(r"running(-\d+)?\.json|failed\.json")


class Garbage(NamedTuple):
    """Something in storage that nobody will read."""

    what: str
    """`attempt`, `training state`, `sign of life` or `unfinished upload`."""
    folder: str
    """Its key."""
    files: Sequence[Stored | Unfinished]

    @property
    def size(self) -> int | None:
        """Bytes; None for an upload where the store does not say."""
        sizes = [file.size for file in self.files if file.size is not None]
        return sum(sizes) if len(sizes) == len(self.files) else None

    @property
    def modified(self) -> datetime:
        """When the youngest of its files was written."""
        return max(file.modified for file in self.files)


def dead(storage: Storage, older_than: timedelta, pipeline: str | None = None) -> Iterator[Garbage]:
    """Attempts that no manifest names, training states and signs of life of published stages, and uploads that were
    never finished, all untouched for longer than that."""
    folders: dict[tuple[str, str], list[Stored]] = defaultdict(list)
    for entry in storage.list(pipeline or ""):
        if match := re.fullmatch(rf"(?P<key>{KEY})/(?P<path>.+)", entry.key):
            first, *others = match["path"].split("/")
            if first in _KINDS and len(others) > 1:
                folders[match["key"], f"{first}/{others[0]}"].append(entry)
            elif not others and _SIGN.fullmatch(first):
                folders[match["key"], first].append(entry)
    latest = datetime.now(UTC) - older_than
    for (key, folder), files in folders.items():
        found = Garbage(_KINDS.get(folder.partition("/")[0], "sign of life"), f"{key}/{folder}", files)
        if found.modified < latest and not _is_needed(storage, key, found):
            yield found
    for upload in storage.unfinished(pipeline or ""):
        if upload.modified < latest:
            yield Garbage("unfinished upload", upload.key, [upload])


def remove(storage: Storage, found: Garbage) -> bool:
    """Delete all files of something dead; False if it is needed by now, for it was published after all."""
    if found.what == "unfinished upload":
        for upload in found.files:
            if isinstance(upload, Unfinished):
                storage.abandon(upload)
        return True
    key = re.match(KEY, found.folder)
    if key is None or _is_needed(storage, key[0], found):
        return False
    in_parallel(storage, storage.delete, [file.key for file in found.files])
    return True


def _is_needed(storage: Storage, key: str, found: Garbage) -> bool:
    """Asked of the manifest as it is now, and with nothing removed where it cannot be read."""
    try:
        manifest = read_manifest(storage, f"{key}/{MANIFEST}")
    except KeyError:
        return found.what != "attempt"  # its stage may go on from it, or tells `status` of itself
    except CorruptArtifact:
        return True
    return found.folder == manifest.folder


def age(text: str) -> timedelta:
    """`90s`, `30m`, `24h` or `7d` as a time span.

    Raises:
        UserError: anything else.
    """
    match = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if match is None:
        raise UserError(f"--older-than {text}: is no age; give a whole number with a unit, such as 30m, 24h or 7d")
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    return timedelta(**{units[match[2]]: int(match[1])})
