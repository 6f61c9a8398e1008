"""Tokenizer fertility, bits per character, and the domain words that a tokenizer splits into several tokens."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Maximum distinct white-space separated chunks to count; beyond it, chunks that occurred once are discarded.
_MAX_CHUNKS = 2_000_000


@dataclass(frozen=True)
class TextLengths:
    """Total words (separated by white space), characters and tokens (without special tokens) of some texts."""

    words: int
    characters: int
    tokens: int

    @property
    def fertility(self) -> float:
        """Mean tokens per word (Rust et al. 2021, "How good is your tokenizer?", section 3.2.1)."""
        return self.tokens / max(self.words, 1)

    def bits_per_character(self, loss: float) -> float:
        """Convert a mean cross-entropy per token (nats) of these texts to bits per character."""
        return bits_per_character(loss, self.tokens, self.characters)


def bits_per_character(loss: float, tokens: int, characters: int) -> float:
    """Convert a mean cross-entropy per token (nats) to bits per character, which is comparable across tokenizers."""
    return loss / math.log(2) * tokens / max(characters, 1)


def measure_lengths(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> TextLengths:
    """Count words, characters and tokens of texts. `texts` is iterated twice."""
    from ftjobs.data.examples.tokenization import count_tokens  # imports transformers, which reports do not need

    sizes = [(len(text.split()), len(text)) for text in texts]
    tokens = int(count_tokens(tokenizer, texts, None).sum())
    special = tokenizer.num_special_tokens_to_add(pair=False) * len(sizes)
    return TextLengths(sum(words for words, _ in sizes), sum(length for _, length in sizes), tokens - special)


@dataclass(frozen=True)
class DomainWord:
    """A word of the corpus and the number of tokens that the tokenizer splits it into."""

    word: str
    count: int
    """Occurrences in the corpus."""
    pieces: int
    """Tokens of the word before it is added to the vocabulary."""

    @property
    def saved(self) -> int:
        """Tokens that the corpus saves once the word is a single token."""
        return self.count * (self.pieces - 1)


def count_words(texts: Iterable[str], normalize: Callable[[str], str], only_after_space: bool) -> Counter[str]:
    """Count the words of texts, as normalized by the tokenizer (for example lower-cased).

    Args:
        texts: iterated once.
        normalize: the tokenizer's normalizer.
        only_after_space: count only words that follow white space. SentencePiece treats other words, such as one
            after an opening bracket, as the inside of a word.
    """
    chunks: Counter[str] = Counter()
    for text in texts:
        chunks.update(text.split())
        if len(chunks) > _MAX_CHUNKS:
            chunks = Counter({chunk: count for chunk, count in chunks.items() if count > 1})
    words: Counter[str] = Counter()
    for chunk, count in chunks.items():
        for part in normalize(chunk).split():
            for word, (start, _) in _word_splitter().pre_tokenize_str(part):
                if not (only_after_space and start) and not word.isnumeric():
                    words[word] += count
    return words


@cache
def _word_splitter() -> Any:
    """Return a pre-tokenizer that extracts runs of letters, digits and combining marks that are not part of a longer
    word."""
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Split(Regex(r"(?<!\w)[\p{L}\p{N}][\p{L}\p{N}\p{M}]*+(?!\w)"), "removed", invert=True)


def rank_words(words: Counter[str], count_pieces: Callable[[list[str]], list[int]], min_count: int) -> list[DomainWord]:
    """Return frequent words of several tokens, by tokens saved, descending; ties are in alphabetical order.

    Args:
        words: occurrences per word.
        count_pieces: returns the number of tokens of each word.
        min_count: minimum occurrences.
    """
    frequent = [word for word, count in words.items() if count >= min_count]
    candidates = [
        DomainWord(word, words[word], pieces) for word, pieces in zip(frequent, count_pieces(frequent), strict=True)
    ]
    return sorted((word for word in candidates if word.pieces > 1), key=lambda word: (-word.saved, word.word))
