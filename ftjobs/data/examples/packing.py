"""Pack documents into examples of equal length, without padding and without dropping tokens.

An epoch is one stream of tokens: the documents in the epoch's order, separated by the special tokens that the tokenizer
adds around a text. The stream is cut into pieces of equal length, and each piece gets the special tokens that open and
close a text. The number of examples does not depend on the order, and an example is a function of seed, epoch and
index, so training can resume anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from transformers import PreTrainedTokenizerBase

from ftjobs.data.examples.tokenization import Tokens
from ftjobs.data.memory_mapped import ArrayFile
from ftjobs.errors import UserError

#: Tokens per chunk that is assembled in memory.
_CHUNK_TOKENS = 2**20


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of the special tokens that a tokenizer adds before and after a text."""

    opening: tuple[int, ...]
    closing: tuple[int, ...]

    @classmethod
    def of_tokenizer(cls, tokenizer: PreTrainedTokenizerBase) -> SpecialTokens:
        """Determine the special tokens by encoding a text.

        Raises:
            UserError: no special token closes a text, so documents cannot be separated.
        """
        encoding = tokenizer.backend_tokenizer.encode("a")
        text = np.flatnonzero(np.array(encoding.special_tokens_mask) == 0)
        if not len(text) or text[-1] + 1 == len(encoding.ids):
            raise UserError(
                "corpus.unit: `packed` requires a special token at the end of a text, and the encoder's tokenizer adds "
                "none; set `unit: document`"
            )
        return cls(tuple(encoding.ids[: text[0]]), tuple(encoding.ids[text[-1] + 1 :]))


