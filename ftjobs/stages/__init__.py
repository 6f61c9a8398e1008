"""The kinds of stage. Each is `run(settings, seed, inputs, output) -> metrics`: folders in, one folder out.

A stage never sees storage. `inputs` maps a role to the folder of a published artifact, `output` is an empty folder,
and the metrics returned are the few figures that its manifest carries. Stages that train also take a `session`: where
training state is kept, that of an earlier attempt is found, and metrics are logged.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable
from typing import Any


def load(kind: str) -> Callable[..., dict[str, Any]]:
    """The function `run` of a kind of stage, imported here and now: it brings PyTorch and transformers along.

    Meanwhile nobody looks for garbage: there is none, and going through all that was imported so far again and again is
    a sixth of the time that a stage takes to start.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        run: Callable[..., dict[str, Any]] = importlib.import_module(f"ftjobs.stages.{kind}").run
    finally:
        if collects:
            gc.enable()
    return run
