"""Bytes under keys, in a local folder or in S3-compatible object storage."""

from __future__ import annotations

import os
from pathlib import Path

from ftjobs.errors import UserError
from ftjobs.storage.concurrency import in_parallel
from ftjobs.storage.local import LocalStorage
from ftjobs.storage.protocol import Advance, Storage, Stored, Unfinished

__all__ = ["Advance", "LocalStorage", "Storage", "Stored", "Unfinished", "in_parallel", "open_storage"]


def open_storage(store: str) -> Storage:
    """The store that `--store` names: a folder, or `s3://bucket/prefix`.

    Raises:
        UserError: another kind of address, or a path that is no folder.
    """
    if store.startswith("s3://"):
        from ftjobs.storage.s3 import open_s3  # imports boto3, which a local store does not need

        return open_s3(store)
    if "://" in store:
        raise UserError(f"--store {store}: no such kind of store; give s3://bucket/prefix or a folder such as ./runs")
    if not store or "\0" in store:
        raise UserError(f"--store {store!r}: is no path; give a folder such as ./runs")
    root = Path(os.path.expanduser(store))
    if store.startswith("~") and root == Path(store):
        raise UserError(f"--store {store}: there is no such user; give a folder such as ./runs")
    for path in (root, *root.parents):
        if os.path.isfile(path):
            raise UserError(f"--store {store}: {path} is a file; give a folder such as ./runs")
    return LocalStorage(root)
