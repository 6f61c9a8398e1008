"""Masked language modeling computes logits at masked positions only, with the same loss and gradients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from ftjobs.data.examples.masked_examples import MaskedExamples
from ftjobs.jobfile.fields import Adapt
from ftjobs.models import heads
from ftjobs.objectives.compute.mlm import MaskedLMObjective, pad_positions
from tests.helpers.families import FAMILIES, WITH_TOKEN_TYPES, tiny_tokenizer
from tests.helpers.training import random_tokens


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_equal_those_of_all_logits(make_encoder: Callable[..., Path], family: str) -> None:
    model, _ = heads.load_masked_lm(make_encoder(family, "mlm"))
    model.eval()  # no dropout: its masks would differ
    tokens, tokenizer = random_tokens(6, model.config.vocab_size, family in WITH_TOKEN_TYPES), tiny_tokenizer(family)
    examples = MaskedExamples(tokens, 1, 0.4, tokenizer.mask_token_id, len(tokenizer), tokenizer.pad_token_id)
    batch = examples.batch(np.arange(5), 1)
    assert len(batch.labels) % 16, "some positions do not count"
    everything = model(**batch.inputs).logits.flatten(0, 1)[batch.positions]
    expected = functional.cross_entropy(everything, batch.labels, reduction="sum")
    expected.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()

    objective = MaskedLMObjective(Adapt(), model, [])
    sizes = []
    model.get_output_embeddings().register_forward_hook(lambda _, __, out: sizes.append(out.shape[:-1].numel()))
    loss = objective.loss(model, batch)
    loss.backward()
    assert sizes == [len(pad_positions(batch.positions))]
    assert len(batch.labels) < sizes[0] < len(batch.labels) + 16
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    assert gradients
    for name, parameter in model.named_parameters():
        if name in gradients:
            torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-5)
    assert model(**batch.inputs).logits.shape[:2] == batch.inputs["input_ids"].shape  # unchanged outside of the loss


def test_batch_without_masked_tokens_has_zero_loss(make_encoder: Callable[..., Path]) -> None:
    model, _ = heads.load_masked_lm(make_encoder("bert", "mlm"))
    tokens = random_tokens(2, model.config.vocab_size)
    examples = MaskedExamples(tokens, 1, 1e-9, mask_token_id=4, vocab_size=50, pad_token_id=0)
    loss = MaskedLMObjective(Adapt(), model, []).loss(model, examples.batch(np.arange(2), 1))
    loss.backward()
    assert float(loss) == 0.0
