"""The few verbs that artifacts are built on.

Keys are relative POSIX paths. A store never shows a half-written object: a key is absent or whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol

#: Called with the bytes moved since the last call, from several threads.
Advance = Callable[[int], None]

CHECK = ".ftjobs-check"
"""Key of what `check_writable` writes. Always the same: whoever comes next removes what a killed process has left."""


def quietly(count: int) -> None:
    """An Advance for those who do not watch."""


class Stored(NamedTuple):
    """An object in a listing."""

    key: str
    size: int
    """Bytes."""
    modified: datetime
    """When it was written, by the clock of the store, with its time zone."""


class Unfinished(NamedTuple):
    """A file that was being stored: no listing shows it, and if whoever stored it is gone it stays for ever."""

    key: str
    size: int | None
    """Bytes that it takes; None where the store does not say."""
    modified: datetime
    """As that of what is stored; when it was begun, where the store says no more."""
    name: str
    """What the store knows it by."""


class Storage(Protocol):
    """What artifacts need from a store. All verbs may be called from several threads at once.

    Verbs raise KeyError for an absent key, UserError for what only a person can mend (credentials, permissions, an
    address), and FtjobsError when the store fails and went on failing for minutes.
    """

    def list(self, prefix: str) -> Iterator[Stored]:
        """What lies in the folder `prefix`, at any depth, sorted by key."""

    def read(self, key: str) -> bytes:
        """The whole object, for small ones."""

    def get(self, key: str, path: Path, advance: Advance = quietly) -> str:
        """Copy an object to a local file, which appears whole or not at all; returns the sha256 of what was written."""

    def agrees(self, key: str, path: Path) -> bool:
        """Whether what the store says of an object's content is true of a local file; False also if it says nothing."""

    def put(self, path: Path, key: str, advance: Advance = quietly) -> str:
        """Store a local file, replacing what was there; returns the sha256 of what was sent."""

    def put_if_absent(self, data: bytes, key: str) -> bool:
        """Store a small object unless the key exists.

        False: the key exists, and `data` was not and will not be written. True: `data` was written, or may have been
        where the store ignores the condition or its answer was lost. Read the key to see whose object it is.
        """

    def delete(self, key: str) -> None:
        """Remove an object; an absent one is fine."""

    def unfinished(self, prefix: str) -> Sequence[Unfinished]:
        """Files in the folder `prefix` that are being stored, or were when their process was killed.

        Empty where the store cannot say, or these credentials may not ask.
        """

    def abandon(self, unfinished: Unfinished) -> None:
        """Give up storing a file and free what it takes; one that is finished by now, or gone, stays as it is."""

    def check_writable(self) -> None:
        """Write a small object and delete it again, to learn before any work whether that is allowed.

        Deleting too: without it, training states would pile up and a lost race would leave its files.
        """

    def hurry(self) -> None:
        """The process is about to end: from now on give up at the first failure instead of trying for minutes."""

    def local_path(self, key: str) -> Path | None:
        """A path at which the object or folder can be read without a copy, or None."""

    def uri(self, key: str) -> str:
        """The address of a key as a user would write it."""
