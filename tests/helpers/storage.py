"""Writing to and listing stores in tests."""

from __future__ import annotations

from pathlib import Path

from ftjobs.storage import Storage


def put_bytes(storage: Storage, key: str, content: bytes, folder: Path) -> str:
    """Store bytes under a key, by way of a file in `folder`; return the sha256."""
    path = folder / "to-put"
    path.write_bytes(content)
    return storage.put(path, key)


def list_sizes(storage: Storage, prefix: str = "") -> list[tuple[str, int]]:
    """List keys and sizes below a prefix."""
    return [(entry.key, entry.size) for entry in storage.list(prefix)]


def list_keys(storage: Storage) -> list[str]:
    """List the keys of all objects."""
    return [entry.key for entry in storage.list("")]


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files by relative path; return the folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def read_files(folder: Path) -> dict[str, bytes]:
    """Read all files of a folder by relative path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
