"""Object storage: bytes under keys, in a local folder or an S3-compatible bucket."""

from __future__ import annotations

import os
from pathlib import Path

from ftjobs.errors import UserError
from ftjobs.storage.interface import IncompleteUpload, ProgressCallback, Storage, StoredObject, parallel_map
from ftjobs.storage.local import LocalStorage

__all__ = [
    "IncompleteUpload",
    "LocalStorage",
    "ProgressCallback",
    "Storage",
    "StoredObject",
    "open_storage",
    "parallel_map",
]


def open_storage(store: str) -> Storage:
    """Open the store that `--store` names: a folder, or `s3://bucket/prefix`.

    Raises:
        UserError: the address has another scheme, or the path is not a folder.
    """
    if store.startswith("s3://"):
        from ftjobs.storage.s3 import open_s3  # imports boto3, which a local store does not need

        return open_s3(store)
    if "://" in store:
        raise UserError(f"--store {store}: unsupported scheme; use s3://bucket/prefix or a folder such as ./runs")
    if not store or "\0" in store:
        raise UserError(f"--store {store!r}: not a valid path; use a folder such as ./runs")
    root = Path(os.path.expanduser(store))
    if store.startswith("~") and root == Path(store):
        raise UserError(f"--store {store}: no such user; use a folder such as ./runs")
    for path in (root, *root.parents):
        if os.path.isfile(path):
            raise UserError(f"--store {store}: {path} is a file; use a folder such as ./runs")
    return LocalStorage(root)
