"""Loading a stage restores garbage collection."""

from __future__ import annotations

import gc
import weakref

import pytest

from ftjobs import stages
from ftjobs.stages import classify


def test_garbage_collection_is_restored() -> None:
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
    """An object with a reference cycle, like models with hooks, which only garbage collection frees."""

    def __init__(self) -> None:
        self.hook = self


def test_objects_of_an_earlier_stage_are_freed() -> None:
    gc.disable()
    try:
        left = weakref.ref(Model())
        stages.load("classify")
    finally:
        gc.enable()
    gc.collect()
    assert left() is None
