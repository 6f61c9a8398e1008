"""Artifacts: the immutable outputs of stages.

A stage uploads its files to a fresh attempt. The manifest, which lists every file with its size and sha256, is written
last, by a conditional put. Readers trust only the manifest and verify every sha256: no partial artifact is ever used.
"""

from ftjobs.artifacts.fetching import fetch, pull, read_text
from ftjobs.artifacts.gc import Garbage, find_garbage, parse_age, remove_garbage
from ftjobs.artifacts.manifest import (
    FileEntry,
    Manifest,
    find_manifest,
    list_keys,
    list_manifests,
    require_manifest,
    resolve_uri,
)
from ftjobs.artifacts.publishing import publish
from ftjobs.artifacts.verification import verify

__all__ = [
    "FileEntry",
    "Garbage",
    "Manifest",
    "fetch",
    "find_garbage",
    "find_manifest",
    "list_keys",
    "list_manifests",
    "parse_age",
    "publish",
    "pull",
    "read_text",
    "remove_garbage",
    "require_manifest",
    "resolve_uri",
    "verify",
]
