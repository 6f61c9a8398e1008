"""Train by objectives with two losses on two processes and write the steps; run under torch's launcher by
tests/objectives/test_sentence_pairs.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from accelerate.state import PartialState

from tests.helpers.objectives import train_on_documents

if __name__ == "__main__":
    folders = json.loads(sys.argv[1])
    steps = {name: train_on_documents(Path(folder), name, per_device_batch_size=4) for name, folder in folders.items()}
    assert PartialState().num_processes == 2
    if PartialState().is_main_process:
        Path(sys.argv[2]).write_text(json.dumps(steps))
    PartialState().destroy_process_group()
