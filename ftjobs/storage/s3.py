"""S3-compatible object storage as a store: AWS, MinIO, Ceph, R2, SeaweedFS and the like."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ftjobs.errors import UserError
from ftjobs.storage.connection import Connection
from ftjobs.storage.multipart import PART, PARTS_AT_A_TIME, download, etag_of, upload
from ftjobs.storage.protocol import CHECK, Advance, Stored, Unfinished, quietly
from ftjobs.storage.refusals import Refused
from ftjobs.system.progress import LOG


def open_s3(store: str) -> S3Storage:
    """The store at `s3://bucket/prefix`; nothing is asked of the server yet.

    Raises:
        UserError: not such an address, or settings of boto3 that are wrong.
    """
    address = store.removeprefix("s3://").rstrip("/")
    bucket, _, prefix = address.partition("/")
    if "@" in bucket:
        raise UserError("--store s3://…@…: no credentials in an address; set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY")
    parts = prefix.split("/") if prefix else []
    plain = prefix.isprintable() and not {"", ".", ".."} & set(parts)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}", bucket) or not plain:
        raise UserError(f"--store {store}: is no address of a store; give s3://bucket/prefix")
    return S3Storage(Connection(bucket), prefix)


class S3Storage:
    """A prefix of a bucket as a store. S3 shows an object when it is whole, so readers never see part of one."""

    def __init__(self, connection: Connection, prefix: str) -> None:
        self._connection = connection
        self._prefix = f"{prefix}/" if prefix else ""
        self._pool = ThreadPoolExecutor(PARTS_AT_A_TIME, thread_name_prefix="ftjobs-parts")
        self._one_large = threading.Lock()  # its parts fill the line; two at once would only take twice the memory
        self._conditional = True

    def list(self, prefix: str) -> Iterator[Stored]:
        folder = self._prefix + (f"{prefix}/" if prefix else "")
        found: list[Stored] = []
        more: dict[str, Any] = {}
        while True:
            page = self._call("list_objects_v2", prefix, Prefix=folder, **more)
            for entry in page.get("Contents", []):
                if not entry["Key"].endswith("/"):  # what some tools put in the place of a folder
                    key = entry["Key"].removeprefix(self._prefix)
                    found.append(Stored(key, entry["Size"], entry["LastModified"]))
            if not page.get("IsTruncated"):
                break
            more = {"ContinuationToken": page["NextContinuationToken"]}
        yield from sorted(found)  # not every store sorts as AWS does

    def read(self, key: str) -> bytes:
        data: bytes = self._call("get_object", key, lambda answer: answer["Body"].read(), Key=self._prefix + key)
        return data

    def get(self, key: str, path: Path, advance: Advance = quietly) -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._interruptible():
            return download(self._connection, self._pool, self._prefix + key, path, self.uri(key), advance)

    def agrees(self, key: str, path: Path) -> bool:
        said: str = self._call("head_object", key, Key=self._prefix + key).get("ETag", "")
        return said.strip('"') == etag_of(path)

    def put(self, path: Path, key: str, advance: Advance = quietly) -> str:
        if path.stat().st_size > PART:
            with self._interruptible(), self._one_large:
                return upload(self._connection, self._pool, path, self._prefix + key, self.uri(key), advance)
        data = path.read_bytes()
        self._call("put_object", key, Key=self._prefix + key, **self._connection.body(data))
        advance(len(data))
        return hashlib.sha256(data).hexdigest()

    def put_if_absent(self, data: bytes, key: str) -> bool:
        # Some stores ignore the condition; asking first leaves them only the moment between two requests.
        if self._exists(key):
            return False
        condition = {"IfNoneMatch": "*"} if self._conditional else {}
        try:
            self._call("put_object", key, Key=self._prefix + key, **self._connection.body(data), **condition)
        except Refused as refused:
            if refused.code == "PreconditionFailed":
                return refused.tries > 1  # an earlier try, whose answer was lost, may be what it found
            if refused.code != "NotImplemented" or not self._conditional:
                raise
            self._conditional = False
            return self.put_if_absent(data, key)
        return True

    def delete(self, key: str) -> None:
        self._call("delete_object", key, Key=self._prefix + key)

    def unfinished(self, prefix: str) -> Sequence[Unfinished]:
        folder = self._prefix + (f"{prefix}/" if prefix else "")
        found: list[Unfinished] = []
        more: dict[str, Any] = {}
        while True:
            try:
                page = self._call("list_multipart_uploads", prefix, Prefix=folder, **more)
            except (Refused, UserError, KeyError) as error:
                LOG.debug("unfinished uploads are not listed: %s", error)  # not every store can, nor everybody may
                return []
            for entry in page.get("Uploads", []):
                if entry["Key"].startswith(folder):  # SeaweedFS compares without the last `/`
                    key = entry["Key"].removeprefix(self._prefix)
                    found.append(Unfinished(key, None, entry["Initiated"], entry["UploadId"]))
            if not page.get("IsTruncated"):
                return found
            more = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def abandon(self, unfinished: Unfinished) -> None:
        with suppress(KeyError, Refused):  # finished or given up by now
            upload = {"Key": self._prefix + unfinished.key, "UploadId": unfinished.name}
            self._call("abort_multipart_upload", unfinished.key, **upload)

    def check_writable(self) -> None:
        self._call("put_object", CHECK, Key=self._prefix + CHECK, Body=b"")
        self.delete(CHECK)

    def hurry(self) -> None:
        self._connection.hurry()

    def local_path(self, key: str) -> Path | None:
        return None

    def uri(self, key: str) -> str:
        return f"s3://{self._connection.bucket}/{self._prefix}{key}".rstrip("/")

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Let the pool's threads end when this one is asked to: they may be waiting for a store that is down."""
        try:
            yield
        except Exception:
            raise
        except BaseException:
            self.hurry()
            raise

    def _exists(self, key: str) -> bool:
        try:
            self._call("head_object", key, Key=self._prefix + key)
        except KeyError:
            return False
        return True

    def _call(self, operation: str, key: str, use: Any = None, **arguments: Any) -> Any:
        return self._connection.call(operation, self.uri(key), use, **arguments)
