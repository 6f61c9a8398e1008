"""Classify errors of the Hugging Face Hub: refused requests, and temporary failures worth a retry."""

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
    """Return the chain of causes of an error, the error itself first."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def refusal(error: BaseException, name: str, kind: str) -> str | None:
    """Return problem and remedy if the Hub has refused a repository; None for any other error.

    Args:
        error: raised by `huggingface_hub`, `transformers` or `datasets`.
        name: of the repository, as in the job file.
        kind: `model` or `dataset`.
    """
    chain = causes(error)
    # `datasets` drops the cause of some errors; only the message is left.
    if any(isinstance(link, GatedRepoError) or "is a gated dataset" in str(link) for link in chain):
        page = f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{name}"
        return f"access is restricted; request it on {page} and set HF_TOKEN to a token of an account that has access"
    if any(isinstance(link, RevisionNotFoundError) for link in chain):
        return "no such revision on the Hub; give an existing branch, tag or commit"
    if any(isinstance(link, RepositoryNotFoundError | HFValidationError) for link in chain):
        path = os.path.abspath(os.path.expanduser(name))
        return (
            f"not found on the Hub (or private), nor on this machine (looked at {path}); correct the id or the path, "
            "or set HF_TOKEN to a token that can read it"
        )
    return None


def is_temporary(error: BaseException) -> bool:
    """Return True if a retry may help: a failure of the network, the Hub or the local disk."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    if isinstance(error, httpx.TransportError | LocalEntryNotFoundError | FileMetadataError):
        return True
    return isinstance(error, OSError) and (error.errno is not None or isinstance(error, ConnectionError | TimeoutError))


def reason(error: BaseException) -> str:
    """Return type and message of an error in one line of at most 300 characters."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
