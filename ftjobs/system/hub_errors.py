"""Failures on the way to the hub: what led to one, what the hub refuses, and whether another try may do."""

from __future__ import annotations

import os

from huggingface_hub.errors import (
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx


def causes(error: BaseException | None) -> list[BaseException]:
    """An error and everything that led to it, the error itself first."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def refusal(error: BaseException, name: str, kind: str) -> str | None:
    """What the hub has against giving a `model` or `dataset` of that name, and the way out; None if nothing."""
    chain = causes(error)
    # `datasets` drops the cause of some errors, so its message has to do.
    if any(isinstance(link, GatedRepoError) or "is a gated dataset" in str(link) for link in chain):
        page = f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{name}"
        return f"access is restricted; ask for it on {page} and set HF_TOKEN to a token that has it"
    if any(isinstance(link, RevisionNotFoundError) for link in chain):
        return "the hub has no such revision; give a branch, tag or commit it has"
    if any(isinstance(link, RepositoryNotFoundError | HFValidationError) for link in chain):
        path = os.path.abspath(os.path.expanduser(name))
        return (
            f"neither on the hub (or it is private) nor here (looked at {path}); correct the id or the path, or set "
            "HF_TOKEN to a token that may read it"
        )
    return None


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
