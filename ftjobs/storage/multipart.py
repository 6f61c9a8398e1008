"""Multipart uploads and ranged downloads for S3, in parallel, with the sha256 computed along the way.

The calling thread reads the file in order and hashes it; threads of the pool transfer the parts. At most a few parts of
an upload, and a few chunks of a download, are in memory.
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

from ftjobs.storage.interface import ProgressCallback
from ftjobs.storage.s3_client import S3Client
from ftjobs.storage.s3_errors import RequestRejected

Item = TypeVar("Item")
Result = TypeVar("Result")

PART_BYTES = 8 << 20
"""S3 requires at least 5 MiB."""
_MAX_PARTS = 10_000
MAX_PARALLEL_PARTS = 8
_CHUNK_BYTES = 256 << 10
#: Size of the first request of a download: a whole small object; the parts of a large one start soon after.
_FIRST_RANGE_BYTES = 1 << 20
#: Bytes hashed per call: each call competes with the receiving threads for the interpreter lock.
_HASH_BUFFER_BYTES = 4 << 20
_MAX_UPLOAD_TRIES = 3


def upload(client: S3Client, pool: Executor, path: Path, key: str, uri: str, progress: ProgressCallback) -> str:
    """Upload a file in parts; return the sha256 of the bytes sent."""
    for _ in range(_MAX_UPLOAD_TRIES - 1):
        try:
            return _upload(client, pool, path, key, uri, progress)
        except RequestRejected as error:
            # The response to the completing request was lost, and its retry found the upload completed and gone; or
            # another process aborted the upload. Only a new upload is certain to succeed.
            if error.code not in ("NoSuchUpload", "InvalidPart"):
                raise
    return _upload(client, pool, path, key, uri, progress)


def _upload(client: S3Client, pool: Executor, path: Path, key: str, uri: str, progress: ProgressCallback) -> str:
    digest = hashlib.sha256()
    upload_id = client.call("create_multipart_upload", uri, Key=key)["UploadId"]
    size = max(PART_BYTES, -(-path.stat().st_size // _MAX_PARTS))
    free_buffers: deque[bytearray] = deque()  # reused: allocating this much memory for every part takes time

    def send(numbered_part: tuple[int, bytearray]) -> dict[str, Any]:
        number, data = numbered_part
        arguments = {"UploadId": upload_id, "PartNumber": number, **client.body_arguments(data)}
        response = client.call("upload_part", uri, Key=key, **arguments)
        progress(len(data))
        free_buffers.append(data)
        return {"PartNumber": number, "ETag": response["ETag"]}

    try:
        with path.open("rb") as file:
            numbered_parts = enumerate(_read_parts(file, size, free_buffers, digest.update), start=1)
            parts = list(_map_in_order(pool, send, numbered_parts, MAX_PARALLEL_PARTS))
        client.call("complete_multipart_upload", uri, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts})
    except Exception:
        client.call_once("abort_multipart_upload", Key=key, UploadId=upload_id)
        raise
    return digest.hexdigest()


def download(client: S3Client, pool: Executor, key: str, path: Path, uri: str, progress: ProgressCallback) -> str:
    """Download an object to `path`, atomically; return the sha256 of the bytes written.

    The response for the first range contains the size. The rest is requested in ranges of the same version of the
    object. An interrupted download leaves a file next to `path` that is named after the version; the next call resumes
    from it.
    """
    first_range = f"bytes=0-{_FIRST_RANGE_BYTES - 1}"
    try:
        first, size, etag = client.call("get_object", uri, _parse_first_range, Key=key, Range=first_range)
    except RequestRejected as error:
        if error.code != "InvalidRange":
            raise
        first, size, etag = b"", 0, ""  # an empty object has no first byte
    version = hashlib.sha256(f"{uri} {etag}".encode()).hexdigest()[:32]
    temporary = path.parent / f".part-{version}"
    with os.fdopen(os.open(temporary, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0) as file:
        resume_at = _contiguous_size(file)
        write_lock = threading.Lock()  # concurrent writes to one file spin in the file system

        def receive(start: int) -> tuple[int, int]:
            end = min(start + PART_BYTES, size)
            if end > resume_at:
                arguments = {"Range": f"bytes={start}-{end - 1}", "IfMatch": etag}
                client.call("get_object", uri, lambda response: write_body(response, start, end), Key=key, **arguments)
            progress(end - start)
            return start, end

        def write_body(response: dict[str, Any], start: int, end: int) -> None:
            """Write a body to its position in chunks small enough for the allocator to reuse their memory."""
            while start < end:
                chunk = response["Body"].read(min(_CHUNK_BYTES, end - start))
                if not chunk:
                    raise IncompleteReadError(actual_bytes=0, expected_bytes=end - start)
                with write_lock:
                    _write_at(file, chunk, start)
                start += len(chunk)

        _write_at(file, first, 0)
        progress(len(first))
        digest = hashlib.sha256(first)
        buffer = memoryview(bytearray(min(size, _HASH_BUFFER_BYTES)))
        for start, end in _map_in_order(pool, receive, range(len(first), size, PART_BYTES), 4 * MAX_PARALLEL_PARTS):
            file.seek(start)
            # Hash the file rather than the responses: its content counts, and no part stays in memory.
            while start < end and (count := file.readinto(buffer[: end - start])):
                digest.update(buffer[:count])
                start += count
    os.replace(temporary, path)
    return digest.hexdigest()


def compute_etag(path: Path) -> str:
    """Return the ETag that most stores assign to a file uploaded in one request, or in parts of 8 MiB as aws, boto3 and
    `upload` send them."""
    part_digests = []
    with path.open("rb") as file:
        while part := file.read(PART_BYTES):
            part_digests.append(hashlib.md5(part, usedforsecurity=False))
    if len(part_digests) <= 1:
        return part_digests[0].hexdigest() if part_digests else hashlib.md5(usedforsecurity=False).hexdigest()
    joined = b"".join(digest.digest() for digest in part_digests)
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(part_digests)}"


def _contiguous_size(file: BinaryIO) -> int:
    """Return the number of leading bytes that an interrupted download has written.

    Every part is written front to back, so the first missing byte is a hole in the file. File systems without support
    for holes report none; the sha256 of the whole file then mismatches.
    """
    if not os.fstat(file.fileno()).st_size:
        return 0
    return os.lseek(file.fileno(), 0, os.SEEK_HOLE)


def _map_in_order(
    pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], max_pending: int
) -> Iterator[Result]:
    """Yield results in the order of the items, with at most `max_pending` items submitted and not yet yielded."""
    remaining = iter(items)
    pending: deque[Future[Result]] = deque()
    try:
        for item in islice(remaining, max_pending):
            pending.append(pool.submit(function, item))
        while pending:
            yield pending.popleft().result()
            for item in islice(remaining, 1):
                pending.append(pool.submit(function, item))
    finally:
        for future in pending:
            future.cancel()


def _read_parts(
    file: BufferedReader, size: int, free_buffers: deque[bytearray], on_read: Callable[[bytearray], None]
) -> Iterator[bytearray]:
    """Yield a file in parts of `size` bytes, read into free buffers where available."""
    while True:
        part = free_buffers.popleft() if free_buffers else bytearray(size)
        count = file.readinto(part)
        if not count:
            return
        if count < size:
            part = part[:count]
        on_read(part)
        yield part


def _parse_first_range(response: dict[str, Any]) -> tuple[bytes, int, str]:
    """Return the bytes of the first range, the size of the whole object, and its ETag."""
    total = response.get("ContentRange", "").rpartition("/")[2] or response.get("ContentLength")
    etag = response.get("ETag")
    if total is None or etag is None:
        raise ResponseParserError("the response has no size or no ETag")
    size = int(total)
    return _read_body(response, min(_FIRST_RANGE_BYTES, size)), size, etag


def _read_body(response: dict[str, Any], size: int) -> bytes:
    """Read `size` bytes of a response body.

    Raises:
        IncompleteReadError: the body ends early.
    """
    data: bytes = response["Body"].read(size)
    if len(data) != size:
        raise IncompleteReadError(actual_bytes=len(data), expected_bytes=size)
    return data


def _write_at(file: BinaryIO, data: bytes, offset: int) -> None:
    """Write all of `data` at `offset`; `pwrite` keeps no shared position and may write less than asked."""
    written = 0
    while written < len(data):
        written += os.pwrite(file.fileno(), memoryview(data)[written:], offset + written)
