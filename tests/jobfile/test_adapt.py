"""What an adapt stage's fields take and refuse."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from ftjobs.jobfile.checks import check
from ftjobs.jobfile.fields import Adapt, Job, Replace


def test_shares_sum_to_one() -> None:
    assert Adapt(replace=Replace(mask=1.0, random=0.0, keep=0.0)).replace.mask == 1
    assert Replace(mask=0.7, random=0.2, keep=0.1).random == 0.2  # 0.7 + 0.2 + 0.1 is not quite 1 in floating point
    with pytest.raises(ValidationError, match=r"mask 0\.9, random 0\.1 and keep 0\.1 sum to 1\.1 and not to 1; give"):
        Replace(mask=0.9)
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        Replace(mask=1.1, random=-0.1, keep=0.0)


def test_fields_of_one_objective_are_refused_with_others() -> None:
    assert Adapt(objective="replaced-token", generator_size=0.5).generator_size == 0.5
    with pytest.raises(ValidationError, match="generator_size only has a meaning with objective: replaced-token"):
        Adapt(generator_size=0.5)
    with pytest.raises(ValidationError, match="replace has no meaning with objective: replaced-token"):
        Adapt(objective="replaced-token", replace=Replace(mask=1.0, random=0.0, keep=0.0))


@pytest.mark.parametrize(("objective", "family"), [("mlm+sop", "ALBERT"), ("replaced-token", "ELECTRA")])
def test_an_encoder_made_on_the_spot_is_a_bert(objective: str, family: str) -> None:
    fields = {
        "name": "toy",
        "encoder": {"scratch": {}},
        "data": {"source": "me/texts", "text": "text"},
        "stages": {"adapt": {"kind": "adapt"}, "other": {"kind": "adapt", "encoder": "adapt"}},
    }
    assert list(check(Job.model_validate(fields))) == []
    fields["defaults"] = {"adapt": {"objective": objective}}
    found = list(check(Job.model_validate(fields)))
    assert [where for where, _ in found] == [("stages", name, "objective") for name in ("adapt", "other")]
    expected = f"{objective} is for {family}, and encoder.scratch makes a BERT; write mlm or mlm+nsp"
    assert found[0][1] == expected
