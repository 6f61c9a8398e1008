"""A folder as a store."""

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
from ftjobs.storage.protocol import CHECK, Advance, Stored, Unfinished, quietly

_TEMPORARY = ".writing-"
_PIECE = 1 << 20


class LocalStorage:
    """A folder as a store. Objects appear by rename or hard link, so readers never see part of one."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def list(self, prefix: str) -> Iterator[Stored]:
        with _explained(self.root):
            found = [path for path in (self.root / prefix).rglob("*") if path.is_file()]
            for key, path in sorted((path.relative_to(self.root).as_posix(), path) for path in found):
                if path.name.startswith(_TEMPORARY):
                    continue
                with suppress(FileNotFoundError):  # removed since it was found
                    about = path.stat()
                    yield Stored(key, about.st_size, datetime.fromtimestamp(about.st_mtime, UTC))

    def read(self, key: str) -> bytes:
        with _explained(self.root / key):
            return (self.root / key).read_bytes()

    def get(self, key: str, path: Path, advance: Advance = quietly) -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _explained(self.root / key), _replacing(path) as temporary:
            return _copy(self.root / key, temporary, advance)

    def agrees(self, key: str, path: Path) -> bool:
        with _explained(self.root / key):
            return filecmp.cmp(self.root / key, path, shallow=False)

    def put(self, path: Path, key: str, advance: Advance = quietly) -> str:
        target = self.root / key
        with _explained(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with _replacing(target) as temporary:
                digest = _copy(path, temporary, advance)
                _flush(temporary)
            return digest

    def put_if_absent(self, data: bytes, key: str) -> bool:
        target = self.root / key
        with _explained(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with _temporary(target.parent) as temporary:
                temporary.write_bytes(data)
                _flush(temporary)
                try:
                    os.link(temporary, target)  # atomic, and fails if the key exists
                except FileExistsError:
                    return False
                return True

    def delete(self, key: str) -> None:
        with _explained(self.root / key):
            (self.root / key).unlink(missing_ok=True)

    def unfinished(self, prefix: str) -> Sequence[Unfinished]:
        found = []
        with _explained(self.root):
            for path in sorted((self.root / prefix).rglob(f"{_TEMPORARY}*")):
                with suppress(FileNotFoundError):  # finished since it was found
                    about = path.stat()
                    key = path.relative_to(self.root).as_posix()
                    found.append(Unfinished(key, about.st_size, datetime.fromtimestamp(about.st_mtime, UTC), key))
        return found

    def abandon(self, unfinished: Unfinished) -> None:
        self.delete(unfinished.name)

    def check_writable(self) -> None:
        if self.root.exists():
            self.put_if_absent(b"", CHECK)
            self.delete(CHECK)
            return
        above = next(path for path in self.root.absolute().parents if path.exists())
        if not os.access(above, os.W_OK | os.X_OK):  # the folder itself is made by who has something to put there
            raise UserError(f"{above}: no permission; choose a folder that you may use")

    def hurry(self) -> None:
        """A folder never waits."""

    def local_path(self, key: str) -> Path | None:
        return self.root / key

    def uri(self, key: str) -> str:
        return (self.root / key).as_posix()


@contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    path = folder / f"{_TEMPORARY}{secrets.token_hex(8)}"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """A path to write to, which becomes `target` when the block ends well."""
    with _temporary(target.parent) as temporary:
        yield temporary
        os.replace(temporary, target)


def _copy(source: Path, target: Path, advance: Advance) -> str:
    """Copy a file; returns its sha256."""
    digest = hashlib.sha256()
    with source.open("rb") as read, target.open("wb") as written:
        while piece := read.read(_PIECE):
            digest.update(piece)
            written.write(piece)
            advance(len(piece))
    return digest.hexdigest()


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn the operating system's errors into ours, naming the path and the way out."""
    try:
        yield
    except FileNotFoundError as error:
        raise KeyError(str(path)) from error
    except PermissionError as error:
        raise UserError(f"{error.filename or path}: no permission; choose a folder that you may use") from error
    except OSError as error:
        raise FtjobsError(f"{error.filename or path}: {error.strerror or error}") from error
