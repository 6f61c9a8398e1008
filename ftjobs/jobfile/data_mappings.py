"""Where in a job file data is named: the job's own, and that of single stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def data_mappings(job: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every mapping that may have a `source`, with its path: `data`, and `data` and `corpus` of `defaults.<kind>` and
    `stages.<name>`.

    `job` is plain data, and need not be valid: what is no mapping is passed over.
    """
    places: list[tuple[tuple[str, ...], dict[str, Any]]] = [((), job)]
    for group in ("defaults", "stages"):
        for name, fields in _mapping(job.get(group)).items():
            places.append(((group, name), _mapping(fields)))
    for path, fields in places:
        for field in ("data", "corpus") if path else ("data",):
            if isinstance(fields.get(field), dict):
                yield (*path, field), fields[field]


def each_source(source: Any, change: Callable[[Any, str], Any]) -> Any:
    """A `source` in the shape it has, one address, a list, or one for each split, with every address changed.

    Args:
        source: as it stands in a mapping.
        change: takes an address and what sets it apart from others: "", the position in a list, or the split.
    """
    if isinstance(source, dict):
        return {split: change(one, split) for split, one in source.items()}
    if isinstance(source, list):
        return [change(one, str(position)) for position, one in enumerate(source)]
    return change(source, "")


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
