"""Validation of the fields of an `adapt` stage."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from ftjobs.jobfile.checks import check
from ftjobs.jobfile.fields import Adapt, Job, Replace


def test_replacement_shares_sum_to_one() -> None:
    assert Adapt(replace=Replace(mask=1.0, random=0.0, keep=0.0)).replace.mask == 1
    assert Replace(mask=0.7, random=0.2, keep=0.1).random == 0.2  # 0.7 + 0.2 + 0.1 is not quite 1 in floating point
    with pytest.raises(ValidationError, match=r"mask 0\.9, .*1\.1"):
        Replace(mask=0.9)
    with pytest.raises(ValidationError, match="equal to 0"):
        Replace(mask=1.1, random=-0.1, keep=0.0)


def test_fields_that_do_not_apply_to_the_objective_raise() -> None:
    assert Adapt(objective="replaced-token", generator_size=0.5).generator_size == 0.5
    with pytest.raises(ValidationError, match=r"generator_size .*mlm; .*: replaced-token "):
        Adapt(generator_size=0.5)
    with pytest.raises(ValidationError, match=r"replace .*replaced-token; .*: mlm, mlm\+nsp, mlm\+sop"):
        Adapt(objective="replaced-token", replace=Replace(mask=1.0, random=0.0, keep=0.0))


@pytest.mark.parametrize(("objective", "family"), [("mlm+sop", "ALBERT"), ("replaced-token", "ELECTRA")])
def test_scratch_encoder_supports_objectives_of_bert_only(objective: str, family: str) -> None:
    fields = {
        "name": "toy",
        "encoder": {"scratch": {}},
        "data": {"source": "me/texts", "text": "text"},
        "stages": {"adapt": {"kind": "adapt"}, "other": {"kind": "adapt", "encoder": "adapt"}},
    }
    assert list(check(Job.model_validate(fields))) == []
    fields["defaults"] = {"adapt": {"objective": objective}}
    problems = list(check(Job.model_validate(fields)))
    assert [field for field, _ in problems] == [("stages", name, "objective") for name in ("adapt", "other")]
    message = problems[0][1]
    assert message.startswith(f"{objective} ")
    assert family in message
    assert message.endswith(": mlm, mlm+nsp")


def test_objectives_on_pairs_refuse_corpus_units() -> None:
    corpus = {"source": "corpus.txt"}
    assert Adapt.model_validate({"objective": "mlm+nsp", "corpus": corpus}).objective == "mlm+nsp"
    for setting in ({"unit": "sentence"}, {"isolate": True}):
        with pytest.raises(ValidationError, match=r"mlm\+nsp .*corpus\.unit .*corpus\.isolate"):
            Adapt.model_validate({"objective": "mlm+nsp", "corpus": {**corpus, **setting}})


def test_replaced_token_refuses_a_vocabulary() -> None:
    with pytest.raises(ValidationError, match=r"vocabulary .*replaced-token"):
        Adapt.model_validate({"objective": "replaced-token", "vocabulary": {"add": 10}})
