"""Toy encoders are of the same kind as the published checkpoints of their families."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoTokenizer

from tests.helpers.families import FAMILIES, TOKENIZERS, tiny_tokenizer

SPECIALS = {
    "roberta": {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3},
    "xlm-roberta": {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3},
    "albert": {"<pad>": 0, "<unk>": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4},
    "deberta-v2": {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3},
    "mpnet": {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_toy_tokenizer_has_the_kind_of_its_family_and_survives_saving(
    make_encoder: Callable[..., Path], family: str
) -> None:
    folder = make_encoder(family, "mlm")
    original, loaded = tiny_tokenizer(family), AutoTokenizer.from_pretrained(folder)
    assert type(loaded) is type(original)
    text = "Does the fever help my doctor"
    assert dict(loaded(text, "a pill")) == dict(original(text, "a pill"))
    assert loaded.decode(loaded(text).input_ids, skip_special_tokens=True).strip().casefold() == text.casefold()
    kind = json.loads((folder / "tokenizer.json").read_text())["model"]["type"]
    assert kind == TOKENIZERS[family].rpartition(" ")[2]
    assert loaded.get_vocab().items() >= SPECIALS.get(family, {}).items()
    assert AutoConfig.from_pretrained(folder).pad_token_id == loaded.pad_token_id
