"""Base classes of findings, and their JSON form in `report.json`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any, TypeVar

BOOTSTRAP_SEED = 0
"""Seed of every bootstrap in a report: the same artifacts give the same report, byte for byte."""

Interval = tuple[float, float]
"""Lower and upper limit of a 95 % interval."""
OPTIONAL = {"optional": True}
"""Metadata of a field whose key is absent from `report.json` when the value is None."""
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A typed finding. Its fields are the keys of its JSON object unless `json_fields` maps them otherwise."""

    def json_fields(self) -> dict[str, Any]:
        """Return the JSON object's keys and values. Values may be findings themselves."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        optional = {field.name for field in dataclasses.fields(self) if field.metadata.get("optional")}
        return {name: value for name, value in values.items() if value is not None or name not in optional}


def to_json(value: Any) -> Any:
    """Convert findings, at any depth, to dictionaries and lists."""
    if isinstance(value, Finding):
        return to_json(value.json_fields())
    if isinstance(value, dict):
        return {key: to_json(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(entry) for entry in value]
    return value


def map_strings(value: T, function: Callable[[str], str]) -> T:
    """Return a copy with `function` applied to every string and key, at any depth."""
    copy: Any = value
    if isinstance(value, str):
        copy = function(value)
    elif isinstance(value, Finding):
        changed = {field.name: map_strings(getattr(value, field.name), function) for field in dataclasses.fields(value)}
        copy = dataclasses.replace(value, **changed)
    elif isinstance(value, dict):
        copy = {map_strings(key, function): map_strings(entry, function) for key, entry in value.items()}
    elif isinstance(value, list | tuple):
        copy = type(value)(map_strings(entry, function) for entry in value)
    return copy  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class Spread(Finding):
    """A figure over seeds."""

    mean: float
    sd: float | None
    """Standard deviation; None with a single seed."""


@dataclass(frozen=True, kw_only=True)
class Estimate(Spread):
    """A figure over seeds with the 95 % interval of its mean."""

    interval: Interval


def spread(values: Sequence[float]) -> Spread:
    """Return mean and standard deviation over seeds."""
    return Spread(mean=mean(values), sd=stdev(values) if len(values) > 1 else None)


@dataclass(frozen=True, kw_only=True)
class Caveat(Finding):
    """A limitation of the results, detected in the published artifacts."""

    name: str
    """Stable name; `kind` in `report.json`."""
    text: str
    """One or more sentences, in the prose format of `phrases`."""
    figures: Finding | dict[str, Any]
    """The figures in the text."""

    def json_fields(self) -> dict[str, Any]:
        """Name the first key `kind`."""
        return {"kind": self.name, "text": self.text, "figures": self.figures}
