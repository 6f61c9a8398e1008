"""The words of a corpus that a tokenizer shatters: counted as the tokenizer sees them, ranked by what they cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tokenizers import Regex, pre_tokenizers

#: Letters and digits with what is put on them; nothing that belongs to a longer word is a word.
_WORDS = pre_tokenizers.Split(Regex(r"(?<!\w)[\p{L}\p{N}][\p{L}\p{N}\p{M}]*+(?!\w)"), "removed", invert=True)
#: Distinct chunks of text that are counted; beyond, those met once are forgotten, which no domain's words are.
_CHUNKS = 2_000_000


@dataclass(frozen=True)
class DomainWord:
    """A word that costs the tokenizer several tokens."""

    word: str
    count: int
    """Occurrences in the corpus."""
    pieces: int
    """Tokens that it is now."""

    @property
    def saved(self) -> int:
        """Tokens that the corpus has less of once the word is one."""
        return self.count * (self.pieces - 1)


def count_words(texts: Iterable[str], normalised: Callable[[str], str], at_start: bool) -> Counter[str]:
    """How often each word occurs, as it reads after the tokenizer's normaliser (lower-cased, for one).

    Args:
        texts: gone through once.
        normalised: the tokenizer's normaliser.
        at_start: count words at the beginning of what stands between spaces only: SentencePiece takes others, such as
            one behind an opening bracket, for the inside of a word.
    """
    chunks: Counter[str] = Counter()
    for text in texts:
        chunks.update(text.split())
        if len(chunks) > _CHUNKS:
            chunks = Counter({chunk: count for chunk, count in chunks.items() if count > 1})
    words: Counter[str] = Counter()
    for chunk, count in chunks.items():
        for part in normalised(chunk).split():
            for word, (start, _) in _WORDS.pre_tokenize_str(part):
                if not (at_start and start) and not word.isnumeric():
                    words[word] += count
    return words


def ranked(words: Counter[str], pieces: Callable[[list[str]], list[int]], fewest: int) -> list[DomainWord]:
    """The words that occur often enough and are several tokens, those that save most first; ties in alphabetical order.

    Args:
        words: occurrences of each word.
        pieces: the number of tokens of each of some words.
        fewest: occurrences of a word that counts.
    """
    often = [word for word, count in words.items() if count >= fewest]
    found = [DomainWord(word, words[word], number) for word, number in zip(often, pieces(often), strict=True)]
    return sorted((one for one in found if one.pieces > 1), key=lambda one: (-one.saved, one.word))
