"""Base class and shared types of the fields of a job file."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

#: RFC 1123 label. The maximum length, with `checks.MAX_NAMES`, keeps names of Kubernetes Jobs valid.
DnsLabel = Annotated[str, Field(max_length=40, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
NonEmpty = Annotated[str, Field(min_length=1)]


class Fields(BaseModel):
    """Base of every mapping in a job file: strict types, no unknown keys, immutable."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )
