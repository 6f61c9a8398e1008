"""Train a classifier on two processes and write the steps; run under torch's launcher by tests/training/test_loop.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from accelerate.state import PartialState

from tests.helpers.training import PARALLEL_SETTINGS, settings, train_classifier

if __name__ == "__main__":
    all_steps = []
    for fields in PARALLEL_SETTINGS:
        _, steps, trained = train_classifier(Path(sys.argv[1]), settings(per_device_batch_size=4, **fields))
        assert trained.processes == 2
        all_steps.append(steps)
    if PartialState().is_main_process:
        Path(sys.argv[2]).write_text(json.dumps(all_steps))
    PartialState().destroy_process_group()
