"""Run under torch's launcher by test_loop: trains on two processes and writes the steps that process 0 saw."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from accelerate.state import PartialState

from tests.training.test_loop import IN_PARALLEL, settings, train_classifier

if __name__ == "__main__":
    found = []
    for fields in IN_PARALLEL:
        _, steps, trained = train_classifier(Path(sys.argv[1]), settings(per_device_batch_size=4, **fields))
        assert trained.processes == 2
        found.append(steps)
    if PartialState().is_main_process:
        Path(sys.argv[2]).write_text(json.dumps(found))
    PartialState().destroy_process_group()
