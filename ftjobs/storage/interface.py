"""The storage interface on which artifacts are built, and parallel transfers.

Keys are relative POSIX paths. A store never exposes a partially written object: a key is either absent or complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Called from several threads with the number of bytes transferred since the last call.
ProgressCallback = Callable[[int], None]

WRITE_CHECK_KEY = ".ftjobs-check"
"""Key of the object that `check_writable` writes. It is constant, so that the next check removes the object that a
process killed during an earlier check left behind."""

_MAX_PARALLEL_FILES = 8


def ignore_progress(byte_count: int) -> None:
    """A ProgressCallback that does nothing."""


class StoredObject(NamedTuple):
    """An object in a listing."""

    key: str
    size: int
    """Bytes."""
    modified: datetime
    """Time of the last write by the clock of the store, timezone-aware."""


class IncompleteUpload(NamedTuple):
    """An upload that was started and not completed. Listings do not contain it; it uses space until it is aborted."""

    key: str
    size: int | None
    """Bytes in use; None if the store does not report it."""
    modified: datetime
    """Time of the last write, or of the start of the upload if the store reports nothing later."""
    upload_id: str
    """Identifier of the upload in the store."""


class Storage(Protocol):
    """A store. Every method may raise UserError (credentials, permissions, address) or FtjobsError (worth a retry);
    methods that read one key raise KeyError if it does not exist."""

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """List all objects in the folder `prefix`, sorted by key. An empty prefix lists the whole store."""

    def read(self, key: str) -> bytes:
        """Read a whole object into memory; for small objects."""

    def get(self, key: str, path: Path, progress: ProgressCallback = ignore_progress) -> str:
        """Download an object to a local file, atomically; return the sha256 of the bytes written."""

    def content_matches(self, key: str, path: Path) -> bool:
        """Return True if the content of an object, or the digest that the store keeps of it, equals a local file.

        False means a mismatch, or that the store keeps no comparable digest.
        """

    def put(self, path: Path, key: str, progress: ProgressCallback = ignore_progress) -> str:
        """Upload a local file, replacing an existing object; return the sha256 of the bytes sent."""

    def put_if_absent(self, data: bytes, key: str) -> bool:
        """Store a small object unless the key exists (a conditional put).

        Returns:
            False if the key exists and `data` was not, and never will be, written. True if `data` was written, or may
            have been written because the store ignores the condition or its response was lost. Read the key to learn
            which object won.
        """

    def delete(self, key: str) -> None:
        """Delete an object; does nothing if the key is absent."""

    def list_incomplete_uploads(self, prefix: str) -> Sequence[IncompleteUpload]:
        """List uploads below `prefix` that are in progress or were abandoned by a killed process.

        Empty if the store cannot list them or the credentials do not permit it.
        """

    def abort_upload(self, upload: IncompleteUpload) -> None:
        """Abort an incomplete upload and free its space; does nothing if it has been completed or aborted since."""

    def check_writable(self) -> None:
        """Write and delete a small object, to detect missing permissions before a stage starts.

        Without the permission to delete, training states would accumulate, and files of attempts that another attempt
        was faster to publish would remain.
        """

    def stop_retrying(self) -> None:
        """Fail on the first error from now on instead of retrying for minutes; called when the process must exit."""

    def local_path(self, key: str) -> Path | None:
        """Return a path at which an object or folder can be read without copying, or None for remote stores."""

    def uri(self, key: str) -> str:
        """Return the address of a key in the form that users write."""


def parallel_map(storage: Storage, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Return `[function(item) for item in items]`, computed in several threads.

    The first exception is raised, and no further items are started. On KeyboardInterrupt and other exceptions that end
    the process, calls in progress are not waited for.
    """
    pool = ThreadPoolExecutor(_MAX_PARALLEL_FILES, thread_name_prefix="ftjobs-files")
    try:
        return list(pool.map(function, items))
    except Exception:
        pool.shutdown(cancel_futures=True)
        raise
    except BaseException:
        storage.stop_retrying()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    finally:
        pool.shutdown(wait=False)
