"""Peak memory is that of what ran since it was last asked to start over."""

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
from ftjobs.objectives.mlm import MaskedLM
from ftjobs.training import evaluation, memory
from ftjobs.training.loop import train
from tests.training.test_trainer_parity import random_tokens

MEGABYTE = 2**20


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux can start over")
def test_a_stage_does_not_count_what_an_earlier_one_in_the_same_process_needed() -> None:
    memory.reset_peak_memory()
    before, where = memory.peak()
    earlier = np.ones(200 * MEGABYTE, dtype=np.uint8)
    large, _ = memory.peak()
    del earlier
    assert large - before > 190 * MEGABYTE
    memory.reset_peak_memory()
    assert where == "process"
    assert memory.peak()[0] < large - 150 * MEGABYTE


def test_where_the_system_tells_only_of_the_whole_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "_PROCESS", tmp_path / "none")
    memory.reset_peak_memory()
    peak, where = memory.peak()
    assert where == "process"
    assert 100 * MEGABYTE < peak <= 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process's own memory")
def test_memory_does_not_grow_with_epochs() -> None:
    """The weights are 0.7 MB and every epoch counts as the best so far; logits of its evaluation are 2 MB: an epoch that
    left any of these behind would show."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    model = BertForMaskedLM(BertConfig(vocab_size=5_000, **sizes))
    examples = MaskedExamples(random_tokens(64, 5_000), 1, 0.15, 4, 5_000, 0)
    objective = MaskedLM(model)
    own: list[float] = []
    better = itertools.count()

    def after_epoch(*_: object) -> None:
        match = re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())
        assert match is not None
        own.append(int(match[1]) / 1024)

    train(
        model,
        examples,
        Adapt(kind="adapt", epochs=40, per_device_batch_size=8, mixed_precision="no"),
        seed=1,
        loss=objective.loss,
        evaluate=lambda: evaluation.masked_lm(model, objective, examples),
        score=lambda metrics: next(better),
        on_epoch=after_epoch,
    )
    assert max(own[20:]) - max(own[10:20]) < 2, own  # MB, in 20 epochs of 8 steps
