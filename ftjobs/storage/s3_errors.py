"""Translation of boto3's errors: whether a retry may help, and otherwise which setting to correct."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    LoginError,
    MetadataRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    SSLError,
    SSOError,
    TokenRetrievalError,
)

from ftjobs.errors import FtjobsError, UserError

#: Operation -> IAM permission that it needs; s3:PutObject for all others.
_PERMISSIONS = {
    "get_object": "s3:GetObject (and s3:ListBucket, without which S3 answers 403 for absent keys)",
    "head_object": "s3:GetObject (and s3:ListBucket, without which S3 answers 403 for absent keys)",
    "list_objects_v2": "s3:ListBucket",
    "delete_object": "s3:DeleteObject",
    "abort_multipart_upload": "s3:AbortMultipartUpload",
    "list_multipart_uploads": "s3:ListBucketMultipartUploads",
}
_SET_KEYS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or assign a role to the machine or pod"
_SET_CLOCK = "synchronize the clock of this machine: request signatures contain the time"
#: Error code -> problem and remedy, for errors that the user can correct.
_USER_ERRORS = {
    "InvalidAccessKeyId": "unknown access key; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of this endpoint",
    "SignatureDoesNotMatch": "the secret key does not belong to the access key; check AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "the credentials have expired; get new ones (AWS_SESSION_TOKEN)",
    "InvalidToken": "the session token is not valid; get new credentials (AWS_SESSION_TOKEN)",
    "TokenRefreshRequired": "the credentials have expired; get new ones (AWS_SESSION_TOKEN)",
    "RequestTimeTooSkewed": f"the clocks of the store and this machine differ by minutes; {_SET_CLOCK}",
    "NoSuchBucket": "no such bucket; create it, correct --store, or set AWS_ENDPOINT_URL_S3 if the store is not AWS",
    "InvalidBucketName": "invalid bucket name; correct --store",
    "PermanentRedirect": "the bucket is in another region; set AWS_DEFAULT_REGION to that region",
    "AuthorizationHeaderMalformed": "the bucket is in another region; set AWS_DEFAULT_REGION to that region",
}
#: Error codes worth a retry whatever the HTTP status: requests damaged or lost in transit, throttling.
_TRANSIENT_CODES = {
    *("BadDigest", "XAmzContentSHA256Mismatch", "InvalidDigest", "IncompleteBody", "RequestTimeout"),
    *("SlowDown", "Throttling", "ThrottlingException"),
    *("RequestLimitExceeded", "TooManyRequests", "RequestThrottled"),
}
_TRANSIENT_STATUS = {408, 409, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524}


class StoreUnavailable(FtjobsError):
    """The store is unreachable or overloaded, or its response was cut off: worth a retry."""


class RequestRejected(FtjobsError):
    """An error response that a retry would not change.

    `code` is S3's error code and `tries` the number of requests sent. After more than one, an earlier request whose
    response was lost may have taken effect.
    """

    def __init__(self, problem: str, code: str) -> None:
        super().__init__(problem)
        self.code, self.tries = code, 1


def translate_error(error: Exception, operation: str, uri: str, bucket: str, endpoint: str) -> Exception:
    """Return the KeyError, UserError, RequestRejected or StoreUnavailable for an exception of boto3."""
    if isinstance(error, ClientError):
        return _translate_response(error, operation, uri, f"s3://{bucket} at {endpoint}")
    where = f"s3://{bucket} at {endpoint}"
    if isinstance(error, NoCredentialsError):
        return UserError(f"{where}: no credentials; {_SET_KEYS}")
    if isinstance(error, PartialCredentialsError | SSOError | LoginError | TokenRetrievalError):
        return UserError(f"{where}: no usable credentials ({error}); {_SET_KEYS}")
    if isinstance(error, SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return UserError(f"{where}: the certificate is not trusted; set AWS_CA_BUNDLE to the CA file of the store")
    transient = (
        *(ConnectionError, HTTPClientError, IncompleteReadError, FlexibleChecksumError),
        *(CredentialRetrievalError, MetadataRetrievalError),
    )
    if isinstance(error, transient) or not isinstance(error, BotoCoreError):
        # Only the class name: the text may contain the signed URL.
        return StoreUnavailable(f"{uri}: {operation} failed at {endpoint} ({type(error).__name__})")
    return UserError(f"{where}: {error}; check --store and the AWS_ variables")


def _translate_response(error: ClientError, operation: str, uri: str, where: str) -> Exception:
    response: dict[str, Any] = dict(error.response)
    code = str(response.get("Error", {}).get("Code", ""))
    message = str(response.get("Error", {}).get("Message", ""))
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in ("NoSuchKey", "404", "NotFound"):
        return KeyError(uri)
    if code in _USER_ERRORS:
        return UserError(f"{where}: {_USER_ERRORS[code]}")
    if code in _TRANSIENT_CODES or status in _TRANSIENT_STATUS:
        return StoreUnavailable(f"{uri}: {operation} returned {status} {code}")
    if status in (401, 403):
        permission = _PERMISSIONS.get(operation, "s3:PutObject")
        return UserError(f"{uri}: not allowed ({status} {code}: {message}); these credentials need {permission}")
    return RequestRejected(f"{uri}: {operation} returned {status} {code}: {message}", code)
