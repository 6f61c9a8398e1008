"""Downloads of data and encoders that a job refers to in object storage.

The bucket of the data may differ from the store of the artifacts. No manifest contains the expected sha256, so a
download is accepted if the digest kept by the store matches, or if a second download is identical.
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
_MAX_DOWNLOADS = 3
_REMEDY = "correct the address (an object, a prefix, or a pattern)"


def download_inputs(settings: Prepare | DataStage, work: Path) -> Prepare | DataStage:
    """Download all `s3://` addresses in the settings, and return the settings with local paths instead.

    Raises:
        UserError: an address has no objects, or the credentials do not permit reading them.
        FtjobsError: the store does not respond.
    """
    if isinstance(settings, DataStage):
        data = _download_data(settings.data, f"stages.{settings.stage}.data.source", work)
        return DataStage(stage=settings.stage, data=data)
    data, encoder = _download_data(settings.data, "data.source", work), settings.encoder
    if encoder.model is not None:
        encoder = Encoder(model=download(encoder.model, "encoder.model", work), revision=encoder.revision)
    return Prepare(encoder=encoder, data=data)


def _download_data(data: Data, field: str, work: Path) -> Data:
    if isinstance(data.source, dict):
        source: str | dict[str, str] = {
            split: download(address, f"{field}.{split}", work) for split, address in data.source.items()
        }
    else:
        source = download(data.source, field, work)
    return Data.model_validate({**data.model_dump(exclude_unset=True), "source": source})


def download(address: str, field: str, work: Path) -> str:
    """Download an `s3://` address below `work`; return any other address unchanged.

    Args:
        address: an object, a prefix, or a pattern with glob characters.
        field: field of the job file that contains the address, for messages.
        work: local folder.

    Returns:
        The path of a file for an object, of a folder for a prefix or a pattern.
    """
    if not address.startswith(_SCHEME):
        return address
    storage, path = _open_bucket(address)
    target = _target_folder(work, address)
    LOG.info("%s: downloading %s", field, address)
    if glob.has_magic(path):
        folder, keys = _match(storage, path)
        return _download_keys(storage, keys, folder, target, field, address)
    try:
        name = path.rpartition("/")[2]
        _download_object(storage, path, target / name)
        return str(target / name)
    except KeyError:
        keys = [key for key, *_ in storage.list(path)]
        return _download_keys(storage, keys, path, target, field, address)


def open_data_files(address: str, field: str, work: Path) -> list[tuple[str, AbstractContextManager[Path]]]:
    """Return the data files at an address, sorted by name: each with a context manager that downloads it on entry and
    deletes it on exit. Only one file is on disk at a time, so the source may be larger than the disk.

    Raises:
        UserError: the address has no data files, or they cannot be read; for a single object, raised on entry.
    """
    storage, path = _open_bucket(address)
    no_files = f"{field}: no data file at {address}; {_REMEDY}"
    if glob.has_magic(path):
        folder, keys = _match(storage, path)
        if not keys:
            raise UserError(no_files)
    else:
        keys = [key for key, *_ in storage.list(path) if local_files.is_data(key.removeprefix(path).lstrip("/"))]
        folder = path if keys else path.rpartition("/")[0]
        keys = keys or [path]
    target = _target_folder(work, address)
    names = {key: key.removeprefix(folder).lstrip("/") for key in sorted(keys)}
    return [(name, _temporary_download(storage, key, target / name, no_files)) for key, name in names.items()]


@contextmanager
def _temporary_download(storage: Storage, key: str, path: Path, missing_message: str) -> Iterator[Path]:
    LOG.info("downloading %s", storage.uri(key))
    try:
        _download_object(storage, key, path)
    except KeyError:
        raise UserError(missing_message) from None
    try:
        yield path
    finally:
        path.unlink()


def _open_bucket(address: str) -> tuple[Storage, str]:
    """Return the store of a whole bucket, and the path of the address in it."""
    bucket, _, path = address.removeprefix(_SCHEME).rstrip("/").partition("/")
    return open_storage(f"{_SCHEME}{bucket}"), path


def _target_folder(work: Path, address: str) -> Path:
    return work / "remote" / hashlib.sha256(address.encode()).hexdigest()[:12]


def _match(storage: Storage, pattern: str) -> tuple[str, list[str]]:
    """Return the folder above the first path component with a glob character, and the keys that match."""
    first_magic = min(pattern.index(character) for character in "*?[" if character in pattern)
    folder = pattern[:first_magic].rpartition("/")[0]
    return folder, [key for key, *_ in storage.list(folder) if fnmatch.fnmatch(key, pattern)]


def _download_keys(storage: Storage, keys: list[str], folder: str, target: Path, field: str, address: str) -> str:
    """Download objects below `folder` to the same relative paths below `target`; return `target`."""
    if not keys:
        raise UserError(f"{field}: no object at {address}; {_REMEDY}")
    for key in keys:
        _download_object(storage, key, target / key.removeprefix(folder).lstrip("/"))
    return str(target)


def _download_object(storage: Storage, key: str, path: Path) -> None:
    """Download an object until its content is confirmed by the digest of the store or by an identical download.

    Raises:
        KeyError: the object does not exist.
        FtjobsError: every download differed.
    """
    seen = set()
    for _ in range(_MAX_DOWNLOADS):
        sha256 = storage.get(key, path)
        if storage.content_matches(key, path) or sha256 in seen:
            return
        seen.add(sha256)
    path.unlink()
    raise FtjobsError(
        f"{storage.uri(key)}: differed in each of {_MAX_DOWNLOADS} downloads; keep the object unchanged meanwhile, or "
        "check the network"
    )