@dataclass(frozen=True)
class Packing:
    """Tokenized documents and the layout of the examples they are packed into."""

    documents: Tokens
    """N documents, without special tokens and not truncated."""
    special_tokens: SpecialTokens
    length: int
    """Maximum tokens per example."""
    document_masking: bool
    """Add the opening special tokens to every document instead of to every example only."""
    seed: int

    @property
    def between(self) -> tuple[int, ...]:
        """Special tokens between two documents."""
        return self.special_tokens.closing + (self.special_tokens.opening if self.document_masking else ())

    @property
    def room(self) -> int:
        """Tokens of the stream per example."""
        return self.length - len(self.special_tokens.opening) - len(self.special_tokens.closing)

    def __len__(self) -> int:
        """Examples per epoch."""
        return max(1, -(-self._size // self.room))

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per example: int64 (N,). An example may have a few tokens less in some epochs."""
        lengths = np.full(len(self), self.length)
        lengths[-1] -= len(self) * self.room - self._size
        return lengths

    @property
    def _size(self) -> int:
        """Tokens of the stream."""
        return len(self.documents.input_ids) + len(self.between) * (len(self.documents) - 1)

    def tokens(self, epoch: int) -> PackedTokens:
        """Return the examples of an epoch. Epoch 0 keeps the document order; every other epoch has a random one.

        Separators at either end of an example are dropped because the example has its own special tokens, so it may be
        a few tokens shorter than `length`.
        """
        order = np.arange(len(self.documents))
        if epoch:
            order = np.random.default_rng([self.seed, epoch, 2]).permutation(order)
        ends = np.cumsum(self.documents.lengths[order] + len(self.between))
        starts = np.concatenate([[0], ends[:-1]])
        writer, chunk_size = _PackedWriter(self.documents), max(1, _CHUNK_TOKENS // self.length)
        for first in range(0, len(self), chunk_size):
            writer.append(self._pack(first, min(len(self), first + chunk_size), order, starts))
        return writer.tokens()

    def _pack(self, first: int, last: int, order: np.ndarray, starts: np.ndarray) -> _Chunk:
        """Assemble the examples `first:last`.

        Args:
            first: index of the first example.
            last: index after the last example.
            order: int64 (D,): the documents in the order of the stream.
            starts: int64 (D,): position of each of them in the stream.
        """
        stream = np.arange(first * self.room, min(last * self.room, self._size))
        example = stream // self.room - first
        place = np.searchsorted(starts, stream, side="right") - 1  # index into `order`
        within = stream - starts[place]
        length = self.documents.lengths[order[place]]
        text = within < length
        kept = _between_texts(text, example, last - first)
        stream, example, place, within, length, text = (
            array[kept] for array in (stream, example, place, within, length, text)
        )
        source = self.documents.offsets[order[place[text]]] + within[text]
        separator = (within - length)[~text]

        counts = np.bincount(example, minlength=last - first)
        opening, closing = (
            np.array(part, dtype=np.int32) for part in (self.special_tokens.opening, self.special_tokens.closing)
        )
        lengths = counts + len(opening) + len(closing)
        ends = np.cumsum(lengths)
        inside = np.arange(len(example)) + example * (len(opening) + len(closing)) + len(opening)
        chunk = _Chunk.of_length(lengths)
        chunk.ids[(ends - lengths)[:, None] + np.arange(len(opening))] = opening
        chunk.ids[(ends - len(closing))[:, None] + np.arange(len(closing))] = closing
        chunk.ids[inside[text]] = self.documents.input_ids[source]
        chunk.ids[inside[~text]] = np.array(self.between, dtype=np.int32)[separator]
        chunk.special[inside[text]] = False
        if self.documents.word_starts is not None:
            chunk.word_starts[inside[text]] = self.documents.word_starts[source]
            chunk.word_starts[1:][chunk.special[:-1]] = True  # also where a word continues from another example
        # Opening and closing special tokens belong to their document.
        chunk.documents[inside] = place
        chunk.documents[inside[~text]] += (separator >= len(closing)).astype(np.int32)
        nonempty = counts > 0
        bounds = np.cumsum(counts)[nonempty]
        firsts, lasts = chunk.documents[inside[bounds - counts[nonempty]]], chunk.documents[inside[bounds - 1]]
        chunk.documents[(ends - lengths)[nonempty, None] + np.arange(len(opening))] = firsts[:, None]
        chunk.documents[(ends - len(closing))[nonempty, None] + np.arange(len(closing))] = lasts[:, None]
        chunk.documents[:] -= np.repeat(chunk.documents[ends - lengths], lengths) - 1
        return chunk


@dataclass(frozen=True)
class PackedTokens(Tokens):
    """Examples of several documents each."""

    documents: np.ndarray = field(kw_only=True)
    """int32 (T,): number of the token's document within its example, from 1."""


@dataclass(frozen=True)
class _Chunk:
    """Flat arrays of consecutive examples."""

    lengths: np.ndarray
    ids: np.ndarray
    special: np.ndarray
    word_starts: np.ndarray
    documents: np.ndarray

    @classmethod
    def of_length(cls, lengths: np.ndarray) -> _Chunk:
        """Allocate arrays in which every token is special."""
        size = int(lengths.sum())
        return cls(
            lengths, np.zeros(size, np.int32), np.ones(size, bool), np.ones(size, bool), np.zeros(size, np.int32)
        )


class _PackedWriter:
    """Append examples to memory-mapped files."""

    def __init__(self, documents: Tokens) -> None:
        self._documents = documents
        self._ids, self._special, self._document_numbers = ArrayFile(np.int32), ArrayFile(bool), ArrayFile(np.int32)
        self._starts = None if documents.word_starts is None else ArrayFile(bool)
        self._types = None if documents.token_type_ids is None else ArrayFile(np.int8)
        self._lengths: list[np.ndarray] = [np.zeros(1, np.int64)]

    def append(self, chunk: _Chunk) -> None:
        self._lengths.append(chunk.lengths)
        self._ids.append(chunk.ids)
        self._special.append(chunk.special)
        self._document_numbers.append(chunk.documents)
        if self._starts is not None:
            self._starts.append(chunk.word_starts)
        if self._types is not None:
            self._types.append(np.zeros(len(chunk.ids)))

    def tokens(self) -> PackedTokens:
        return PackedTokens(
            input_ids=self._ids.mapped(),
            special=self._special.mapped(),
            token_type_ids=None if self._types is None else self._types.mapped(),
            offsets=np.concatenate(self._lengths).cumsum(dtype=np.int64),
            truncated=0,
            word_starts=None if self._starts is None else self._starts.mapped(),
            documents=self._document_numbers.mapped(),
        )


def _between_texts(text: np.ndarray, example: np.ndarray, count: int) -> np.ndarray:
    """bool (S,): text tokens, and separators between two texts of the same of `count` examples."""
    places = np.flatnonzero(text)
    numbers = np.arange(count)
    first = np.searchsorted(example[places], numbers)
    last = np.searchsorted(example[places], numbers, side="right") - 1
    bounds = np.append(places, len(text))  # examples without text begin after the last token
    begin = np.where(first <= last, bounds[first], len(text))
    end = np.where(first <= last, bounds[last], -1)
    place = np.arange(len(text))
    kept: np.ndarray = (place >= begin[example]) & (place <= end[example])
    return kept
