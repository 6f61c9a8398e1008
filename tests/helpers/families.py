"""Toy encoders of every family: a configuration with the peculiarities of its published checkpoints, and a tokenizer of
the same kind as theirs."""

from __future__ import annotations

import json
import string
from collections import Counter
from collections.abc import Iterator
from functools import cache
from math import log
from typing import Any

WORDS = (
    "the a my is it can i take with for how what does pain fever dose pill doctor head stomach cold flu test blood "
    "sugar heart skin rash sleep water food baby old child week day high low safe drug cause help long after before"
).split()
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
#: Kind of tokenizer of every family.
TOKENIZERS = {
    "bert": "WordPiece",
    "roberta": "byte-level BPE",
    "xlm-roberta": "Unigram",
    "distilbert": "WordPiece",
    "albert": "Unigram",
    "electra": "WordPiece",
    "deberta-v2": "Unigram",
    "mpnet": "WordPiece",
    "modernbert": "byte-level BPE",
}
FAMILIES = tuple(TOKENIZERS)
#: Families with token types for the two texts of a pair.
WITH_TOKEN_TYPES = ("bert", "albert", "electra")
LONGEST = 64
"""Longest input of every toy encoder, in tokens."""


def tiny_config(family: str, tokenizer: Any) -> Any:
    """Return a configuration at toy size, with the dropout, token types, special tokens and positions of the family."""
    import transformers

    ids = {
        f"{name}_token_id": getattr(tokenizer, f"{name}_token_id")
        for name in ("pad", "bos", "eos", "cls", "sep")
        if getattr(tokenizer, f"{name}_token_id") is not None
    }
    vocabulary = {"vocab_size": len(tokenizer)}
    after_padding = {
        "max_position_embeddings": LONGEST + 2,
        "type_vocab_size": 1,
    }  # the padding token is 1, positions start at 2
    match family:
        case "bert":
            return transformers.BertConfig(**vocabulary, **SIZES)
        case "roberta":
            return transformers.RobertaConfig(**vocabulary, **ids, **(SIZES | after_padding))
        case "xlm-roberta":
            return transformers.XLMRobertaConfig(**vocabulary, **ids, **(SIZES | after_padding))
        case "distilbert":
            sizes = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": LONGEST}
            return transformers.DistilBertConfig(**vocabulary, **sizes)
        case "albert":
            return transformers.AlbertConfig(**vocabulary, **ids, embedding_size=16, **SIZES)
        case "electra":
            return transformers.ElectraConfig(**vocabulary, embedding_size=16, **SIZES)
        case "deberta-v2":
            return transformers.DebertaV2Config(
                vocab_size=len(tokenizer) + 9,  # as in v3: embedding rows without a token
                relative_attention=True,
                position_biased_input=False,
                position_buckets=8,
                pos_att_type=["p2c", "c2p"],
                norm_rel_ebd="layer_norm",
                share_att_key=True,
                type_vocab_size=0,
                **SIZES,
            )
        case "mpnet":
            return transformers.MPNetConfig(**vocabulary, **ids, **(SIZES | {"max_position_embeddings": LONGEST + 2}))
        case "modernbert":
            ids |= {"bos_token_id": tokenizer.cls_token_id, "eos_token_id": tokenizer.sep_token_id}
            return transformers.ModernBertConfig(**vocabulary, **ids, local_attention=16, **SIZES)
    raise AssertionError(family)


