"""Document masking: outputs for a packed document equal those without its neighbors, in every supported family."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from ftjobs.data.examples.batching import pad
from ftjobs.data.examples.masked_examples import MaskedExamples, PackedExamples
from ftjobs.data.examples.packing import PackedTokens, Packing, SpecialTokens
from ftjobs.data.examples.tokenization import tokenize
from ftjobs.errors import UserError
from ftjobs.jobfile.fields import Adapt
from ftjobs.models.document_masking import FAMILIES, enable
from ftjobs.objectives.compute.mlm import MaskedLMObjective
from tests.helpers.families import FAMILIES as TOYS
from tests.helpers.families import WORDS

TEXTS = [" ".join(WORDS[start : start + size]) for start, size in ((0, 4), (4, 9), (13, 2), (15, 6))]
NEIGHBOURS = [" ".join(reversed(TEXTS[0].split())), TEXTS[1], TEXTS[3], TEXTS[2]]


def packed(tokenizer: Any, texts: list[str], document_masking: bool, length: int = 64) -> PackedTokens:
    tokens = tokenize(tokenizer, texts, None, None, special_tokens=False)
    return Packing(tokens, SpecialTokens.of_tokenizer(tokenizer), length, document_masking, seed=0).tokens(0)


@torch.no_grad()
def logits(model: Any, tokenizer: Any, tokens: PackedTokens, document_masking: bool) -> list[torch.Tensor]:
    """Return logits of each document of the first example: (T, V) each."""
    inputs = pad(tokens, [0], tokenizer.pad_token_id)
    numbers = tokens.documents[: tokens.offsets[1]]
    if document_masking:
        inputs["attention_mask"][0, : len(numbers)] = torch.tensor(numbers)
    outputs = model(**inputs).logits[0, : len(numbers)]
    return [outputs[torch.tensor(numbers == number)] for number in range(1, numbers.max() + 1)]


@pytest.fixture
def load(make_encoder):
    def loaded(family: str, **options: Any) -> Any:
        folder = make_encoder(family, "mlm")
        model = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32, **options).eval()
        with torch.no_grad():  # else attention is so even that neighbours hardly matter
            for weight in model.base_model.parameters():
                weight.mul_(4 if weight.dim() == 2 else 1)
        return model, AutoTokenizer.from_pretrained(folder)

    return loaded


@pytest.mark.parametrize("family", TOYS)
def test_document_logits_do_not_depend_on_neighbors(load, family):
    assert family in FAMILIES
    model, tokenizer = load(family)
    alone = [model(**tokenizer(text, return_tensors="pt")).logits[0] for text in TEXTS]
    plain = [
        logits(model, tokenizer, packed(tokenizer, texts, document_masking=True), document_masking=False)
        for texts in (TEXTS, NEIGHBOURS)
    ]
    assert not torch.allclose(plain[0][1], plain[1][1], atol=1e-3)  # without isolation neighbours do matter
    enable(model)
    packed_logits, others = (
        logits(model, tokenizer, packed(tokenizer, texts, document_masking=True), document_masking=True)
        for texts in (TEXTS, NEIGHBOURS)
    )
    for document, expected in zip(packed_logits, alone, strict=True):
        torch.testing.assert_close(document, expected, atol=2e-5, rtol=1e-5)
    assert torch.equal(
        packed_logits[1], others[1]
    )  # the same place in the example, other documents before and behind it
    torch.testing.assert_close(packed_logits[2], others[3], atol=2e-5, rtol=1e-5)  # another place


@pytest.mark.parametrize("family", TOYS)
def test_unpacked_texts_have_unchanged_logits(load, family):
    model, tokenizer = load(family)
    inputs = tokenizer([TEXTS[0], TEXTS[1]], padding=True, return_tensors="pt")
    real = inputs["attention_mask"].bool()
    before = model(**inputs).logits[real]
    enable(model)
    torch.testing.assert_close(model(**inputs).logits[real], before, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["bert", "mpnet", "modernbert"])
def test_eager_attention_gives_the_same_logits(load, family):
    model, tokenizer = load(family, attn_implementation="eager")
    alone = model(**tokenizer(TEXTS[1], return_tensors="pt")).logits[0]
    enable(model)
    packed_logits = logits(model, tokenizer, packed(tokenizer, TEXTS, document_masking=True), document_masking=True)
    torch.testing.assert_close(packed_logits[1], alone, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["bert", "deberta-v2", "roberta", "albert"])
def test_last_layer_speedup_gives_the_same_loss_and_gradients(load, family):
    results = []
    for shortcut in (True, False):
        model, tokenizer = load(family)
        enable(model)
        tokens = tokenize(tokenizer, TEXTS, None, None, special_tokens=False)
        packing = Packing(tokens, SpecialTokens.of_tokenizer(tokenizer), 16, True, seed=0)
        how = MaskedExamples(tokens, 1, 0.4, tokenizer.mask_token_id, len(tokenizer), tokenizer.pad_token_id)
        batch = PackedExamples(packing, how).batch(np.arange(len(packing)), 1)
        if shortcut:
            loss = MaskedLMObjective(Adapt(), model, []).loss(model, batch)
        else:
            complete = model(**batch.inputs).logits.flatten(0, 1)[batch.positions]
            loss = torch.nn.functional.cross_entropy(complete, batch.labels, reduction="sum")
        loss.backward()
        results.append((loss.detach(), model.get_input_embeddings().weight.grad))
    for reduced, complete in zip(*results, strict=True):
        torch.testing.assert_close(reduced, complete, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("family", "options", "reason"),
    [
        ("bert", {"model_type": "longformer"}, "`longformer`"),
        ("deberta-v2", {"conv_kernel_size": 3}, "convolution"),
        ("bert", {"_attn_implementation_internal": "flash_attention_2"}, "`flash_attention_2`"),
    ],
)
def test_unsupported_encoders_raise(load, family, options, reason, monkeypatch):
    model, _ = load(family)
    for name, value in options.items():
        monkeypatch.setattr(model.config, name, value, raising=False)
    with pytest.raises(UserError, match=r"corpus\.isolate: ") as caught:
        enable(model)
    assert reason in str(caught.value)
