"""`ftjobs doctor`: checks of the machine, the store, the Hub, tracking and a job file, before hours depend on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """Result of one check, with a remedy if there is something to do."""

    about: str
    found: str
    state: Literal["ok", "warning", "problem"] = "ok"
    """`problem`: a stage would fail. `warning`: a stage would run, but slower or with fewer features."""
    remedy: str = ""
