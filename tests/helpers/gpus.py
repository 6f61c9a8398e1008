"""Hide GPUs from tests that are not marked `gpu`: on a CPU, the same job gives the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache

_VISIBLE, _ORIGINAL = "CUDA_VISIBLE_DEVICES", "FTJOBS_TESTS_GPUS"  # the second one for workers of pytest-xdist
os.environ.setdefault(_ORIGINAL, os.environ.get(_VISIBLE, "all"))
os.environ[_VISIBLE] = ""


def visible() -> dict[str, str]:
    """Return the environment of this process with the GPUs that were visible at its start."""
    devices = os.environ[_ORIGINAL]
    others = {name: value for name, value in os.environ.items() if name != _VISIBLE}
    return others if devices == "all" else {**others, _VISIBLE: devices}


@cache
def available() -> bool:
    """Return whether PyTorch can use a GPU."""
    script = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", script], env=visible(), check=False).returncode == 0
