"""Encoders from scratch: identical in every process, loadable, and without a random pooler."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from ftjobs.errors import UserError
from ftjobs.models import scratch
from tests.helpers.scratch import SETTINGS, TEXTS

VOCABULARY = """
import json
from tests.helpers.scratch import SETTINGS, TEXTS
from ftjobs.models import scratch
print(json.dumps(scratch.tokenizer_from_texts(TEXTS, SETTINGS).get_vocab()))
"""


def test_vocabulary_is_the_same_in_every_process() -> None:
    """The tokenizers library alone gives different ones."""
    commands = [[sys.executable, "-c", VOCABULARY]] * 3
    outputs = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for command in commands]
    assert len({json.dumps(json.loads(output), sort_keys=True) for output in outputs}) == 1


def test_frequent_words_are_single_tokens() -> None:
    tokenizer = scratch.tokenizer_from_texts(TEXTS, SETTINGS)
    assert len(tokenizer) <= 200
    assert tokenizer.tokenize("Fever, doctor!")[0] == "fever"
    assert tokenizer.tokenize("ärzte") == tokenizer.tokenize("ARZTE")  # lower case, no accents
    assert "[UNK]" not in tokenizer.tokenize(" ".join(TEXTS))
    assert tokenizer.model_max_length == 40
    cased = scratch.tokenizer_from_texts(TEXTS, SETTINGS.model_copy(update={"lowercase": False}))
    assert cased.tokenize("ÄRZTE") != cased.tokenize("ärzte")


def test_weights_depend_on_the_seed_only() -> None:
    first, same = (scratch.model_from_settings(SETTINGS, 200) for _ in range(2))
    other = scratch.model_from_settings(SETTINGS.model_copy(update={"seed": 1}), 200)
    weights = [model.bert.embeddings.word_embeddings.weight for model in (first, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_encoder_has_no_pooler() -> None:
    model = scratch.model_from_settings(SETTINGS, 200)
    assert not [name for name in model.state_dict() if "pooler" in name]
    assert model.config.intermediate_size == 4 * 32


def test_vocabulary_smaller_than_alphabet_raises() -> None:
    texts = [chr(code) for code in range(0x4E00, 0x4E00 + 300)]
    with pytest.raises(UserError, match=r"vocab_size: 200 .* 300 distinct characters; use at least"):
        scratch.tokenizer_from_texts(texts, SETTINGS)
