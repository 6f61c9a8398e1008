"""Low-rank adaptation: training few parameters beside the encoder's own, and adding them to these in the end."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ftjobs.jobfile.fields.base import Fields, NonEmpty


class Lora(Fields):
    """Keep the encoder's weights W and train W + (alpha / rank) B A in their place, A and B of few rows and columns (Hu
    et al. 2022, "LoRA: Low-rank adaptation of large language models", section 4). B starts at zero."""

    rank: Annotated[int, Field(ge=1, le=4096)] = 8
    """Rows of A and columns of B."""
    alpha: Annotated[float, Field(gt=0, le=1e6)] = 16.0
    """Scale of what is added, over `rank`."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout of what A reads, in training."""
    target_modules: Literal["attention", "all-linear"] | Annotated[list[NonEmpty], Field(min_length=1)] = "attention"
    """Which linear layers: `attention`, those of every layer's attention, in any family; `all-linear`, the feed-forward
    ones too; or the ends of their names, such as `[query, value]`."""

    def __str__(self) -> str:
        return f"LoRA of rank {self.rank}"
