"""Data and encoders that a job names in object storage, copied to local files for the stage that reads them.

The bucket that a job's data lies in need not be the one that its artifacts go to. No manifest says what is right, so
a copy counts if the store's own digest agrees, or if a second copy comes out the same.
"""

from __future__ import annotations

import fnmatch
import glob
import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from ftjobs.errors import FtjobsError, UserError
from ftjobs.jobfile import local_files
from ftjobs.jobfile.fields import Data, Encoder
from ftjobs.plan import DataStage, Prepare
from ftjobs.storage import Storage, open_storage
from ftjobs.system.progress import LOG

_SCHEME = "s3://"
_TRIES = 3
_NOTHING_THERE = "correct the address (an object, a prefix, or a pattern)"


def local_copies(settings: Prepare | DataStage, work: Path) -> Prepare | DataStage:
    """The settings with every `s3://` address replaced by a local copy of what lies there.

    Raises:
        UserError: nothing lies there, or it may not be read.
        FtjobsError: the store does not answer.
    """
    if isinstance(settings, DataStage):
        return DataStage(
            stage=settings.stage, data=_copied(settings.data, f"stages.{settings.stage}.data.source", work)
        )
    data, encoder = _copied(settings.data, "data.source", work), settings.encoder
    if encoder.model is not None:
        encoder = Encoder(model=local_copy(encoder.model, "encoder.model", work), revision=encoder.revision)
    return Prepare(encoder=encoder, data=data)


def _copied(data: Data, field: str, work: Path) -> Data:
    if isinstance(data.source, dict):
        copied: str | dict[str, str] = {
            split: local_copy(one, f"{field}.{split}", work) for split, one in data.source.items()
        }
    else:
        copied = local_copy(data.source, field, work)
    return Data.model_validate({**data.model_dump(exclude_unset=True), "source": copied})


def local_copy(address: str, field: str, work: Path) -> str:
    """Where the copy of `address` lies: a file for an object, a folder for a prefix or a pattern."""
    if not address.startswith(_SCHEME):
        return address
    storage, path = _place(address)
    copies = _copies(work, address)
    LOG.info("%s: fetching %s", field, address)
    if glob.has_magic(path):
        folder, keys = _matching(storage, path)
        return _copy(storage, keys, folder, copies, field, address)
    try:
        name = path.rpartition("/")[2]
        _copy_file(storage, path, copies / name)
        return str(copies / name)
    except KeyError:
        keys = [key for key, *_ in storage.list(path)]
        return _copy(storage, keys, path, copies, field, address)


def files_at(address: str, field: str, work: Path) -> list[tuple[str, AbstractContextManager[Path]]]:
    """The data files at an address in the order of their names: the name of each, and a context in which a copy of it
    exists. So of a source that is larger than this machine one file is here at a time.

    Raises:
        UserError: no data file lies there, or it may not be read; of an address that is no folder, its context does.
    """
    storage, path = _place(address)
    nothing = f"{field}: no data file lies at {address}; {_NOTHING_THERE}"
    if glob.has_magic(path):
        folder, keys = _matching(storage, path)
        if not keys:
            raise UserError(nothing)
    else:
        keys = [key for key, *_ in storage.list(path) if local_files.is_data(key.removeprefix(path).lstrip("/"))]
        folder = path if keys else path.rpartition("/")[0]
        keys = keys or [path]
    copies = _copies(work, address)
    names = {key: key.removeprefix(folder).lstrip("/") for key in sorted(keys)}
    return [(name, _copied_meanwhile(storage, key, copies / name, nothing)) for key, name in names.items()]


@contextmanager
def _copied_meanwhile(storage: Storage, key: str, path: Path, nothing: str) -> Iterator[Path]:
    LOG.info("fetching %s", storage.uri(key))
    try:
        _copy_file(storage, key, path)
    except KeyError:
        raise UserError(nothing) from None
    try:
        yield path
    finally:
        path.unlink()


def _place(address: str) -> tuple[Storage, str]:
    """The bucket of an address, and the path in it."""
    bucket, _, path = address.removeprefix(_SCHEME).rstrip("/").partition("/")
    return open_storage(f"{_SCHEME}{bucket}"), path


def _copies(work: Path, address: str) -> Path:
    return work / "remote" / hashlib.sha256(address.encode()).hexdigest()[:12]


def _matching(storage: Storage, pattern: str) -> tuple[str, list[str]]:
    """The folder above the first part with a glob character, and the keys that match."""
    folder = pattern[: min(pattern.index(character) for character in "*?[" if character in pattern)].rpartition("/")[0]
    return folder, [key for key, *_ in storage.list(folder) if fnmatch.fnmatch(key, pattern)]


def _copy(storage: Storage, keys: list[str], folder: str, copies: Path, field: str, address: str) -> str:
    if not keys:
        raise UserError(f"{field}: nothing lies at {address}; {_NOTHING_THERE}")
    for key in keys:
        _copy_file(storage, key, copies / key.removeprefix(folder).lstrip("/"))
    return str(copies)


def _copy_file(storage: Storage, key: str, path: Path) -> None:
    """
    Raises:
        KeyError: there is no such object.
        FtjobsError: it came out differently every time.
    """
    seen = set()
    for _ in range(_TRIES):
        sha256 = storage.get(key, path)
        if storage.agrees(key, path) or sha256 in seen:
            return
        seen.add(sha256)
    path.unlink()
    raise FtjobsError(
        f"{storage.uri(key)}: was different each of {_TRIES} times; leave it as it is, or mend the network"
    )
