"""A local folder as a store."""

from __future__ import annotations

import filecmp
import hashlib
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from ftjobs.errors import FtjobsError, UserError
from ftjobs.storage.interface import WRITE_CHECK_KEY, IncompleteUpload, ProgressCallback, StoredObject, ignore_progress

_TEMPORARY_PREFIX = ".writing-"
_CHUNK_BYTES = 1 << 20


class LocalStorage:
    """A local folder as a store. Objects appear by rename or hard link, so readers never see a partial one."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def list(self, prefix: str) -> Iterator[StoredObject]:
        with _translated_errors(self.root):
            files = [path for path in (self.root / prefix).rglob("*") if path.is_file()]
            for key, path in sorted((path.relative_to(self.root).as_posix(), path) for path in files):
                if path.name.startswith(_TEMPORARY_PREFIX):
                    continue
                with suppress(FileNotFoundError):  # deleted since the folder was listed
                    stat = path.stat()
                    yield StoredObject(key, stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC))

    def read(self, key: str) -> bytes:
        with _translated_errors(self.root / key):
            return (self.root / key).read_bytes()

    def get(self, key: str, path: Path, progress: ProgressCallback = ignore_progress) -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _translated_errors(self.root / key), _atomic_write(path) as temporary:
            return _copy(self.root / key, temporary, progress)

    def content_matches(self, key: str, path: Path) -> bool:
        with _translated_errors(self.root / key):
            return filecmp.cmp(self.root / key, path, shallow=False)

    def put(self, path: Path, key: str, progress: ProgressCallback = ignore_progress) -> str:
        target = self.root / key
        with _translated_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with _atomic_write(target) as temporary:
                sha256 = _copy(path, temporary, progress)
                _fsync(temporary)
            return sha256

    def put_if_absent(self, data: bytes, key: str) -> bool:
        target = self.root / key
        with _translated_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with _temporary_path(target.parent) as temporary:
                temporary.write_bytes(data)
                _fsync(temporary)
                try:
                    os.link(temporary, target)  # atomic, and fails if the key exists
                except FileExistsError:
                    return False
                return True

    def delete(self, key: str) -> None:
        with _translated_errors(self.root / key):
            (self.root / key).unlink(missing_ok=True)

    def list_incomplete_uploads(self, prefix: str) -> Sequence[IncompleteUpload]:
        uploads = []
        with _translated_errors(self.root):
            for path in sorted((self.root / prefix).rglob(f"{_TEMPORARY_PREFIX}*")):
                with suppress(FileNotFoundError):  # completed since the folder was listed
                    stat = path.stat()
                    key = path.relative_to(self.root).as_posix()
                    modified = datetime.fromtimestamp(stat.st_mtime, UTC)
                    uploads.append(IncompleteUpload(key, stat.st_size, modified, upload_id=key))
        return uploads

    def abort_upload(self, upload: IncompleteUpload) -> None:
        self.delete(upload.upload_id)

    def check_writable(self) -> None:
        if self.root.exists():
            self.put_if_absent(b"", WRITE_CHECK_KEY)
            self.delete(WRITE_CHECK_KEY)
            return
        parent = next(path for path in self.root.absolute().parents if path.exists())
        if not os.access(parent, os.W_OK | os.X_OK):  # the folder itself is created by the first write
            raise UserError(f"{parent}: no permission; choose a folder that you may write to")

    def stop_retrying(self) -> None:
        """Do nothing: a local folder is never retried."""

    def local_path(self, key: str) -> Path | None:
        return self.root / key

    def uri(self, key: str) -> str:
        return (self.root / key).as_posix()


@contextmanager
def _temporary_path(folder: Path) -> Iterator[Path]:
    """Yield an unused path in `folder`, and remove the file on exit."""
    path = folder / f"{_TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _atomic_write(target: Path) -> Iterator[Path]:
    """Yield a temporary path, and rename it to `target` if the block raises nothing."""
    with _temporary_path(target.parent) as temporary:
        yield temporary
        os.replace(temporary, target)


def _copy(source: Path, target: Path, progress: ProgressCallback) -> str:
    """Copy a file and return its sha256."""
    digest = hashlib.sha256()
    with source.open("rb") as reader, target.open("wb") as writer:
        while chunk := reader.read(_CHUNK_BYTES):
            digest.update(chunk)
            writer.write(chunk)
            progress(len(chunk))
    return digest.hexdigest()


def _fsync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def _translated_errors(path: Path) -> Iterator[None]:
    """Translate OSError to KeyError, UserError or FtjobsError, with the path in the message."""
    try:
        yield
    except FileNotFoundError as error:
        raise KeyError(str(path)) from error
    except PermissionError as error:
        raise UserError(f"{error.filename or path}: no permission; choose a folder that you may write to") from error
    except OSError as error:
        raise FtjobsError(f"{error.filename or path}: {error.strerror or error}") from error
