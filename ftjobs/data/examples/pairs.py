"""Pairs of segments of documents, next ones or others, in order or swapped: masked, and made anew in every epoch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase
from transformers.tokenization_utils_base import TruncationStrategy
from transformers.utils import PaddingStrategy

from ftjobs.data.examples.batching import Batch, MaskedExamples
from ftjobs.data.examples.documents import Documents
from ftjobs.data.examples.masking import example_generator
from ftjobs.data.examples.tokenization import Tokens

Relation = Literal["next", "order"]
#: Share of runs of sentences that are shorter than they could be, by chance (Lan et al. 2020, section 4.1).
_SHORTER = 0.1
#: The stream of an example's random numbers that its pair is drawn from; masks are drawn from stream 0.
_STREAM = 1


class Frame(NamedTuple):
    """The special tokens around the two texts of a pair. Token types are 0 up to the second text and 1 from there."""

    before: list[int]
    between: list[int]
    after: list[int]

    @property
    def size(self) -> int:
        """Special tokens in a pair."""
        return len(self.before) + len(self.between) + len(self.after)


def frame(tokenizer: PreTrainedTokenizerBase) -> Frame:
    """How a tokenizer joins two texts, found out by letting it."""
    tokenizer.set_truncation_and_padding(
        PaddingStrategy.DO_NOT_PAD, TruncationStrategy.DO_NOT_TRUNCATE, None, 0, None, None
    )
    pair = tokenizer.backend_tokenizer.encode("a", "a")
    first, second = ([index for index, text in enumerate(pair.sequence_ids) if text == side] for side in (0, 1))
    places = [slice(0, first[0]), slice(first[-1] + 1, second[0]), slice(second[-1] + 1, len(pair.ids))]
    before, between, after = (pair.ids[place] for place in places)
    return Frame(before, between, after)


class Segment(NamedTuple):
    """Sentences `start:end` of the corpus."""

    start: int
    end: int


@dataclass(frozen=True)
class PairExamples:
    """Runs of sentences, each of one document, cut in two anew in every epoch.

    `next`: half of the second segments are the true next ones, the others those of runs of other documents (Devlin et
    al. 2019, section 3.1). `order`: half of the pairs are swapped (Lan et al. 2020, section 3.1).
    """

    documents: Documents
    runs: np.ndarray
    """int64 (N, 2): first and last sentence + 1 of each run; two sentences or more."""
    siblings: np.ndarray
    """int64 (N, 2): first and last run + 1 of the document of each run."""
    relation: Relation
    room: int
    """Most tokens of both segments together."""
    frame: Frame
    masks: MaskedExamples
    """How the pairs are masked; its tokens are not read."""

    def __len__(self) -> int:
        return len(self.runs)

    @property
    def texts(self) -> int:
        """How many documents have two sentences or more."""
        return len(self.documents) - self.singles

    @property
    def singles(self) -> int:
        """How many documents have not, and are left out."""
        return int((self.documents.sentences < 2).sum())

    @property
    def tokens(self) -> Tokens:
        """Of the sentences that the pairs are made of."""
        return self.documents.tokens

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each example if its pair is the true one: int64 (N,)."""
        offsets = self.documents.tokens.offsets
        found: np.ndarray = offsets[self.runs[:, 1]] - offsets[self.runs[:, 0]] + self.frame.size
        return found

    def pair(self, index: int, epoch: int) -> tuple[Segment, Segment, int]:
        """The two segments of an example in an epoch, and their label: 0 next and in order, 1 random or swapped."""
        generator = example_generator(self.masks.seed, epoch, index, _STREAM)
        first, second = self._cut(index, generator)
        label = int(generator.random() < 0.5)
        if self.relation == "order":
            return (second, first, 1) if label else (first, second, 0)
        if label:
            low, high = self.siblings[index].tolist()
            other = int(generator.integers(len(self.runs) - (high - low)))
            second = self._cut(other if other < low else other + high - low, generator)[1]
        return (*self._fitted(first, second), label)

    def batch(self, indices: np.ndarray, epoch: int) -> Batch:
        """The examples at `indices` with the pairs and masks of `epoch`."""
        pairs = [self.pair(int(index), epoch) for index in indices]
        tokens = self._joined([(first, second) for first, second, _ in pairs])
        masked = replace(self.masks, tokens=tokens, numbers=np.asarray(indices)).batch(np.arange(len(pairs)), epoch)
        return replace(masked, pair_labels=torch.tensor([label for *_, label in pairs], dtype=torch.int64))

    def _cut(self, index: int, generator: np.random.Generator) -> tuple[Segment, Segment]:
        start, end = self.runs[index].tolist()
        middle = int(generator.integers(start + 1, end))
        return Segment(start, middle), Segment(middle, end)

    def _fitted(self, first: Segment, second: Segment) -> tuple[Segment, Segment]:
        """Whole sentences dropped from the longer segment, at its far end, until both fit."""
        offsets = self.documents.tokens.offsets
        while True:
            sizes = [int(offsets[one.end] - offsets[one.start]) for one in (first, second)]
            if sum(sizes) <= self.room:
                return first, second
            if second.end - second.start > 1 and (sizes[1] >= sizes[0] or first.end - first.start == 1):
                second = Segment(second.start, second.end - 1)
            else:
                first = Segment(first.start + 1, first.end)

    def _joined(self, pairs: list[tuple[Segment, Segment]]) -> Tokens:
        """The pairs with their special tokens."""
        source = self.documents.tokens
        parts: dict[str, list[Any]] = {"ids": [], "special": [], "starts": [], "types": []}
        lengths = []

        def add(ids: Any, special: bool, starts: Any, kind: int) -> int:
            parts["ids"].append(np.asarray(ids, dtype=np.int32))
            parts["special"].append(np.full(len(ids), special))
            parts["starts"].append(starts)
            parts["types"].append(np.full(len(ids), kind, dtype=np.int8))
            return len(ids)

        for segments in pairs:
            size = add(self.frame.before, True, np.ones(len(self.frame.before), bool), 0)
            for kind, behind in enumerate((self.frame.between, self.frame.after)):
                span = slice(source.offsets[segments[kind].start], source.offsets[segments[kind].end])
                starts = np.zeros(0, bool) if source.word_starts is None else source.word_starts[span]
                size += add(source.input_ids[span], False, starts, kind)
                size += add(behind, True, np.ones(len(behind), bool), kind)
            lengths.append(size)
        flat = {name: np.concatenate(values) if values else np.zeros(0, int) for name, values in parts.items()}
        return Tokens(
            input_ids=flat["ids"],
            special=flat["special"],
            token_type_ids=flat["types"],
            offsets=np.concatenate([[0], lengths]).cumsum(dtype=np.int64),
            truncated=0,
            word_starts=None if source.word_starts is None else flat["starts"],
        )


def runs_of(documents: Documents, room: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide documents into runs of sentences that fit into `room` tokens, most of them as long as that.

    A run has two sentences or more: where one is left at the end of a document, it makes a run with the one before it.
    Documents of one sentence have none.

    Returns:
        `PairExamples.runs` and `PairExamples.siblings`.
    """
    generator = np.random.default_rng([seed, _STREAM])
    ends = documents.tokens.offsets[1:].tolist()
    runs: list[tuple[int, int]] = []
    siblings: list[tuple[int, int]] = []
    for first, last in zip(documents.offsets[:-1].tolist(), documents.offsets[1:].tolist(), strict=True):
        if last - first < 2:
            continue
        before = len(runs)
        start = first
        while start < last:
            wanted = room if generator.random() >= _SHORTER else int(generator.integers(2, room + 1))
            start = min(start, last - 2)
            begin = ends[start - 1] if start else 0
            end = start + 2
            while end < last and ends[end] - begin <= wanted:
                end += 1
            runs.append((start, end))
            start = end
        siblings += [(before, len(runs))] * (len(runs) - before)
    return np.array(runs, dtype=np.int64).reshape(-1, 2), np.array(siblings, dtype=np.int64).reshape(-1, 2)
