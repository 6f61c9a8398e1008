"""Memory does not grow with the data: texts and tokens are in memory-mapped files."""

from __future__ import annotations

import csv
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.families import WORDS

#: The first run loads libraries and fills pools; the peaks of the others are compared. Chunk sizes are reduced, because
#: the short data would otherwise be in memory at once.
SCRIPT = """
import json, sys, tempfile
from pathlib import Path
from ftjobs.data import prepared
from ftjobs.data.examples import tokenization
from ftjobs.data.readers import columns
from ftjobs.jobfile.fields import Adapt, Classify, Data, Encoder
from ftjobs.plan import Prepare
from ftjobs.stages import adapt, classify, prepare
from ftjobs.training.callbacks import Callback
from ftjobs.training.callbacks import TrainingContext
from tests.benchmarks.corpus import peak_memory

columns._BATCH_BYTES = prepared._ROW_GROUP_BYTES = tokenization._BATCH_CHARACTERS = 2**17
folder, encoder = Path(sys.argv[1]), sys.argv[2]

class Enough(Exception):
    pass

class FewSteps(Callback):
    def on_step_end(self, event):
        if event.step == 3:
            raise Enough

def trained(stage, settings, made, name):
    (made / name).mkdir()
    try:
        stage.run(settings, 1, {"prepare": made, "encoder": made}, made / name, TrainingContext(callbacks=(FewSteps(),)))
    except Enough:
        return
    raise AssertionError("too few rows")

def run(size):
    made = Path(tempfile.mkdtemp(dir=folder))
    split = {"test_fraction": 0.003, "group_by": "connected"}
    data = Data(source=str(folder / f"{size}.csv"), text="a", label="label", split=split)
    found = {}
    with peak_memory() as found["prepare"]:
        prepare.run(Prepare(encoder=Encoder(model=encoder), data=data), 0, {}, made)
    few = {"epochs": 1, "mixed_precision": "no"}
    with peak_memory() as found["adapt"]:
        trained(adapt, Adapt(kind="adapt", **few), made, "adapt")
    with peak_memory() as found["classify"]:
        trained(classify, Classify(kind="classify", **few), made, "classify")
    return {stage: memory["anonymous"] for stage, memory in found.items()}

print(json.dumps([run(size) for size in ("short", "short", "long")][1:]))
"""


def write_rows(path: Path, megabytes: float) -> None:
    generator = random.Random(1)
    size = row = 0
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "label"])
        while size < megabytes * 1e6:
            text = f"{row} {' '.join(generator.choices(WORDS, k=200))}"
            size += len(text)
            writer.writerow([text, row % 2])
            row += 1


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_memory_does_not_grow_with_the_corpus(make_encoder: Callable[..., Path], tmp_path: Path) -> None:
    write_rows(tmp_path / "short.csv", 0.5)
    write_rows(tmp_path / "long.csv", 5)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), str(make_encoder("bert", "pretraining"))]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    short, long = json.loads(result.stdout.splitlines()[-1])
    growth = {stage: long[stage] - short[stage] for stage in short}
    assert max(growth.values()) < 10, growth  # MB; with texts, tokens and encodings in lists it was 135
