"""Segment pairs for next-sentence prediction (NSP) and sentence-order prediction (SOP), redrawn in every epoch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase
from transformers.tokenization_utils_base import TruncationStrategy
from transformers.utils import PaddingStrategy

from ftjobs.data.examples.batching import Batch
from ftjobs.data.examples.documents import Documents
from ftjobs.data.examples.masked_examples import MaskedExamples
from ftjobs.data.examples.masking import example_generator
from ftjobs.data.examples.tokenization import Tokens

Relation = Literal["next", "order"]
#: Share of runs with a random target length below the maximum (Lan et al. 2020, section 4.1).
_SHORT_RUNS = 0.1
#: Random stream (`example_generator`) of an example's pair; its masks use stream 0.
_PAIR_STREAM = 1


class PairTemplate(NamedTuple):
    """Special token ids around the texts of a pair. Token types are 0 before the second text and 1 from there on."""

    before: list[int]
    between: list[int]
    after: list[int]

    @property
    def size(self) -> int:
        """Special tokens per pair."""
        return len(self.before) + len(self.between) + len(self.after)


def pair_template(tokenizer: PreTrainedTokenizerBase) -> PairTemplate:
    """Determine how a tokenizer joins two texts, by encoding a pair."""
    tokenizer.set_truncation_and_padding(
        PaddingStrategy.DO_NOT_PAD, TruncationStrategy.DO_NOT_TRUNCATE, None, 0, None, None
    )
    pair = tokenizer.backend_tokenizer.encode("a", "a")
    first, second = ([index for index, text in enumerate(pair.sequence_ids) if text == side] for side in (0, 1))
    places = [slice(0, first[0]), slice(first[-1] + 1, second[0]), slice(second[-1] + 1, len(pair.ids))]
    before, between, after = (pair.ids[place] for place in places)
    return PairTemplate(before, between, after)


class Segment(NamedTuple):
    """Sentences `start:end` of the corpus."""

    start: int
    end: int


@dataclass(frozen=True)
class PairExamples:
    """Segment pairs from runs of consecutive sentences, each run split at a new point in every epoch.

    `next` (NSP): half of the second segments are the actual continuation, the others come from runs of other documents
    (Devlin et al. 2019, section 3.1). `order` (SOP): half of the pairs are swapped (Lan et al. 2020, section 3.1).
    """

    documents: Documents
    runs: np.ndarray
    """int64 (N, 2): sentences `runs[i, 0]:runs[i, 1]` are run i; at least two."""
    siblings: np.ndarray
    """int64 (N, 2): runs `siblings[i, 0]:siblings[i, 1]` are from the same document as run i."""
    relation: Relation
    room: int
    """Maximum tokens of both segments together, without special tokens."""
    template: PairTemplate
    masks: MaskedExamples
    """The masking settings; its tokens are not used."""

    def __len__(self) -> int:
        return len(self.runs)

    @property
    def texts(self) -> int:
        """Number of documents with at least two sentences."""
        return len(self.documents) - self.single_sentence_documents

    @property
    def single_sentence_documents(self) -> int:
        """Number of documents with fewer than two sentences, which are skipped."""
        return int((self.documents.sentences < 2).sum())

    @property
    def tokens(self) -> Tokens:
        """Tokens of the sentences."""
        return self.documents.tokens

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per example, assuming the actual continuation: int64 (N,)."""
        offsets = self.documents.tokens.offsets
        lengths: np.ndarray = offsets[self.runs[:, 1]] - offsets[self.runs[:, 0]] + self.template.size
        return lengths

    def pair(self, index: int, epoch: int) -> tuple[Segment, Segment, int]:
        """Return both segments of an example in an epoch, and their label: 1 if random or swapped, else 0."""
        generator = example_generator(self.masks.seed, epoch, index, _PAIR_STREAM)
        first, second = self._split(index, generator)
        label = int(generator.random() < 0.5)
        if self.relation == "order":
            return (second, first, 1) if label else (first, second, 0)
        if label:
            low, high = self.siblings[index].tolist()
            other = int(generator.integers(len(self.runs) - (high - low)))
            second = self._split(other if other < low else other + high - low, generator)[1]
        return (*self._truncate(first, second), label)

    def batch(self, indices: np.ndarray, epoch: int) -> Batch:
        """Return the examples at `indices` with the pairs and masks of `epoch`."""
        pairs = [self.pair(int(index), epoch) for index in indices]
        tokens = self._join([(first, second) for first, second, _ in pairs])
        masked = replace(self.masks, tokens=tokens, numbers=np.asarray(indices)).batch(np.arange(len(pairs)), epoch)
        return replace(masked, pair_labels=torch.tensor([label for *_, label in pairs], dtype=torch.int64))

    def _split(self, index: int, generator: np.random.Generator) -> tuple[Segment, Segment]:
        start, end = self.runs[index].tolist()
        middle = int(generator.integers(start + 1, end))
        return Segment(start, middle), Segment(middle, end)

    def _truncate(self, first: Segment, second: Segment) -> tuple[Segment, Segment]:
        """Drop whole sentences from the outer end of the longer segment until both fit."""
        offsets = self.documents.tokens.offsets
        while True:
            sizes = [int(offsets[segment.end] - offsets[segment.start]) for segment in (first, second)]
            if sum(sizes) <= self.room:
                return first, second
            if second.end - second.start > 1 and (sizes[1] >= sizes[0] or first.end - first.start == 1):
                second = Segment(second.start, second.end - 1)
            else:
                first = Segment(first.start + 1, first.end)

    def _join(self, pairs: list[tuple[Segment, Segment]]) -> Tokens:
        """Concatenate the segments of each pair with the special tokens."""
        source = self.documents.tokens
        arrays: dict[str, list[Any]] = {"ids": [], "special": [], "starts": [], "types": []}
        lengths = []

        def append(ids: Any, special: bool, starts: Any, token_type: int) -> int:
            arrays["ids"].append(np.asarray(ids, dtype=np.int32))
            arrays["special"].append(np.full(len(ids), special))
            arrays["starts"].append(starts)
            arrays["types"].append(np.full(len(ids), token_type, dtype=np.int8))
            return len(ids)

        for segments in pairs:
            size = append(self.template.before, True, np.ones(len(self.template.before), bool), 0)
            for token_type, separator in enumerate((self.template.between, self.template.after)):
                span = slice(source.offsets[segments[token_type].start], source.offsets[segments[token_type].end])
                starts = np.zeros(0, bool) if source.word_starts is None else source.word_starts[span]
                size += append(source.input_ids[span], False, starts, token_type)
                size += append(separator, True, np.ones(len(separator), bool), token_type)
            lengths.append(size)
        flat = {name: np.concatenate(values) if values else np.zeros(0, int) for name, values in arrays.items()}
        return Tokens(
            input_ids=flat["ids"],
            special=flat["special"],
            token_type_ids=flat["types"],
            offsets=np.concatenate([[0], lengths]).cumsum(dtype=np.int64),
            truncated=0,
            word_starts=None if source.word_starts is None else flat["starts"],
        )


def divide_into_runs(documents: Documents, room: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide documents into runs of consecutive sentences of up to `room` tokens.

    A run has at least two sentences: a single sentence left at the end of a document forms a run with the preceding
    one. Documents of one sentence have no run.

    Returns:
        `PairExamples.runs` and `PairExamples.siblings`.
    """
    generator = np.random.default_rng([seed, _PAIR_STREAM])
    ends = documents.tokens.offsets[1:].tolist()
    runs: list[tuple[int, int]] = []
    siblings: list[tuple[int, int]] = []
    for first, last in zip(documents.offsets[:-1].tolist(), documents.offsets[1:].tolist(), strict=True):
        if last - first < 2:
            continue
        before = len(runs)
        start = first
        while start < last:
            target = room if generator.random() >= _SHORT_RUNS else int(generator.integers(2, room + 1))
            start = min(start, last - 2)
            begin = ends[start - 1] if start else 0
            end = start + 2
            while end < last and ends[end] - begin <= target:
                end += 1
            runs.append((start, end))
            start = end
        siblings += [(before, len(runs))] * (len(runs) - before)
    return np.array(runs, dtype=np.int64).reshape(-1, 2), np.array(siblings, dtype=np.int64).reshape(-1, 2)