def tiny_tokenizer(family: str) -> Any:
    """Return a tokenizer of the class and with the ids of special tokens of the family's checkpoints."""
    import transformers

    limit = {"model_max_length": LONGEST}
    match family:
        case "bert" | "electra" | "distilbert":
            specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
            kind = transformers.DistilBertTokenizer if family == "distilbert" else transformers.BertTokenizer
            return kind(vocab=_numbered(specials, _pieces()), **limit)
        case "mpnet":
            specials = ["<s>", "<pad>", "</s>", "<unk>", "[UNK]"]
            return transformers.MPNetTokenizer(vocab=_numbered(specials, _pieces(), ["<mask>"]), **limit)
        case "roberta":
            entries, merges = _bytes_and_merges()
            vocab = _numbered(["<s>", "<pad>", "</s>", "<unk>"], entries, ["<mask>"])
            return transformers.RobertaTokenizer(vocab=vocab, merges=merges, **limit)
        case "modernbert":
            return _modernbert(limit)
        case "albert":
            specials = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
            return transformers.AlbertTokenizer(vocab=_scored(specials, _unigrams(lowercase=True)), **limit)
        case "xlm-roberta":
            scored = _scored(["<s>", "<pad>", "</s>", "<unk>"], _unigrams(lowercase=False))
            return transformers.XLMRobertaTokenizer(vocab=[*scored, ("<mask>", 0.0)], **limit)
        case "deberta-v2":
            scored = _scored(["[PAD]", "[CLS]", "[SEP]", "[UNK]"], _unigrams(lowercase=False))
            return transformers.DebertaV2Tokenizer(vocab=scored, **limit)  # appends [MASK], as in v3
    raise AssertionError(family)


def _modernbert(limit: dict[str, int]) -> Any:
    """Return a byte-level BPE as in GPT-NeoX, with BERT's special tokens and unused tokens after the vocabulary."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    entries, merges = _bytes_and_merges()
    tokenizer = Tokenizer(models.BPE(vocab=_numbered(["<|endoftext|>"], entries), merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["[UNK]", "[CLS]", "[SEP]", "[PAD]"]
    tokenizer.add_special_tokens([*specials, AddedToken("[MASK]", lstrip=True)])
    tokenizer.add_tokens([f"[unused{index}]" for index in range(-tokenizer.get_vocab_size() % 8)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    names = {f"{token.strip('[]').lower()}_token": token for token in [*specials, "[MASK]"]}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=["input_ids", "attention_mask"], **names, **limit
    )


def _texts(lowercase: bool) -> Iterator[str]:
    """Yield training texts for vocabularies: every word with the next ones, and every single character."""
    for index in range(len(WORDS)):
        text = " ".join(WORDS[index : index + 6])
        yield text
        if not lowercase:
            yield text.title()
    yield " ".join(string.digits + string.punctuation + string.ascii_lowercase)
    if not lowercase:
        yield " ".join(string.ascii_uppercase)


def _pieces() -> list[str]:
    """Return WordPiece entries: the words, and every letter at the start of and within a word."""
    letters = [letter for letter in string.ascii_lowercase if letter not in WORDS]
    return [*WORDS, *letters, *(f"##{letter}" for letter in string.ascii_lowercase)]


@cache
def _bytes_and_merges() -> tuple[list[str], list[tuple[str, str]]]:
    """Return entries and merges of a byte-level BPE in the order of their ids."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    trained.train_from_iterator(_texts(lowercase=False), trainer)
    vocab = trained.get_vocab()
    merges = json.loads(trained.to_str())["model"]["merges"]
    return sorted(vocab, key=vocab.__getitem__), [tuple(merge) for merge in merges]


@cache
def _unigrams(lowercase: bool) -> list[tuple[str, float]]:
    """Return SentencePiece entries with log probabilities, most probable first.

    Trained as BPE, because the Unigram trainer of `tokenizers` gives other entries in every process.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    trained = Tokenizer(models.BPE())
    if lowercase:
        trained.normalizer = normalizers.Lowercase()
    trained.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    trained.train_from_iterator(_texts(lowercase), trainers.BpeTrainer(vocab_size=220, show_progress=False))
    counts = Counter(dict.fromkeys(trained.get_vocab(), 1))
    for encoding in trained.encode_batch(list(_texts(lowercase))):
        counts.update(encoding.tokens)
    total = counts.total()
    return [
        (piece, log(count / total)) for piece, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]


def _numbered(*parts: list[str]) -> dict[str, int]:
    return {entry: index for index, entry in enumerate(entry for part in parts for entry in part)}


def _scored(specials: list[str], pieces: list[tuple[str, float]]) -> list[tuple[str, float]]:
    return [*((token, 0.0) for token in specials), *pieces]
