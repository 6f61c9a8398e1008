"""Files to and from S3 in parts, several at a time, with their sha256 computed on the way.

The thread that asks reads the file in order and hashes; the pool's threads carry the parts. No more than a few parts of
an upload are in memory, and of a download a few pieces.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from botocore.exceptions import IncompleteReadError
from botocore.parsers import ResponseParserError

from ftjobs.storage.connection import Connection
from ftjobs.storage.protocol import Advance
from ftjobs.storage.refusals import Refused

Item = TypeVar("Item")
Result = TypeVar("Result")

PART = 8 << 20
"""Bytes; S3 wants at least 5 MiB."""
_MOST_PARTS = 10_000
PARTS_AT_A_TIME = 8
_PIECE = 256 << 10
#: The first request for an object: enough for small ones, and the parts of large ones need not wait for long.
_FIRST = 1 << 20
#: Bytes to hash at a time. Each time waits for its turn among the threads that receive.
_HASHED = 4 << 20
_WHOLE_UPLOADS = 3


def upload(connection: Connection, pool: Executor, path: Path, key: str, uri: str, advance: Advance) -> str:
    """Store a file of more than one part; returns the sha256 of what was sent."""
    for _ in range(_WHOLE_UPLOADS - 1):
        try:
            return _upload(connection, pool, path, key, uri, advance)
        except Refused as refused:
            # The answer to the last call was lost and its repetition finds the upload done and gone, or somebody
            # else removed it: only doing it again is certain.
            if refused.code not in ("NoSuchUpload", "InvalidPart"):
                raise
    return _upload(connection, pool, path, key, uri, advance)


def _upload(connection: Connection, pool: Executor, path: Path, key: str, uri: str, advance: Advance) -> str:
    digest = hashlib.sha256()
    upload_id = connection.call("create_multipart_upload", uri, Key=key)["UploadId"]
    size = max(PART, -(-path.stat().st_size // _MOST_PARTS))
    free: deque[bytearray] = deque()  # memory to use again: getting as much anew for every part takes time

    def send(numbered: tuple[int, bytearray]) -> dict[str, Any]:
        number, data = numbered
        part = {"UploadId": upload_id, "PartNumber": number, **connection.body(data)}
        answer = connection.call("upload_part", uri, Key=key, **part)
        advance(len(data))
        free.append(data)
        return {"PartNumber": number, "ETag": answer["ETag"]}

    try:
        with path.open("rb") as file:
            parts = list(
                _in_order(pool, send, enumerate(_pieces(file, size, free, digest.update), start=1), PARTS_AT_A_TIME)
            )
        connection.call("complete_multipart_upload", uri, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts})
    except Exception:
        connection.once("abort_multipart_upload", Key=key, UploadId=upload_id)
        raise
    return digest.hexdigest()


def download(connection: Connection, pool: Executor, key: str, path: Path, uri: str, advance: Advance) -> str:
    """Copy an object to `path`, which appears whole or not at all; returns the sha256 of what was written.

    The answer for the first part tells the size; the rest, if any, comes in ranges of that same version. Cut short, it
    leaves a file beside `path` that belongs to this version alone, and the next call goes on in it.
    """
    try:
        first, size, etag = connection.call("get_object", uri, _first_part, Key=key, Range=f"bytes=0-{_FIRST - 1}")
    except Refused as refused:
        if refused.code != "InvalidRange":
            raise
        first, size, etag = b"", 0, ""  # an empty object has no first byte
    version = hashlib.sha256(f"{uri} {etag}".encode()).hexdigest()[:32]
    temporary = path.parent / f".part-{version}"
    with os.fdopen(os.open(temporary, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0) as file:
        there, one_writes = _beginning(file), threading.Lock()  # many at once would spin in the file system

        def receive(start: int) -> tuple[int, int]:
            end = min(start + PART, size)
            if end > there:
                wanted = {"Range": f"bytes={start}-{end - 1}", "IfMatch": etag}
                connection.call("get_object", uri, lambda answer: write(answer, start, end), Key=key, **wanted)
            advance(end - start)
            return start, end

        def write(answer: dict[str, Any], start: int, end: int) -> None:
            """Write a body to its place, in pieces small enough for memory to be used again."""
            while start < end:
                piece = answer["Body"].read(min(_PIECE, end - start))
                if not piece:
                    raise IncompleteReadError(actual_bytes=0, expected_bytes=end - start)
                with one_writes:
                    _write_at(file, piece, start)
                start += len(piece)

        _write_at(file, first, 0)
        advance(len(first))
        digest = hashlib.sha256(first)
        buffer = memoryview(bytearray(min(size, _HASHED)))
        for start, end in _in_order(pool, receive, range(len(first), size, PART), 4 * PARTS_AT_A_TIME):
            file.seek(start)
            # From the file: what was written is what counts, and no part is held in memory.
            while start < end and (count := file.readinto(buffer[: end - start])):
                digest.update(buffer[:count])
                start += count
    os.replace(temporary, path)
    return digest.hexdigest()


def etag_of(path: Path) -> str:
    """The ETag that most stores give a file that came in one piece, or in parts as aws, boto3 and we make them."""
    digests = []
    with path.open("rb") as file:
        while piece := file.read(PART):
            digests.append(hashlib.md5(piece, usedforsecurity=False))
    if len(digests) <= 1:
        return digests[0].hexdigest() if digests else hashlib.md5(usedforsecurity=False).hexdigest()
    parts = b"".join(digest.digest() for digest in digests)
    return f"{hashlib.md5(parts, usedforsecurity=False).hexdigest()}-{len(digests)}"


def _beginning(file: BinaryIO) -> int:
    """Bytes at the beginning of a file that an earlier download has written.

    Every part is written from its beginning to its end, so what was not written is a hole in the file. A file system
    that knows no holes says that there are none; then the sha256 of the whole does not come out right.
    """
    if not os.fstat(file.fileno()).st_size:
        return 0
    return os.lseek(file.fileno(), 0, os.SEEK_HOLE)


def _in_order(pool: Executor, work: Callable[[Item], Result], items: Iterable[Item], ahead: int) -> Iterator[Result]:
    """Results in the order of the items; at most `ahead` items are taken before their results are."""
    remaining = iter(items)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in islice(remaining, ahead):
            waiting.append(pool.submit(work, item))
        while waiting:
            yield waiting.popleft().result()
            for item in islice(remaining, 1):
                waiting.append(pool.submit(work, item))
    finally:
        for future in waiting:
            future.cancel()


def _pieces(
    file: BufferedReader, size: int, free: deque[bytearray], seen: Callable[[bytearray], None]
) -> Iterator[bytearray]:
    """A file in pieces of `size` bytes, in memory that is `free` where there is some."""
    while True:
        piece = free.popleft() if free else bytearray(size)
        count = file.readinto(piece)
        if not count:
            return
        if count < size:
            piece = piece[:count]
        seen(piece)
        yield piece


def _first_part(answer: dict[str, Any]) -> tuple[bytes, int, str]:
    """The bytes, the size of the whole object, and its version."""
    whole, etag = answer.get("ContentRange", "").rpartition("/")[2] or answer.get("ContentLength"), answer.get("ETag")
    if whole is None or etag is None:
        raise ResponseParserError("neither size nor version")
    size = int(whole)
    return _body(answer, min(_FIRST, size)), size, etag


def _body(answer: dict[str, Any], size: int) -> bytes:
    """The first `size` bytes of an answer's body; an answer that ends before is an error."""
    data: bytes = answer["Body"].read(size)
    if len(data) != size:
        raise IncompleteReadError(actual_bytes=len(data), expected_bytes=size)
    return data


def _write_at(file: BinaryIO, data: bytes, position: int) -> None:
    done = 0
    while done < len(data):  # many threads at once, each at its place
        done += os.pwrite(file.fileno(), memoryview(data)[done:], position + done)
