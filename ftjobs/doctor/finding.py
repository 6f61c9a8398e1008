"""One thing that was looked at, and how it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """What was looked at and what was found; where something is to be done, what."""

    about: str
    found: str
    state: Literal["ok", "warning", "problem"] = "ok"
    """`problem`: a stage would fail. `warning`: it would run, but slower or with less than one may expect."""
    remedy: str = ""
