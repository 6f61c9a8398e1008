"""The kinds of stage. Each module has `run(settings, seed, inputs, output) -> metrics`.

A stage never accesses storage. `inputs` maps a role to the folder of a published artifact, `output` is an empty folder,
and the returned metrics are the few figures that the manifest contains. Stages that train also take a `context` with
checkpointing and metrics logging.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable
from typing import Any


def load(kind: str) -> Callable[..., dict[str, Any]]:
    """Import the module of a kind of stage, with PyTorch and transformers, and return its `run` function.

    Garbage collection is disabled during the import: there is no garbage, and repeated scans of the imported objects
    take a sixth of a stage's start-up time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        run: Callable[..., dict[str, Any]] = importlib.import_module(f"ftjobs.stages.{kind}").run
    finally:
        if was_enabled:
            gc.enable()
    return run
