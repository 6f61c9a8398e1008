"""Documents one after the other, cut into examples of full length: nothing is padded and nothing thrown away.

An epoch is one stream of tokens: the documents in the epoch's order, with the special tokens between them that the
tokenizer puts around texts. It is cut into pieces of equal length, and each piece gets the special tokens that open and
close a text. How long the stream is, and so how many examples there are, does not depend on the order; what an example
holds is a function of seed, epoch and its index, so training can go on from anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from transformers import PreTrainedTokenizerBase

from ftjobs.data.examples.tokenization import Tokens
from ftjobs.data.memory_mapped import ArrayFile
from ftjobs.errors import UserError

#: Tokens moved at a time.
_PIECE = 2**20


@dataclass(frozen=True)
class Frame:
    """The special tokens that a tokenizer puts around a text."""

    opening: tuple[int, ...]
    closing: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Frame:
        """
        Raises:
            UserError: none of them closes a text, so nothing could separate two.
        """
        encoding = tokenizer.backend_tokenizer.encode("a")
        text = np.flatnonzero(np.array(encoding.special_tokens_mask) == 0)
        if not len(text) or text[-1] + 1 == len(encoding.ids):
            raise UserError(
                "corpus.unit: packed needs a special token that ends a text, and the encoder's tokenizer puts none; "
                "write `unit: document`"
            )
        return cls(tuple(encoding.ids[: text[0]]), tuple(encoding.ids[text[-1] + 1 :]))


@dataclass(frozen=True)
class Packing:
    """Documents on their way into examples."""

    documents: Tokens
    """Tokens of N documents, without special tokens and not cut."""
    frame: Frame
    length: int
    """Most tokens of an example."""
    isolated: bool
    """Whether each document opens anew, as it would alone, or only the example does."""
    seed: int

    @property
    def between(self) -> tuple[int, ...]:
        """Special tokens between two documents."""
        return self.frame.closing + (self.frame.opening if self.isolated else ())

    @property
    def room(self) -> int:
        """Tokens of the stream that an example holds."""
        return self.length - len(self.frame.opening) - len(self.frame.closing)

    def __len__(self) -> int:
        """Examples of an epoch."""
        return max(1, -(-self._size // self.room))

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per example, which may be a few less in an epoch: int64 (N,)."""
        found = np.full(len(self), self.length)
        found[-1] -= len(self) * self.room - self._size
        return found

    @property
    def _size(self) -> int:
        """Tokens of the stream."""
        return len(self.documents.input_ids) + len(self.between) * (len(self.documents) - 1)

    def tokens(self, epoch: int) -> PackedTokens:
        """The examples of an epoch, from 0. Documents are in their own order in epoch 0, and in another in each other.

        A separator at either end of an example is left out, as the example opens and closes anyway, so an example may
        be a few tokens shorter than `length`.
        """
        order = np.arange(len(self.documents))
        if epoch:
            order = np.random.default_rng([self.seed, epoch, 2]).permutation(order)
        ends = np.cumsum(self.documents.lengths[order] + len(self.between))
        starts = np.concatenate([[0], ends[:-1]])
        files, at_once = _Files(self.documents), max(1, _PIECE // self.length)
        for first in range(0, len(self), at_once):
            files.append(self._examples(first, min(len(self), first + at_once), order, starts))
        return files.tokens()

    def _examples(self, first: int, last: int, order: np.ndarray, starts: np.ndarray) -> _Piece:
        """The examples from `first` to before `last`, of documents in an order that start in the stream at `starts`."""
        stream = np.arange(first * self.room, min(last * self.room, self._size))
        example = stream // self.room - first
        place = np.searchsorted(starts, stream, side="right") - 1  # which document of the order
        within = stream - starts[place]
        length = self.documents.lengths[order[place]]
        text = within < length
        kept = _between_texts(text, example, last - first)
        stream, example, place, within, length, text = (
            one[kept] for one in (stream, example, place, within, length, text)
        )
        source = self.documents.offsets[order[place[text]]] + within[text]
        separator = (within - length)[~text]

        counts = np.bincount(example, minlength=last - first)
        opening, closing = (np.array(part, dtype=np.int32) for part in (self.frame.opening, self.frame.closing))
        lengths = counts + len(opening) + len(closing)
        ends = np.cumsum(lengths)
        inside = np.arange(len(example)) + example * (len(opening) + len(closing)) + len(opening)
        piece = _Piece.of_length(lengths)
        piece.ids[(ends - lengths)[:, None] + np.arange(len(opening))] = opening
        piece.ids[(ends - len(closing))[:, None] + np.arange(len(closing))] = closing
        piece.ids[inside[text]] = self.documents.input_ids[source]
        piece.ids[inside[~text]] = np.array(self.between, dtype=np.int32)[separator]
        piece.special[inside[text]] = False
        if self.documents.word_starts is not None:
            piece.word_starts[inside[text]] = self.documents.word_starts[source]
            piece.word_starts[1:][piece.special[:-1]] = True  # also at the rest of a word that was cut
        # What opens a text belongs to it, and so does what closes it.
        piece.documents[inside] = place
        piece.documents[inside[~text]] += (separator >= len(closing)).astype(np.int32)
        some = counts > 0
        bounds = np.cumsum(counts)[some]
        firsts, lasts = piece.documents[inside[bounds - counts[some]]], piece.documents[inside[bounds - 1]]
        piece.documents[(ends - lengths)[some, None] + np.arange(len(opening))] = firsts[:, None]
        piece.documents[(ends - len(closing))[some, None] + np.arange(len(closing))] = lasts[:, None]
        piece.documents[:] -= np.repeat(piece.documents[ends - lengths], lengths) - 1
        return piece


@dataclass(frozen=True)
class PackedTokens(Tokens):
    """Examples that hold several documents."""

    documents: np.ndarray = field(kw_only=True)
    """int32 (T,): from 1, which of its example's documents a token belongs to."""


@dataclass(frozen=True)
class _Piece:
    """Some examples."""

    lengths: np.ndarray
    ids: np.ndarray
    special: np.ndarray
    word_starts: np.ndarray
    documents: np.ndarray

    @classmethod
    def of_length(cls, lengths: np.ndarray) -> _Piece:
        """All special tokens, to be filled in."""
        size = int(lengths.sum())
        return cls(
            lengths, np.zeros(size, np.int32), np.ones(size, bool), np.ones(size, bool), np.zeros(size, np.int32)
        )


class _Files:
    """Examples on their way into files."""

    def __init__(self, documents: Tokens) -> None:
        self._documents = documents
        self._ids, self._special, self._numbers = ArrayFile(np.int32), ArrayFile(bool), ArrayFile(np.int32)
        self._starts = None if documents.word_starts is None else ArrayFile(bool)
        self._types = None if documents.token_type_ids is None else ArrayFile(np.int8)
        self._lengths: list[np.ndarray] = [np.zeros(1, np.int64)]

    def append(self, piece: _Piece) -> None:
        self._lengths.append(piece.lengths)
        self._ids.append(piece.ids)
        self._special.append(piece.special)
        self._numbers.append(piece.documents)
        if self._starts is not None:
            self._starts.append(piece.word_starts)
        if self._types is not None:
            self._types.append(np.zeros(len(piece.ids)))

    def tokens(self) -> PackedTokens:
        return PackedTokens(
            input_ids=self._ids.mapped(),
            special=self._special.mapped(),
            token_type_ids=None if self._types is None else self._types.mapped(),
            offsets=np.concatenate(self._lengths).cumsum(dtype=np.int64),
            truncated=0,
            word_starts=None if self._starts is None else self._starts.mapped(),
            documents=self._numbers.mapped(),
        )


def _between_texts(text: np.ndarray, example: np.ndarray, count: int) -> np.ndarray:
    """bool (S,): tokens of `count` examples that are text, or separators between two texts of one example."""
    places = np.flatnonzero(text)
    numbers = np.arange(count)
    first = np.searchsorted(example[places], numbers)
    last = np.searchsorted(example[places], numbers, side="right") - 1
    bounds = np.append(places, len(text))  # examples without text begin behind everything
    begin = np.where(first <= last, bounds[first], len(text))
    end = np.where(first <= last, bounds[last], -1)
    place = np.arange(len(text))
    kept: np.ndarray = (place >= begin[example]) & (place <= end[example])
    return kept
