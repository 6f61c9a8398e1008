"""GPUs, which tests do not see unless they are of GPUs: on a CPU the same job gives the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache

_VISIBLE, _GIVEN = "CUDA_VISIBLE_DEVICES", "FTJOBS_TESTS_GPUS"  # the second for workers of pytest-xdist
os.environ.setdefault(_GIVEN, os.environ.get(_VISIBLE, "all"))
os.environ[_VISIBLE] = ""


def visible() -> dict[str, str]:
    """The variables of this process for one that sees the GPUs that this one was given."""
    given = os.environ[_GIVEN]
    others = {name: value for name, value in os.environ.items() if name != _VISIBLE}
    return others if given == "all" else {**others, _VISIBLE: given}


@cache
def are_there() -> bool:
    """Whether PyTorch can use one."""
    script = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", script], env=visible(), check=False).returncode == 0
