"""Files to and from S3 in parts, several at a time, with their sha256 computed on the way.

The thread that asks reads or writes the file in order and hashes; the pool's threads carry the parts. So a file is
read once and written once, and no more than a few parts are in memory.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
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

    def send(numbered: tuple[int, bytes]) -> dict[str, Any]:
        number, data = numbered
        part = {"UploadId": upload_id, "PartNumber": number, **connection.body(data)}
        answer = connection.call("upload_part", uri, Key=key, **part)
        advance(len(data))
        return {"PartNumber": number, "ETag": answer["ETag"]}

    try:
        with path.open("rb") as file:
            parts = list(_in_order(pool, send, enumerate(_pieces(file, size, digest.update), start=1)))
        connection.call("complete_multipart_upload", uri, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts})
    except Exception:
        connection.once("abort_multipart_upload", Key=key, UploadId=upload_id)
        raise
    return digest.hexdigest()


def download(connection: Connection, pool: Executor, key: str, file: BinaryIO, uri: str, advance: Advance) -> str:
    """Write an object to a new file, open and unbuffered; returns the sha256 of what was written.

    The answer for the first part tells the size; the rest, if any, comes in ranges of that same version.
    """
    digest = hashlib.sha256()
    try:
        first, size, etag = connection.call("get_object", uri, _first_part, Key=key, Range=f"bytes=0-{PART - 1}")
    except Refused as refused:
        if refused.code != "InvalidRange":
            raise
        return digest.hexdigest()  # an empty object has no first byte

    def receive(start: int) -> bytes:
        end = min(start + PART, size)
        wanted = {"Range": f"bytes={start}-{end - 1}", "IfMatch": etag}
        data: bytes = connection.call("get_object", uri, lambda answer: _body(answer, end - start), Key=key, **wanted)
        return write(data, start)

    def write(data: bytes, start: int) -> bytes:
        done = 0
        while done < len(data):  # many threads at once, each at its place
            done += os.pwrite(file.fileno(), memoryview(data)[done:], start + done)
        advance(len(data))
        return data

    digest.update(write(first, 0))
    for data in _in_order(pool, receive, range(len(first), size, PART)):
        digest.update(data)
    return digest.hexdigest()


def _in_order(pool: Executor, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Results in the order of the items; only a few items are taken before their results are."""
    remaining = iter(items)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in islice(remaining, PARTS_AT_A_TIME):
            waiting.append(pool.submit(work, item))
        while waiting:
            yield waiting.popleft().result()
            for item in islice(remaining, 1):
                waiting.append(pool.submit(work, item))
    finally:
        for future in waiting:
            future.cancel()


def _pieces(file: BinaryIO, size: int, seen: Callable[[bytes], None]) -> Iterator[bytes]:
    while piece := file.read(size):
        seen(piece)
        yield piece


def _first_part(answer: dict[str, Any]) -> tuple[bytes, int, str]:
    """The bytes, the size of the whole object, and its version."""
    whole, etag = answer.get("ContentRange", "").rpartition("/")[2] or answer.get("ContentLength"), answer.get("ETag")
    if whole is None or etag is None:
        raise ResponseParserError("neither size nor version")
    size = int(whole)
    return _body(answer, min(PART, size)), size, etag


def _body(answer: dict[str, Any], size: int) -> bytes:
    """The first `size` bytes of an answer's body; an answer that ends before is an error."""
    data: bytes = answer["Body"].read(size)
    if len(data) != size:
        raise IncompleteReadError(actual_bytes=len(data), expected_bytes=size)
    return data
