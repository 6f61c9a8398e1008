# ruff: noqa: RUF001 (punctuation of several scripts)
"""Rule-based sentence splitting, and documents as sequences of tokenized sentences.

A sentence ends at a period, question mark or exclamation mark (including closing quotes and brackets) that is followed
by white space and the start of another sentence; at Chinese and Japanese sentence marks; and at the end of a paragraph.
A period after an abbreviation, an initial or a list number does not end a sentence. Kiss & Strunk 2006, section 2,
review such rules. They need no model and no language setting. Occasional errors (two sentences joined, or one cut in
two) are harmless to pretraining.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from transformers import PreTrainedTokenizerBase

from ftjobs.data.examples.tokenization import Tokens, tokenize

_PARAGRAPH = re.compile(r"\n\s*\n|\r\n\s*\r\n")
_CLOSING = r"[\"'”’»)\]]*+"
#: A possible end of a sentence: the mark, closing quotes or brackets, and the following white space.
_END = re.compile(rf"(?<![.!?…])(?P<mark>[.!?…]++){_CLOSING}\s+|[。！？｡]+[」』”’）]*\s*")
_OPENING = "\"'“‘«([¿¡-–—•*"
#: Characters that may precede an abbreviation, and the number of characters to search for one.
_BEFORE_WORD = re.compile(r"[\s(\[\"“‘]")
_LOOKBEHIND = 12
#: Abbreviations that may also end a sentence; that precede numbers; and that never end a sentence.
_MAY_END_SENTENCE = frozenset(("inc", "ltd", "co", "corp", "etc", "a.m", "p.m", "u.s", "u.k", "u.n", "al"))
_BEFORE_NUMBERS = frozenset(
    {"fig", "figs", "eq", "eqs", "no", "nos", "vol", "vols", "p", "pp", "ch", "sec", "ref", "refs", "approx"}
    | {"jan", "feb", "mar", "apr", "jun", "jul", "aug", "sept", "sep", "oct", "nov", "dec"}
)
_NEVER_END_SENTENCE = frozenset(
    {"dr", "mr", "mrs", "ms", "prof", "sr", "jr", "st", "gen", "col", "lt", "sgt", "capt", "rev", "hon", "gov", "sen"}
    | {"e.g", "i.e", "eg", "ie", "cf", "vs", "viz", "est", "dept", "univ"}
)


def split_sentences(text: str) -> list[str]:
    """Split a text into its sentences, stripped and non-empty.

    Joining the sentences with spaces restores the text, except for white space.
    """
    return [sentence for paragraph in _PARAGRAPH.split(text) for sentence in _split_paragraph(paragraph)]


def _split_paragraph(text: str) -> Iterator[str]:
    start = 0
    for match in _END.finditer(text):
        if match["mark"] is not None and not _is_sentence_end(text, start, match):
            continue
        if sentence := text[start : match.end()].strip():
            yield sentence
        start = match.end()
    if rest := text[start:].strip():
        yield rest


def _is_sentence_end(text: str, start: int, match: re.Match[str]) -> bool:
    """Return whether the mark at `match` ends the sentence that begins at `start`."""
    following = text[match.end() : match.end() + 2].lstrip(_OPENING)[:1]
    starts_sentence = not following or not following.islower()
    if match["mark"] != "." or not starts_sentence:
        return starts_sentence
    first = max(start, match.start() - _LOOKBEHIND)
    word = _BEFORE_WORD.split(text[first : match.start()])[-1].casefold()
    if not word:
        return False
    if word in _MAY_END_SENTENCE:
        return following.isupper()
    if word in _NEVER_END_SENTENCE or (word in _BEFORE_NUMBERS and following.isdigit()):
        return False
    is_list_number = match.start() - len(word) == start and (word.isdigit() or len(word) == 1)
    is_initial = len(word) == 1 and word.isalpha() and word != "i"
    return not (is_list_number or is_initial)  # "1. Wash your hands." is one sentence


@dataclass(frozen=True)
class Documents:
    """S tokenized sentences of D documents."""

    tokens: Tokens
    """The sentences, without special tokens."""
    offsets: np.ndarray
    """int64 (D + 1,): document i consists of sentences `offsets[i]:offsets[i + 1]`."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def sentences(self) -> np.ndarray:
        """Sentences per document: int64 (D,)."""
        return np.diff(self.offsets)


def tokenize_documents(
    tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], max_sentence_length: int, with_word_starts: bool = False
) -> Documents:
    """Split documents into sentences and tokenize them.

    A sentence of more than `max_sentence_length` tokens is divided evenly into parts that count as sentences: in BERT,
    "a sentence can be an arbitrary span of contiguous text" (Devlin et al. 2019, section 3).

    Args:
        tokenizer: a fast tokenizer.
        texts: D documents.
        max_sentence_length: maximum tokens per sentence.
        with_word_starts: also compute `Tokens.word_starts`.
    """
    counts = array("q")

    def all_sentences() -> Iterator[str]:
        for text in texts:
            sentences = split_sentences(text)
            counts.append(len(sentences))
            yield from sentences

    tokens = tokenize(tokenizer, all_sentences(), None, None, with_word_starts, special_tokens=False)
    lengths = tokens.lengths
    parts = -(-lengths // max_sentence_length)  # 0 for a sentence whose characters the tokenizer drops
    documents = np.cumsum(np.concatenate([[0], parts]))[np.cumsum(np.concatenate([[0], counts]), dtype=np.int64)]
    return Documents(replace(tokens, offsets=_split_offsets(tokens.offsets, lengths, parts)), documents)


def _split_offsets(offsets: np.ndarray, lengths: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Return the offsets after dividing each sentence into `parts` of nearly equal length."""
    first = np.repeat(np.cumsum(parts) - parts, parts)
    number = np.arange(len(first)) - first + 1  # of each part within its sentence, from 1
    ends = np.repeat(offsets[:-1], parts) + number * np.repeat(lengths, parts) // np.repeat(parts, parts)
    return np.concatenate([[0], ends]).astype(np.int64)
