"""Artifacts: what a stage publishes, all at once and for good.

Files go to a fresh attempt; then the manifest, which names every file with size and sha256, is put alone and last,
if absent. Readers trust the manifest only and check every digest, so nobody ever uses part of an artifact.
"""

from ftjobs.artifacts.fetching import fetch, pull, read_text
from ftjobs.artifacts.gc import Garbage, age, dead, remove, verify
from ftjobs.artifacts.manifest import FileEntry, Manifest, at, find, listing, published, require
from ftjobs.artifacts.publishing import publish

__all__ = [
    "FileEntry",
    "Garbage",
    "Manifest",
    "age",
    "at",
    "dead",
    "fetch",
    "find",
    "listing",
    "publish",
    "published",
    "pull",
    "read_text",
    "remove",
    "require",
    "verify",
]
