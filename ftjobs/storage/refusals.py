"""What a store answers when something is wrong, in words that say what to set, and whether waiting may cure it."""

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

#: Permission that an operation needs; s3:PutObject covers all of an upload.
_PERMISSIONS = {
    "get_object": "s3:GetObject (and s3:ListBucket, without which S3 answers 403 for what is not there)",
    "head_object": "s3:GetObject (and s3:ListBucket, without which S3 answers 403 for what is not there)",
    "list_objects_v2": "s3:ListBucket",
    "delete_object": "s3:DeleteObject",
    "abort_multipart_upload": "s3:AbortMultipartUpload",
    "list_multipart_uploads": "s3:ListBucketMultipartUploads",
}
_SET_KEYS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine or pod a role"
_SET_TIME = "set the clock of this machine: requests are signed with the time"
#: Error code -> what is wrong and what to do.
_MENDABLE = {
    "InvalidAccessKeyId": f"the store does not know the access key; {_SET_KEYS} that belongs to this endpoint",
    "SignatureDoesNotMatch": "the secret key does not belong to the access key; check AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "the credentials have expired; get new ones (AWS_SESSION_TOKEN)",
    "InvalidToken": "the session token is not valid; get new credentials (AWS_SESSION_TOKEN)",
    "TokenRefreshRequired": "the credentials have expired; get new ones (AWS_SESSION_TOKEN)",
    "RequestTimeTooSkewed": f"the store's clock differs by minutes; {_SET_TIME}",
    "NoSuchBucket": "there is no such bucket; create it, correct --store, or set AWS_ENDPOINT_URL_S3 unless it is AWS",
    "InvalidBucketName": "is no name of a bucket; correct --store",
    "PermanentRedirect": "the bucket is in another region; set AWS_DEFAULT_REGION to it",
    "AuthorizationHeaderMalformed": "the bucket is in another region; set AWS_DEFAULT_REGION to it",
}
#: Codes that pass although their status may say otherwise: lost or damaged on the way, too much at once.
_PASSING = {
    *("BadDigest", "XAmzContentSHA256Mismatch", "InvalidDigest", "IncompleteBody", "RequestTimeout"),
    *("SlowDown", "Throttling", "ThrottlingException"),
    *("RequestLimitExceeded", "TooManyRequests", "RequestThrottled"),
}
_PASSING_STATUS = {408, 409, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524}


class Unavailable(FtjobsError):
    """The store cannot be reached, is overloaded, or its answer was cut: it may be different in a moment."""


class Refused(FtjobsError):
    """An answer that another try would not change.

    `code` is S3's error code, `tries` how often it was asked: with more than one, an earlier request whose answer was
    lost may have been carried out.
    """

    def __init__(self, problem: str, code: str) -> None:
        super().__init__(problem)
        self.code, self.tries = code, 1


def explain(error: Exception, operation: str, uri: str, bucket: str, endpoint: str) -> Exception:
    """Our exception for one of boto3's: KeyError, UserError, Refused or Unavailable."""
    if isinstance(error, ClientError):
        return _explain_answer(error, operation, uri, f"s3://{bucket} at {endpoint}")
    where = f"s3://{bucket} at {endpoint}"
    if isinstance(error, NoCredentialsError):
        return UserError(f"{where}: no credentials; {_SET_KEYS}")
    if isinstance(error, PartialCredentialsError | SSOError | LoginError | TokenRetrievalError):
        return UserError(f"{where}: no usable credentials ({error}); {_SET_KEYS}")
    if isinstance(error, SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return UserError(
            f"{where}: its certificate is not trusted here; set AWS_CA_BUNDLE to the file of its authority"
        )
    passing = (
        *(ConnectionError, HTTPClientError, IncompleteReadError, FlexibleChecksumError),
        *(CredentialRetrievalError, MetadataRetrievalError),
    )
    if isinstance(error, passing) or not isinstance(error, BotoCoreError):
        # Its kind only: the text would repeat the address, with what was signed in it.
        return Unavailable(f"{uri}: {operation} failed at {endpoint} ({type(error).__name__})")
    return UserError(f"{where}: {error}; check --store and the AWS_ variables")


def _explain_answer(error: ClientError, operation: str, uri: str, where: str) -> Exception:
    answer: dict[str, Any] = dict(error.response)
    code = str(answer.get("Error", {}).get("Code", ""))
    message = str(answer.get("Error", {}).get("Message", ""))
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in ("NoSuchKey", "404", "NotFound"):
        return KeyError(uri)
    if code in _MENDABLE:
        return UserError(f"{where}: {_MENDABLE[code]}")
    if code in _PASSING or status in _PASSING_STATUS:
        return Unavailable(f"{uri}: {operation} was answered {status} {code}")
    if status in (401, 403):
        permission = _PERMISSIONS.get(operation, "s3:PutObject")
        return UserError(f"{uri}: not allowed ({status} {code}: {message}); these credentials need {permission}")
    return Refused(f"{uri}: {operation} was answered {status} {code}: {message}", code)
