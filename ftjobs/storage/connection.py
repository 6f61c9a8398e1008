"""A bucket's client: set up for any S3-compatible store, patient with one that is down.

Retries are ours rather than botocore's: they last for minutes instead of seconds, say in the log what they wait for,
and cover the body of an answer as well as its head.
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
from ftjobs.storage.refusals import Refused, Unavailable, explain
from ftjobs.system.progress import LOG

Result = TypeVar("Result")

#: How long a call goes on trying, and the shortest and longest wait between two tries; seconds.
PATIENCE = 300.0
SHORTEST_WAIT, LONGEST_WAIT = 0.25, 10.0
_SECONDS_BETWEEN_LINES = 5.0
_CONNECTIONS = 32
_STYLE = "FTJOBS_S3_ADDRESSING_STYLE"


class Connection:
    """Calls on one bucket, from any number of threads."""

    def __init__(self, bucket: str) -> None:
        """
        Raises:
            UserError: the settings of boto3 (environment, profile) or FTJOBS_S3_ADDRESSING_STYLE are wrong.
        """
        self.bucket = bucket
        try:
            self._client = _client()
        except (BotoCoreError, ValueError) as error:  # half a pair of keys, an unknown profile, a malformed endpoint
            raise UserError(f"s3://{bucket}: {error}; set the AWS_ variables or the profile right") from error
        self.endpoint = _shown(self._client.meta.endpoint_url)
        self._ending = threading.Event()
        self._last_line = -_SECONDS_BETWEEN_LINES
        self._line_lock = threading.Lock()

    def call(
        self, operation: str, uri: str, use: Callable[[dict[str, Any]], Result] | None = None, **arguments: Any
    ) -> Any:
        """The answer to one operation of boto3's client, or what `use` makes of it.

        Tries again, and calls `use` again, while the store is down, overloaded, or cuts its answers.

        Args:
            operation: name of the client's method, such as `get_object`.
            uri: what it is about, for messages.
            use: reads the body of the answer, if there is one to read.
            arguments: of the method, all but the bucket.

        Raises:
            KeyError: there is no such object.
            UserError: credentials, permissions or the address are wrong.
            Refused: another answer that a further try would not change.
            Unavailable: the store went on failing.
        """
        first_failure, tries = None, 0
        while True:
            try:
                answer = getattr(self._client, operation)(Bucket=self.bucket, **arguments)
                return answer if use is None else use(answer)
            except (BotoCoreError, ClientError, ResponseParserError) as error:
                tries += 1
                failure = explain(error, operation, uri, self.bucket, self.endpoint)
                if isinstance(failure, Refused):
                    failure.tries = tries
                if not isinstance(failure, Unavailable):
                    raise failure from error
                first_failure = first_failure or time.monotonic()
                self._wait(failure, time.monotonic() - first_failure, tries)

    def body(self, data: bytes | bytearray) -> dict[str, Any]:
        """Arguments that send `data` so that the store refuses it if a bit of it changes on the way.

        To AWS boto3 adds a checksum by itself. Other stores know the older Content-MD5; not all of them check the
        signed sha256 of the body (SeaweedFS 4.48 does not).
        """
        if self._client.meta.config.request_checksum_calculation == "when_supported":
            return {"Body": data}
        md5 = hashlib.md5(data, usedforsecurity=False).digest()
        return {"Body": data, "ContentMD5": base64.b64encode(md5).decode()}

    def once(self, operation: str, **arguments: Any) -> None:
        """One try of something that need not succeed."""
        try:
            getattr(self._client, operation)(Bucket=self.bucket, **arguments)
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            LOG.debug("s3://%s: %s: %s", self.bucket, operation, error)

    def hurry(self) -> None:
        """Wait no longer, now and from now on."""
        self._ending.set()

    def _wait(self, failure: Unavailable, passed: float, tries: int) -> None:
        """Sleep before the next try, or raise `failure` if there is none."""
        longest = min(LONGEST_WAIT, SHORTEST_WAIT * 2 ** min(tries, 16))
        seconds = longest * random.uniform(0.5, 1.0)  # so that many pods do not come back at the same moment
        if passed + seconds > PATIENCE or self._ending.is_set():
            raise FtjobsError(f"{failure}; gave up after {tries} tries in {passed:.0f} s") from failure
        with self._line_lock:
            now = time.monotonic()
            told = now - self._last_line < _SECONDS_BETWEEN_LINES
            self._last_line = self._last_line if told else now
        if not told:
            LOG.warning("%s; trying again, for up to %.0f s more", failure, PATIENCE - passed)
        self._ending.wait(seconds)


def _client() -> Any:
    """boto3's S3 client with its own chain of credentials and settings.

    Stores other than AWS get no checksums beyond what an operation requires, which many of them refuse, and the
    bucket in the path, which needs no DNS.
    """
    style = os.environ.get(_STYLE, "")
    if style not in ("", "auto", "path", "virtual"):
        raise UserError(f"{_STYLE}={style}: is no addressing style; set it to auto, path or virtual")
    settings: dict[str, Any] = {
        "retries": {"total_max_attempts": 1, "mode": "standard"},
        "connect_timeout": 10,
        "read_timeout": 60,
        "tcp_keepalive": True,
        "max_pool_connections": _CONNECTIONS,
    }
    session = boto3.session.Session()
    client = session.client("s3", config=Config(**settings, s3={"addressing_style": style or "auto"}))
    host = urlsplit(client.meta.endpoint_url).hostname or ""
    if host.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        return client
    settings["request_checksum_calculation"] = settings["response_checksum_validation"] = "when_required"
    # The Content-MD5 that we send is signed, and the store checks it; a signed sha256 beside it, of every part and over
    # plain HTTP only, would be the third digest of the same bytes.
    s3 = {"addressing_style": style or "path", "payload_signing_enabled": False}
    return session.client("s3", config=Config(**settings, s3=s3))


def _shown(url: str) -> str:
    """An endpoint without a user's name and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
