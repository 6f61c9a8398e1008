"""Run under torch's launcher by test_sentencepairs: objectives with two losses on two processes, and their steps."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from accelerate.state import PartialState

from tests.objectives.test_sentence_pairs import train_on

if __name__ == "__main__":
    folders = json.loads(sys.argv[1])
    steps = {name: train_on(Path(folder), name, per_device_batch_size=4) for name, folder in folders.items()}
    assert PartialState().num_processes == 2
    if PartialState().is_main_process:
        Path(sys.argv[2]).write_text(json.dumps(steps))
    PartialState().destroy_process_group()
