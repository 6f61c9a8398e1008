"""Of how many pieces the words of texts are, and what a loss per token is per character."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Lengths:
    """Of some texts, whole: what stands between spaces, characters, and tokens without special ones."""

    words: int
    characters: int
    pieces: int

    @property
    def pieces_per_word(self) -> float:
        """Fertility (Rust et al. 2021, "How good is your tokenizer?", on subword fertility)."""
        return self.pieces / max(self.words, 1)

    def bits_per_character(self, loss: float) -> float:
        """A mean cross-entropy per token in nats as bits per character: the same whatever the tokens are."""
        return bits_per_character(loss, self.pieces, self.characters)


def bits_per_character(loss: float, pieces: int, characters: int) -> float:
    """A mean cross-entropy per token in nats, over texts of so many tokens and characters, as bits per character."""
    return loss / math.log(2) * pieces / max(characters, 1)


def measured(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> Lengths:
    """Measure texts, which are gone through twice."""
    from ftjobs.data.examples.tokenization import count_tokens  # reports count nothing, and need no transformers

    sizes = [(len(text.split()), len(text)) for text in texts]
    tokens = int(count_tokens(tokenizer, texts, None).sum())
    special = tokenizer.num_special_tokens_to_add(pair=False) * len(sizes)
    return Lengths(sum(words for words, _ in sizes), sum(length for _, length in sizes), tokens - special)
