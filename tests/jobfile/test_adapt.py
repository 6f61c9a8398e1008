"""What an adapt stage's fields take and refuse."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from ftjobs.jobfile.fields import Adapt, Replace


def test_shares_sum_to_one() -> None:
    assert Adapt(replace=Replace(mask=1.0, random=0.0, keep=0.0)).replace.mask == 1
    assert Replace(mask=0.7, random=0.2, keep=0.1).random == 0.2  # 0.7 + 0.2 + 0.1 is not quite 1 in floating point
    with pytest.raises(ValidationError, match=r"mask 0\.9, random 0\.1 and keep 0\.1 sum to 1\.1 and not to 1; give"):
        Replace(mask=0.9)
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        Replace(mask=1.1, random=-0.1, keep=0.0)
