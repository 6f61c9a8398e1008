"""What every part of a job file is: strict, without unknown keys, immutable; and the types that many fields have."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

#: RFC 1123 label. Together with `checks.MAX_NAMES` short enough to name a Kubernetes Job.
DnsLabel = Annotated[str, Field(max_length=40, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
NonEmpty = Annotated[str, Field(min_length=1)]


class Fields(BaseModel):
    """Base of every part of a job file: strict types, no unknown keys, immutable."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )
