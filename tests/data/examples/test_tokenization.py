"""Tokens are those of `transformers`, whatever they are kept in and however many texts are encoded at a time."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftjobs.data.examples import tokenization
from ftjobs.data.examples.tokenization import count_tokens, tokenize
from ftjobs.models.checkpoints import load_tokenizer
from tests.helpers.families import WORDS


def texts(count: int, longest: int, seed: int) -> list[str]:
    generator = random.Random(seed)
    words = [*WORDS, "unknown1", "[SEP]", "fevers", "é"]
    return [" ".join(generator.choices(words, k=generator.randint(1, longest))) for _ in range(count)]


@pytest.mark.parametrize("types", [True, False])
@pytest.mark.parametrize("paired", [False, True])
def test_tokens_are_those_of_transformers(
    types: bool, paired: bool, make_encoder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenization, "_TEXTS", 7)
    monkeypatch.setattr(tokenization, "_CHARACTERS", 150)
    tokenizer = load_tokenizer(make_encoder())
    if not types:
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    first, second = texts(50, 30, 1), texts(50, 12, 2) if paired else None
    found = tokenize(tokenizer, iter(first), iter(second) if second else None, 24)
    expected: Any = load_tokenizer(make_encoder())(
        first, second, truncation="longest_first", max_length=24, return_special_tokens_mask=True
    )
    assert len(found) == 50
    for row in range(50):
        span = slice(found.offsets[row], found.offsets[row + 1])
        assert found.input_ids[span].tolist() == expected["input_ids"][row]
        assert found.special[span].tolist() == [bool(one) for one in expected["special_tokens_mask"][row]]
        if found.token_type_ids is not None:
            assert found.token_type_ids[span].tolist() == expected["token_type_ids"][row]
    whole = count_tokens(tokenizer, first, second)
    assert whole.tolist() == [len(ids) for ids in load_tokenizer(make_encoder())(first, second)["input_ids"]]
    assert found.truncated == (whole > 24).sum() > 0
    assert found.lengths.tolist() == np.minimum(whole, 24).tolist()
    assert (found.token_type_ids is not None) == types


def test_no_texts(make_encoder: Callable[..., Path]) -> None:
    tokenizer = load_tokenizer(make_encoder())
    found = tokenize(tokenizer, [], None, 24)
    assert (len(found), found.truncated, found.input_ids.tolist()) == (0, 0, [])
    assert count_tokens(tokenizer, [], None).shape == (0,)
