"""Failures on the way to the hub: what led to one, and whether another try may do."""

from __future__ import annotations

from huggingface_hub.errors import FileMetadataError, HfHubHTTPError, LocalEntryNotFoundError
from huggingface_hub.utils import httpx


def causes(error: BaseException | None) -> list[BaseException]:
    """An error and everything that led to it, the error itself first."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def may_pass(error: BaseException) -> bool:
    """Failures of the network, the hub or this machine's disk."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    if isinstance(error, httpx.TransportError | LocalEntryNotFoundError | FileMetadataError):
        return True
    return isinstance(error, OSError) and (error.errno is not None or isinstance(error, ConnectionError | TimeoutError))


def reason(error: BaseException) -> str:
    """Type and message of an error, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
