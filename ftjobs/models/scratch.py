"""Encoders built from scratch: a WordPiece vocabulary trained on the job's texts, and a small BERT."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import BertConfig, BertForMaskedLM, BertTokenizer

from ftjobs.errors import UserError
from ftjobs.jobfile.fields import Scratch

#: Distinct chunks of text to remember while the alphabet is collected.
_CHUNKS = 100_000
SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def tokenizer_from_texts(texts: Iterable[str], settings: Scratch) -> BertTokenizer:
    """Train a WordPiece vocabulary (Wu et al. 2016, section 4.1, as in BERT) on `texts`, which are iterated twice.

    The same texts give the same vocabulary in every process.

    Raises:
        UserError: `vocab_size` is too small for the characters of the texts.
    """
    trained = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    trained.normalizer = normalizers.BertNormalizer(lowercase=settings.lowercase)
    trained.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # The trainer numbers characters in the order of a randomly seeded hash map and breaks ties between merges by these
    # numbers, so vocabularies would differ between processes. An ordered alphabet prevents that.
    characters: set[str] = set()
    chunks: set[str] = set()
    for text in texts:
        # The normalizer maps all white space to blanks, and repeated chunks contain no new words.
        new = set(trained.normalizer.normalize_str(text).split(" ")) - chunks
        if len(chunks) > _CHUNKS:
            chunks.clear()
        chunks.update(new)
        for chunk in new:
            for word, _ in trained.pre_tokenizer.pre_tokenize_str(chunk):
                characters.add(word[0])
                characters.update(f"##{character}" for character in word[1:])
    alphabet = SPECIAL_TOKENS + sorted(characters)
    if len(alphabet) >= settings.vocab_size:
        raise UserError(
            f"encoder.scratch.vocab_size: {settings.vocab_size} has no room for words: the texts have "
            f"{len(characters)} distinct characters; use at least {2 * len(alphabet)}"
        )
    trainer = trainers.WordPieceTrainer(
        vocab_size=settings.vocab_size, special_tokens=alphabet, min_frequency=2, show_progress=False
    )
    trained.train_from_iterator(texts, trainer)
    return BertTokenizer(
        vocab=trained.get_vocab(),
        do_lower_case=settings.lowercase,
        model_max_length=settings.max_position_embeddings,
    )


def model_from_settings(settings: Scratch, vocabulary: int) -> BertForMaskedLM:
    """Return a BERT with random weights and a masked-LM head.

    It has no pooler: no stage before classification would train it, and a frozen random pooler would be noise.

    Args:
        settings: sizes and the seed of the initial weights.
        vocabulary: number of entries of the tokenizer.
    """
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=settings.hidden_size,
        num_hidden_layers=settings.num_hidden_layers,
        num_attention_heads=settings.num_attention_heads,
        intermediate_size=settings.intermediate_size or 4 * settings.hidden_size,
        max_position_embeddings=settings.max_position_embeddings,
        hidden_dropout_prob=settings.dropout,
        attention_probs_dropout_prob=settings.dropout,
    )
    torch.manual_seed(settings.seed)
    return BertForMaskedLM(config)
