"""Fields of a classify stage that exclude each other."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from ftjobs.jobfile.fields import Classify, Lora


@pytest.mark.parametrize("value", ["all", "gradual", "last-1", "last-12"])
def test_values_of_unfreeze(value: str) -> None:
    assert Classify(unfreeze=value).unfreeze == value


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"unfreeze": "last-0"}, "`last-2`, not 'last-0'"),
        ({"unfreeze": "last"}, "`last-2`, not 'last'"),
        (
            {"freeze_encoder": True, "unfreeze": "gradual"},
            "freeze_encoder: true and unfreeze: gradual",
        ),
        ({"freeze_encoder": True, "layer_decay": 0.9}, "layer_decay: 0.9"),
        ({"freeze_encoder": True, "reinitialise_layers": 2}, "unfreeze: last-2"),
        ({"unfreeze": "last-1", "reinitialise_layers": 2}, "last-2 or more"),
        (
            {"lora": Lora(), "freeze_encoder": True},
            "freeze_encoder: true",
        ),
        ({"lora": Lora(), "unfreeze": "gradual"}, "unfreeze: gradual"),
        ({"lora": Lora(), "layer_decay": 0.9}, "layer_decay: 0.9"),
        ({"lora": Lora(), "reinitialise_layers": 1}, "reinitialise_layers: 1"),
        ({"layer_decay": 0.0}, "greater than 0"),
        ({"layer_decay": 1.1}, "less than or equal to 1"),
    ],
)
def test_conflicting_fields_are_rejected(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Classify(**fields)
    (problem,) = caught.value.errors()
    assert message in problem["msg"]
