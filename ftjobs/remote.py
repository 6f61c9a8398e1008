"""Data and encoders that a job names in object storage, copied to local files for the stage that reads them.

The bucket that a job's data lies in need not be the one that its artifacts go to. No manifest says what is right, so
a copy counts if the store's own digest agrees, or if a second copy comes out the same.
"""

from __future__ import annotations

import fnmatch
import glob
import hashlib
from pathlib import Path

from ftjobs.errors import FtjobsError, UserError
from ftjobs.jobfile.fields import Data, Encoder
from ftjobs.plan import OwnData, Prepare
from ftjobs.progress import LOG
from ftjobs.storage import Storage, open_storage

_SCHEME = "s3://"
_TRIES = 3


def local_copies(settings: Prepare | OwnData, work: Path) -> Prepare | OwnData:
    """The settings with every `s3://` address replaced by a local copy of what lies there.

    Raises:
        UserError: nothing lies there, or it may not be read.
        FtjobsError: the store does not answer.
    """
    if isinstance(settings, OwnData):
        return OwnData(stage=settings.stage, data=_copied(settings.data, f"stages.{settings.stage}.data.source", work))
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
    bucket, _, path = address.removeprefix(_SCHEME).rstrip("/").partition("/")
    storage = open_storage(f"{_SCHEME}{bucket}")
    copies = work / "remote" / hashlib.sha256(address.encode()).hexdigest()[:12]
    LOG.info("%s: fetching %s", field, address)
    if glob.has_magic(path):
        folder = path[: min(path.index(character) for character in "*?[" if character in path)].rpartition("/")[0]
        keys = [key for key, *_ in storage.list(folder) if fnmatch.fnmatch(key, path)]
        return _copy(storage, keys, folder, copies, field, address)
    try:
        name = path.rpartition("/")[2]
        _copy_file(storage, path, copies / name)
        return str(copies / name)
    except KeyError:
        keys = [key for key, *_ in storage.list(path)]
        return _copy(storage, keys, path, copies, field, address)


def _copy(storage: Storage, keys: list[str], folder: str, copies: Path, field: str, address: str) -> str:
    if not keys:
        raise UserError(f"{field}: nothing lies at {address}; correct the address (an object, a prefix, or a pattern)")
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
