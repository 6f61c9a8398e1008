"""Evaluation: the same figures however few examples are taken at once."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from ftjobs.data.examples.masked_examples import MaskedExamples, PackedExamples, build_masked_examples
from ftjobs.objectives.mlm import MaskedLM
from ftjobs.training import evaluation
from tests.helpers.families import WORDS


def test_packed_examples_are_taken_a_bounded_number_of_tokens_at_once(make_encoder, monkeypatch):
    folder = make_encoder("bert", "mlm")
    model, tokenizer = AutoModelForMaskedLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    texts = [" ".join(WORDS[start : start + 11]) for start in range(30)]
    packed = build_masked_examples(
        texts,
        "packed",
        tokenizer,
        32,
        lambda tokens: MaskedExamples(tokens, 0, 0.3, tokenizer.mask_token_id, len(tokenizer), tokenizer.pad_token_id),
        words=False,
    )
    assert isinstance(packed, PackedExamples)
    sizes: list[torch.Size] = []
    model.register_forward_pre_hook(lambda _, __, given: sizes.append(given["input_ids"].shape), with_kwargs=True)
    whole = evaluation.masked_lm(model, MaskedLM(model), packed)
    monkeypatch.setattr(evaluation, "tokens_at_once", lambda device: 100)
    by_threes = evaluation.masked_lm(model, MaskedLM(model), packed)
    assert sizes[0] == (len(packed), 32)
    assert all(shape[0] <= 3 for shape in sizes[1:])
    assert by_threes == pytest.approx(whole, rel=1e-5)
