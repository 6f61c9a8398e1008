"""Peak memory since the last reset, and constant memory over epochs."""

from __future__ import annotations

import itertools
import re
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from ftjobs.data.examples.masked_examples import MaskedExamples
from ftjobs.jobfile.fields import Adapt
from ftjobs.objectives.compute.mlm import MaskedLMObjective
from ftjobs.training import memory
from ftjobs.training.callbacks import Callback, EpochEnd
from ftjobs.training.context import TrainingContext
from ftjobs.training.loop import train
from tests.helpers.training import ToyObjective, random_tokens

MEGABYTE = 2**20


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_peak_memory_excludes_earlier_stages_of_the_process() -> None:
    memory.reset_peak_memory()
    before, where = memory.peak_memory()
    earlier = np.ones(200 * MEGABYTE, dtype=np.uint8)
    large, _ = memory.peak_memory()
    del earlier
    assert large - before > 190 * MEGABYTE
    memory.reset_peak_memory()
    assert where == "process"
    assert memory.peak_memory()[0] < large - 150 * MEGABYTE


def test_peak_memory_without_procfs_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "_PROCESS", tmp_path / "none")
    memory.reset_peak_memory()
    peak, where = memory.peak_memory()
    assert where == "process"
    assert 100 * MEGABYTE < peak <= 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_memory_does_not_grow_over_epochs() -> None:
    """The weights are 0.7 MB, and every epoch is the best so far; logits of an evaluation are 2 MB."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    model = BertForMaskedLM(BertConfig(vocab_size=5_000, **sizes))
    examples = MaskedExamples(random_tokens(64, 5_000), 1, 0.15, 4, 5_000, 0)
    fields = Adapt(kind="adapt", epochs=40, per_device_batch_size=8, mixed_precision="no")
    objective = MaskedLMObjective(fields, model, [])
    megabytes: list[float] = []
    better = itertools.count()

    class RecordMemory(Callback):
        def on_epoch_end(self, event: EpochEnd) -> None:
            match = re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())
            assert match is not None
            megabytes.append(int(match[1]) / 1024)

    toy = ToyObjective(objective.loss, evaluate=lambda: objective.measure(examples), score=lambda _: next(better))
    train(model, examples, fields, toy, seed=1, context=TrainingContext(callbacks=(RecordMemory(),)))
    assert max(megabytes[20:]) - max(megabytes[10:20]) < 2, megabytes  # in 20 epochs of 8 steps
