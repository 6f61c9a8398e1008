"""The store: whether what stages do with it works, how fast it is, and whether its clock agrees with ours."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from ftjobs.doctor.finding import Finding
from ftjobs.errors import FtjobsError
from ftjobs.storage import Storage, open_storage

#: Where the check writes; always the same, so that whoever comes next removes what a killed check has left.
_FOLDER = ".ftjobs-doctor"
_FILE, _MARK = f"{_FOLDER}/file", f"{_FOLDER}/mark"
_BYTES = 32 * 2**20
#: `status` detects a stale stage by the age of its heartbeat, which is written every ten seconds.
_SECONDS_APART = 5.0
_GIB = 2**30


def check(store: str) -> Iterator[Finding]:
    """Write, list, read, compare and delete in the store."""
    try:
        storage = open_storage(store)
        storage.stop_retrying()  # somebody waits for the answer: the first failure is one
        storage.check_writable()
        with _cleaned_up(storage):
            yield from _moved(storage, store)
            yield _condition(storage, store)
    except FtjobsError as error:
        yield Finding("store", store, "problem", str(error))
        return
    root = storage.local_path("")
    if root is not None:
        above = next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())
        yield Finding("store's disk", f"{shutil.disk_usage(above).free / _GIB:.1f} GiB free")


def _moved(storage: Storage, store: str) -> Iterator[Finding]:
    """A file there and back."""
    with tempfile.TemporaryDirectory(prefix="ftjobs-") as folder:
        sent, received = Path(folder, "sent"), Path(folder, "received")
        sent.write_bytes(os.urandom(_BYTES))
        started = time.perf_counter()
        digest = storage.put(sent, _FILE)
        between = time.perf_counter()
        same = storage.get(_FILE, received) == digest
        ended = time.perf_counter()
    listed = [found for found in storage.list(_FOLDER) if found.key == _FILE]
    there, back = (_BYTES / 1e6 / seconds for seconds in (between - started, ended - between))
    if not same or [one.size for one in listed] != [_BYTES]:
        what = "came back changed" if not same else "is not in its listing"
        yield Finding("store", f"{store}: a file {what}", "problem", "use another store: this one loses data")
        return
    yield Finding("store", f"{store}: {there:.0f} MB/s there, {back:.0f} MB/s back")
    apart = (datetime.now(UTC) - listed[0].modified).total_seconds() - (time.perf_counter() - between)
    if abs(apart) > _SECONDS_APART:
        yield Finding(
            "clock",
            f"the store's and this machine's are {abs(apart):.0f} s apart",
            "warning",
            "set both by NTP: `status` and `gc` go by ages",
        )


def _condition(storage: Storage, store: str) -> Finding:
    """Whether what is there already is left alone, which keeps two attempts apart."""
    storage.delete(_MARK)
    first, second = storage.put_if_absent(b"first", _MARK), storage.put_if_absent(b"second", _MARK)
    if not first or second or storage.read(_MARK) != b"first":
        return Finding(
            "publishing", f"{store}: an object was replaced that had to stay", "problem", "use another store"
        )
    return Finding("publishing", "what is published stays")


@contextmanager
def _cleaned_up(storage: Storage) -> Iterator[None]:
    """Leave the store as it was."""
    root = storage.local_path("")
    existed = root is None or root.exists()
    try:
        yield
    finally:
        for key in (_FILE, _MARK):
            storage.delete(key)
        if root is not None:
            with suppress(OSError):  # another check may be at work in it
                (root / _FOLDER).rmdir()
                if not existed:
                    root.rmdir()
