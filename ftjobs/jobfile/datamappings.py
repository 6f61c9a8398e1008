"""Where in a job file data is named: the job's own, and that of single stages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def data_mappings(job: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every mapping that may have a `source`, with its path: `data`, `defaults.classify.data`, `stages.<name>.data`.

    `job` is plain data, and need not be valid: what is no mapping is passed over.
    """
    places: list[tuple[tuple[str, ...], dict[str, Any]]] = [((), job)]
    for group in ("defaults", "stages"):
        for name, fields in _mapping(job.get(group)).items():
            places.append(((group, name), _mapping(fields)))
    for path, fields in places:
        if isinstance(fields.get("data"), dict):
            yield (*path, "data"), fields["data"]


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
