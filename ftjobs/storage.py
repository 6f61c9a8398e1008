"""Bytes under keys: the few verbs that artifacts are built on, and the local folder that offers them.

Keys are relative POSIX paths. A store never shows a half-written object: a key is absent or whole.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from ftjobs.errors import FtjobsError, UserError

_TEMPORARY = ".writing-"


class Storage(Protocol):
    """What artifacts need from a store. Verbs raise FtjobsError when the store fails, KeyError for an absent key."""

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Keys that start with the folder `prefix`, sorted, with their sizes in bytes."""

    def read(self, key: str) -> bytes:
        """The whole object, for small ones."""

    def get(self, key: str, path: Path) -> None:
        """Copy an object to a new local file."""

    def put(self, path: Path, key: str) -> None:
        """Store a local file, replacing what was there."""

    def put_if_absent(self, data: bytes, key: str) -> bool:
        """Store a small object unless the key exists; False if it does. Of several racing writers one gets True."""

    def delete(self, key: str) -> None:
        """Remove an object; an absent one is fine."""

    def local_path(self, key: str) -> Path | None:
        """A path at which the object or folder can be read without a copy, or None."""

    def uri(self, key: str) -> str:
        """The address of a key as a user would write it."""


def open_storage(store: str) -> Storage:
    """The store that `--store` names: a folder.

    Raises:
        UserError: another kind of address, or a path that is no folder.
    """
    if "://" in store:
        raise UserError(f"--store {store}: only folders can be a store in this version; give a path such as ./runs")
    if not store or "\0" in store:
        raise UserError(f"--store {store!r}: is no path; give a folder such as ./runs")
    root = Path(os.path.expanduser(store))
    if store.startswith("~") and root == Path(store):
        raise UserError(f"--store {store}: there is no such user; give a folder such as ./runs")
    for path in (root, *root.parents):
        if os.path.isfile(path):
            raise UserError(f"--store {store}: {path} is a file; give a folder such as ./runs")
    return LocalStorage(root)


class LocalStorage:
    """A folder as a store. Objects appear by rename or hard link, so readers never see part of one."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        with _explained(self.root):
            found = sorted(path for path in (self.root / prefix).rglob("*") if path.is_file())
            for path in found:
                if path.name.startswith(_TEMPORARY):
                    continue
                with suppress(FileNotFoundError):  # removed since it was found
                    yield path.relative_to(self.root).as_posix(), path.stat().st_size

    def read(self, key: str) -> bytes:
        with _explained(self.root / key):
            return (self.root / key).read_bytes()

    def get(self, key: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _explained(self.root / key):
            shutil.copyfile(self.root / key, path)

    def put(self, path: Path, key: str) -> None:
        with self._new_file(key) as temporary:
            shutil.copyfile(path, temporary)
            _flush(temporary)
            os.replace(temporary, self.root / key)

    def put_if_absent(self, data: bytes, key: str) -> bool:
        with self._new_file(key) as temporary:
            temporary.write_bytes(data)
            _flush(temporary)
            try:
                os.link(temporary, self.root / key)  # atomic, and fails if the key exists
            except FileExistsError:
                return False
            return True

    def delete(self, key: str) -> None:
        with _explained(self.root / key):
            (self.root / key).unlink(missing_ok=True)

    def local_path(self, key: str) -> Path | None:
        return self.root / key

    def uri(self, key: str) -> str:
        return (self.root / key).as_posix()

    @contextmanager
    def _new_file(self, key: str) -> Iterator[Path]:
        target = self.root / key
        with _explained(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.parent / f"{_TEMPORARY}{secrets.token_hex(8)}"
            try:
                yield temporary
            finally:
                temporary.unlink(missing_ok=True)


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
