"""A boto3 client for one bucket of any S3-compatible store, with retries.

Retries are implemented here instead of in botocore: they last for minutes instead of seconds, are logged, and cover
response bodies that are cut off.
"""

from __future__ import annotations

import base64
import hashlib
import os
import random
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from ftjobs.errors import FtjobsError, UserError
from ftjobs.storage.s3_errors import RequestRejected, StoreUnavailable, translate_error
from ftjobs.system.progress import LOG

Result = TypeVar("Result")

#: Seconds after its first failure for which a call is retried.
RETRY_SECONDS = 300.0
#: Shortest and longest delay between two tries, in seconds; delays double.
MIN_BACKOFF, MAX_BACKOFF = 0.25, 10.0
_LOG_INTERVAL_SECONDS = 5.0
_MAX_CONNECTIONS = 32
_ADDRESSING_STYLE = "FTJOBS_S3_ADDRESSING_STYLE"


class S3Client:
    """Calls S3 operations on one bucket; thread-safe."""

    def __init__(self, bucket: str) -> None:
        """
        Raises:
            UserError: the configuration of boto3 (environment, profile) or FTJOBS_S3_ADDRESSING_STYLE is invalid.
        """
        self.bucket = bucket
        try:
            self._client = _create_client()
        except (BotoCoreError, ValueError) as error:  # an incomplete key pair, unknown profile, malformed endpoint
            raise UserError(f"s3://{bucket}: {error}; correct the AWS_ variables or the profile") from error
        self.endpoint = _without_credentials(self._client.meta.endpoint_url)
        self._no_retries = threading.Event()
        self._last_log_time = -_LOG_INTERVAL_SECONDS
        self._log_lock = threading.Lock()

    def call(
        self, operation: str, uri: str, parse: Callable[[dict[str, Any]], Result] | None = None, **arguments: Any
    ) -> Any:
        """Call an operation of boto3's client and return its response, or the result of `parse(response)`.

        The operation and `parse` are retried while the store is down, overloaded, or cuts off responses.

        Args:
            operation: method of the client, such as `get_object`.
            uri: address of the object or folder, for error messages.
            parse: reads the body of the response.
            arguments: arguments of the method, without the bucket.

        Raises:
            KeyError: the object does not exist.
            UserError: credentials, permissions or the address are wrong.
            RequestRejected: the store returned an error that a retry would not change.
            FtjobsError: the store was still unavailable after RETRY_SECONDS.
        """
        first_failure, tries = None, 0
        while True:
            try:
                response = getattr(self._client, operation)(Bucket=self.bucket, **arguments)
                return response if parse is None else parse(response)
            except (BotoCoreError, ClientError, ResponseParserError) as error:
                tries += 1
                failure = translate_error(error, operation, uri, self.bucket, self.endpoint)
                if isinstance(failure, RequestRejected):
                    failure.tries = tries
                if not isinstance(failure, StoreUnavailable):
                    raise failure from error
                first_failure = first_failure or time.monotonic()
                self._back_off(failure, time.monotonic() - first_failure, tries)

    def call_once(self, operation: str, **arguments: Any) -> None:
        """Call an operation without retries, and ignore its failure."""
        try:
            getattr(self._client, operation)(Bucket=self.bucket, **arguments)
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            LOG.debug("s3://%s: %s: %s", self.bucket, operation, error)

    def body_arguments(self, data: bytes | bytearray) -> dict[str, Any]:
        """Return arguments that send `data` with a checksum, so that the store rejects bytes damaged in transit.

        For AWS, boto3 adds a checksum. Other stores support the older Content-MD5; not all of them verify the signed
        sha256 of the body (SeaweedFS 4.48 does not).
        """
        if self._client.meta.config.request_checksum_calculation == "when_supported":
            return {"Body": data}
        md5 = hashlib.md5(data, usedforsecurity=False).digest()
        return {"Body": data, "ContentMD5": base64.b64encode(md5).decode()}

    def stop_retrying(self) -> None:
        """End all delays, and raise on the first failure from now on."""
        self._no_retries.set()

    def _back_off(self, failure: StoreUnavailable, elapsed: float, tries: int) -> None:
        """Sleep before the next try, or raise `failure` if no time is left."""
        backoff = min(MAX_BACKOFF, MIN_BACKOFF * 2 ** min(tries, 16))
        delay = backoff * random.uniform(0.5, 1.0)  # jitter: many pods must not retry at the same moment
        if elapsed + delay > RETRY_SECONDS or self._no_retries.is_set():
            raise FtjobsError(f"{failure}; gave up after {tries} tries in {elapsed:.0f} s") from failure
        with self._log_lock:
            now = time.monotonic()
            should_log = now - self._last_log_time >= _LOG_INTERVAL_SECONDS
            self._last_log_time = now if should_log else self._last_log_time
        if should_log:
            LOG.warning("%s; retrying for up to %.0f s more", failure, RETRY_SECONDS - elapsed)
        self._no_retries.wait(delay)


def _create_client() -> Any:
    """Create boto3's S3 client with boto3's own credential chain and configuration.

    For endpoints other than AWS, optional checksums are off, because many stores reject them, and the bucket is part of
    the path, which needs no DNS entry.
    """
    style = os.environ.get(_ADDRESSING_STYLE, "")
    if style not in ("", "auto", "path", "virtual"):
        raise UserError(f"{_ADDRESSING_STYLE}={style}: unknown addressing style; use auto, path or virtual")
    settings: dict[str, Any] = {
        "retries": {"total_max_attempts": 1, "mode": "standard"},
        "connect_timeout": 10,
        "read_timeout": 60,
        "tcp_keepalive": True,
        "max_pool_connections": _MAX_CONNECTIONS,
    }
    session = boto3.session.Session()
    client = session.client("s3", config=Config(**settings, s3={"addressing_style": style or "auto"}))
    host = urlsplit(client.meta.endpoint_url).hostname or ""
    if host.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        return client
    settings["request_checksum_calculation"] = settings["response_checksum_validation"] = "when_required"
    # The store verifies our Content-MD5, which is signed. A signed sha256 as well, which boto3 computes for every part
    # over plain HTTP, would be the third digest of the same bytes.
    s3 = {"addressing_style": style or "path", "payload_signing_enabled": False}
    return session.client("s3", config=Config(**settings, s3=s3))


def _without_credentials(url: str) -> str:
    """Return an endpoint URL without user name and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
