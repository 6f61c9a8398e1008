"""Loading a stage leaves the search for garbage as it was."""

from __future__ import annotations

import gc
import weakref

import pytest

from ftjobs import stages
from ftjobs.stages import classify


def test_garbage_is_looked_for_again_afterwards() -> None:
    assert gc.isenabled()
    assert stages.load("classify") is classify.run
    assert gc.isenabled()
    with pytest.raises(ModuleNotFoundError):
        stages.load("no-such-kind")
    assert gc.isenabled()
    gc.disable()
    try:
        stages.load("classify")
        assert not gc.isenabled()
    finally:
        gc.enable()


class Model:
    """Refers to itself, as models with hooks do, so that only a search for garbage frees it."""

    def __init__(self) -> None:
        self.hook = self


def test_what_an_earlier_stage_has_left_is_freed() -> None:
    gc.disable()
    try:
        left = weakref.ref(Model())
        stages.load("classify")
    finally:
        gc.enable()
    gc.collect()
    assert left() is None
