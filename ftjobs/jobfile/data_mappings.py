"""Locate the data sources in the plain data of a job file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def data_mappings(job: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Yield every mapping with a `source`, and its path: the job's `data`, and `data` and `corpus` of stages.

    Stages are entries of `defaults` and `stages`. `job` may be invalid: values that are not mappings are skipped.
    """
    places: list[tuple[tuple[str, ...], dict[str, Any]]] = [((), job)]
    for group in ("defaults", "stages"):
        for name, fields in _as_mapping(job.get(group)).items():
            places.append(((group, name), _as_mapping(fields)))
    for path, fields in places:
        for field in ("data", "corpus") if path else ("data",):
            if isinstance(fields.get(field), dict):
                yield (*path, field), fields[field]


def map_source(source: Any, change: Callable[[Any, str], Any]) -> Any:
    """Apply a function to every address of a `source`: a single one, a list, or a mapping by split.

    Args:
        source: value of a `source` field.
        change: called with the address and its key: the split, the position in a list, or "".
    """
    if isinstance(source, dict):
        return {split: change(address, split) for split, address in source.items()}
    if isinstance(source, list):
        return [change(address, str(position)) for position, address in enumerate(source)]
    return change(source, "")


def _as_mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
