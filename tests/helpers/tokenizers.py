"""Toy tokenizers of every kind that split most words into many pieces."""

from __future__ import annotations

import string
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AlbertTokenizer,
    BertTokenizer,
    DebertaV2Tokenizer,
    MPNetTokenizer,
    PreTrainedTokenizerFast,
    RobertaTokenizer,
    XLMRobertaTokenizer,
)

LETTERS = string.ascii_letters + string.digits + string.punctuation
SPECIALS = {
    "bert": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
    "roberta": ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
}
#: Kinds of tokenizer by family, and one without a pre-tokenizer that splits at spaces.
KINDS = ("bert", "mpnet", "roberta", "modernbert", "albert", "xlm-roberta", "deberta-v2", "metaspace whole")


def tokenizer_of(kind: str) -> Any:
    """Return a tokenizer whose entries are single letters and a few pairs of letters."""
    match kind:
        case "bert":
            return BertTokenizer(vocab=_numbered(SPECIALS["bert"] + _word_pieces()), do_lower_case=False)
        case "mpnet":
            specials = ["<s>", "<pad>", "</s>", "[UNK]", "<mask>"]
            return MPNetTokenizer(vocab=_numbered(specials + _word_pieces()), do_lower_case=False)
        case "roberta":
            vocab, merges = _bytes()
            return RobertaTokenizer(vocab=_numbered(SPECIALS["roberta"] + vocab), merges=merges)
        case "modernbert":  # as in GPT-NeoX
            vocab, merges = _bytes()
            rust = Tokenizer(models.BPE(vocab=_numbered(vocab), merges=merges))
            rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            return PreTrainedTokenizerFast(tokenizer_object=rust)
        case "albert":
            scores = _scored(["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"])
            return AlbertTokenizer(vocab=scores, do_lower_case=False)
        case "xlm-roberta":
            return XLMRobertaTokenizer(vocab=_scored(SPECIALS["roberta"]))
        case "deberta-v2":
            return DebertaV2Tokenizer(vocab=_scored(["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]), unk_id=3)
        case "metaspace whole":
            rust = Tokenizer(models.Unigram(_scored(["<unk>"]), unk_id=0))
            rust.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
            return PreTrainedTokenizerFast(tokenizer_object=rust)
        case "characters":
            rust = Tokenizer(models.Unigram([("<unk>", 0.0), *((letter, -5.0) for letter in f"{LETTERS} ")], unk_id=0))
            return PreTrainedTokenizerFast(tokenizer_object=rust)
    raise AssertionError(kind)


def _word_pieces() -> list[str]:
    return [*LETTERS, *(f"##{letter}" for letter in LETTERS), "##en", "##ro"]


def _bytes() -> tuple[list[str], list[tuple[str, str]]]:
    return [*sorted(pre_tokenizers.ByteLevel.alphabet()), "en", "ro"], [("e", "n"), ("r", "o")]


def _scored(specials: list[str]) -> list[tuple[str, float]]:
    pieces = ["▁", *LETTERS, "en", "ro", "血", "压"]
    return [*((token, 0.0) for token in specials), *((piece, -5.0) for piece in pieces)]


def _numbered(entries: list[str]) -> dict[str, int]:
    return {entry: index for index, entry in enumerate(entries)}
