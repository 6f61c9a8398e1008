"""Evaluation gives the same metrics for any batch size."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from ftjobs.data.examples.masked_examples import MaskedExamples, PackedExamples, build_masked_examples
from ftjobs.jobfile.fields import Adapt
from ftjobs.objectives.compute.mlm import MaskedLMObjective
from ftjobs.training import objective as training_objective
from tests.helpers.families import WORDS


def test_packed_examples_are_evaluated_in_bounded_batches(make_encoder, monkeypatch):
    folder = make_encoder("bert", "mlm")
    model, tokenizer = AutoModelForMaskedLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    texts = [" ".join(WORDS[start : start + 11]) for start in range(30)]
    packed = build_masked_examples(
        texts,
        "packed",
        tokenizer,
        32,
        lambda tokens: MaskedExamples(tokens, 0, 0.3, tokenizer.mask_token_id, len(tokenizer), tokenizer.pad_token_id),
        with_word_starts=False,
    )
    assert isinstance(packed, PackedExamples)
    sizes: list[torch.Size] = []
    model.register_forward_pre_hook(lambda _, __, inputs: sizes.append(inputs["input_ids"].shape), with_kwargs=True)
    objective = MaskedLMObjective(Adapt(), model, [])
    metrics = objective.measure(packed)
    monkeypatch.setattr(training_objective, "tokens_per_batch", lambda device: 100)
    in_threes = objective.measure(packed)
    assert sizes[0] == (len(packed), 32)
    assert all(shape[0] <= 3 for shape in sizes[1:])
    assert in_threes == pytest.approx(metrics, rel=1e-5)
