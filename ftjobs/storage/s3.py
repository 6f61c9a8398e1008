"""S3-compatible object storage as a store: AWS, MinIO, Ceph, R2, SeaweedFS and others."""

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
from ftjobs.storage.interface import WRITE_CHECK_KEY, IncompleteUpload, ProgressCallback, StoredObject, ignore_progress
from ftjobs.storage.multipart import MAX_PARALLEL_PARTS, PART_BYTES, compute_etag, download, upload
from ftjobs.storage.s3_client import S3Client
from ftjobs.storage.s3_errors import RequestRejected
from ftjobs.system.progress import LOG


def open_s3(store: str) -> S3Storage:
    """Return the store at `s3://bucket/prefix`; sends no request.

    Raises:
        UserError: the address is malformed, or the configuration of boto3 is invalid.
    """
    address = store.removeprefix("s3://").rstrip("/")
    bucket, _, prefix = address.partition("/")
    if "@" in bucket:
        raise UserError(
            "--store s3://…@…: credentials do not belong in an address; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    parts = prefix.split("/") if prefix else []
    plain = prefix.isprintable() and not {"", ".", ".."} & set(parts)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}", bucket) or not plain:
        raise UserError(f"--store {store}: not a valid address; use s3://bucket/prefix")
    return S3Storage(S3Client(bucket), prefix)


class S3Storage:
    """A prefix of a bucket as a store. S3 makes an object visible once it is complete, so readers never see a part."""

    def __init__(self, client: S3Client, prefix: str) -> None:
        self._client = client
        self._prefix = f"{prefix}/" if prefix else ""
        self._pool = ThreadPoolExecutor(MAX_PARALLEL_PARTS, thread_name_prefix="ftjobs-parts")
        # One multipart upload saturates the connection; two at once would only double the memory.
        self._multipart_lock = threading.Lock()
        self._conditional_puts = True

    def list(self, prefix: str) -> Iterator[StoredObject]:
        folder = self._prefix + (f"{prefix}/" if prefix else "")
        objects: list[StoredObject] = []
        next_page: dict[str, Any] = {}
        while True:
            page = self._call("list_objects_v2", prefix, Prefix=folder, **next_page)
            for entry in page.get("Contents", []):
                if not entry["Key"].endswith("/"):  # placeholder for a folder, written by some tools
                    key = entry["Key"].removeprefix(self._prefix)
                    objects.append(StoredObject(key, entry["Size"], entry["LastModified"]))
            if not page.get("IsTruncated"):
                break
            next_page = {"ContinuationToken": page["NextContinuationToken"]}
        yield from sorted(objects)  # not every store sorts like AWS

    def read(self, key: str) -> bytes:
        data: bytes = self._call("get_object", key, lambda response: response["Body"].read(), Key=self._prefix + key)
        return data

    def get(self, key: str, path: Path, progress: ProgressCallback = ignore_progress) -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._interruptible():
            return download(self._client, self._pool, self._prefix + key, path, self.uri(key), progress)

    def content_matches(self, key: str, path: Path) -> bool:
        etag: str = self._call("head_object", key, Key=self._prefix + key).get("ETag", "")
        return etag.strip('"') == compute_etag(path)

    def put(self, path: Path, key: str, progress: ProgressCallback = ignore_progress) -> str:
        if path.stat().st_size > PART_BYTES:
            with self._interruptible(), self._multipart_lock:
                return upload(self._client, self._pool, path, self._prefix + key, self.uri(key), progress)
        data = path.read_bytes()
        self._call("put_object", key, Key=self._prefix + key, **self._client.body_arguments(data))
        progress(len(data))
        return hashlib.sha256(data).hexdigest()

    def put_if_absent(self, data: bytes, key: str) -> bool:
        # Some stores ignore the condition; this check narrows the race to the time between two requests.
        if self._exists(key):
            return False
        condition = {"IfNoneMatch": "*"} if self._conditional_puts else {}
        try:
            self._call("put_object", key, Key=self._prefix + key, **self._client.body_arguments(data), **condition)
        except RequestRejected as error:
            if error.code == "PreconditionFailed":
                return error.tries > 1  # the existing object may come from an earlier try whose response was lost
            if error.code != "NotImplemented" or not self._conditional_puts:
                raise
            self._conditional_puts = False
            return self.put_if_absent(data, key)
        return True

    def delete(self, key: str) -> None:
        self._call("delete_object", key, Key=self._prefix + key)

    def list_incomplete_uploads(self, prefix: str) -> Sequence[IncompleteUpload]:
        folder = self._prefix + (f"{prefix}/" if prefix else "")
        uploads: list[IncompleteUpload] = []
        next_page: dict[str, Any] = {}
        while True:
            try:
                page = self._call("list_multipart_uploads", prefix, Prefix=folder, **next_page)
            except (RequestRejected, UserError, KeyError) as error:
                # Not every store implements it, and not all credentials permit it.
                LOG.debug("incomplete uploads are not listed: %s", error)
                return []
            for entry in page.get("Uploads", []):
                if entry["Key"].startswith(folder):  # SeaweedFS ignores the trailing `/`
                    key = entry["Key"].removeprefix(self._prefix)
                    uploads.append(IncompleteUpload(key, None, entry["Initiated"], entry["UploadId"]))
            if not page.get("IsTruncated"):
                return uploads
            next_page = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def abort_upload(self, upload: IncompleteUpload) -> None:
        with suppress(KeyError, RequestRejected):  # completed or aborted since it was listed
            arguments = {"Key": self._prefix + upload.key, "UploadId": upload.upload_id}
            self._call("abort_multipart_upload", upload.key, **arguments)

    def check_writable(self) -> None:
        self._call("put_object", WRITE_CHECK_KEY, Key=self._prefix + WRITE_CHECK_KEY, Body=b"")
        self.delete(WRITE_CHECK_KEY)

    def stop_retrying(self) -> None:
        self._client.stop_retrying()

    def local_path(self, key: str) -> Path | None:
        return None

    def uri(self, key: str) -> str:
        return f"s3://{self._client.bucket}/{self._prefix}{key}".rstrip("/")

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Stop retries in the pool's threads when this thread is interrupted: the store may be down for minutes."""
        try:
            yield
        except Exception:
            raise
        except BaseException:
            self.stop_retrying()
            raise

    def _exists(self, key: str) -> bool:
        try:
            self._call("head_object", key, Key=self._prefix + key)
        except KeyError:
            return False
        return True

    def _call(self, operation: str, key: str, parse: Any = None, **arguments: Any) -> Any:
        return self._client.call(operation, self.uri(key), parse, **arguments)
