"""Settings of a stage that make no sense together are refused with the reason."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from ftjobs.jobfile.fields import Classify, Lora


@pytest.mark.parametrize("value", ["all", "gradual", "last-1", "last-12"])
def test_what_may_be_unfrozen(value: str) -> None:
    assert Classify(unfreeze=value).unfreeze == value


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"unfreeze": "last-0"}, "should be `all`, `gradual`, or `last-N` such as `last-2`, not 'last-0'"),
        ({"unfreeze": "last"}, "should be `all`, `gradual`, or `last-N` such as `last-2`, not 'last'"),
        (
            {"freeze_encoder": True, "unfreeze": "gradual"},
            "freeze_encoder: true and unfreeze: gradual contradict each other",
        ),
        ({"freeze_encoder": True, "layer_decay": 0.9}, "layer_decay has no meaning with freeze_encoder: true"),
        ({"freeze_encoder": True, "reinitialise_layers": 2}, "would freeze random weights; unfreeze: last-2 trains"),
        ({"unfreeze": "last-1", "reinitialise_layers": 2}, "would freeze random weights; write last-2 or more"),
        (
            {"lora": Lora(), "freeze_encoder": True},
            "freeze_encoder: true says how the encoder's own weights are trained",
        ),
        ({"lora": Lora(), "unfreeze": "gradual"}, "unfreeze: gradual says how the encoder's own weights are trained"),
        ({"lora": Lora(), "layer_decay": 0.9}, "layer_decay: 0.9 says how"),
        ({"lora": Lora(), "reinitialise_layers": 1}, "reinitialise_layers: 1 says how"),
        ({"layer_decay": 0.0}, "greater than 0"),
        ({"layer_decay": 1.1}, "less than or equal to 1"),
    ],
)
def test_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Classify(**fields)
    (problem,) = caught.value.errors()
    assert message in problem["msg"]
