"""Which examples form a step, and how the examples of a batch become padded tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ftjobs.data.examples.masking import AS_BERT, Masking, example_generator, mask
from ftjobs.data.examples.tokenization import Tokens
from ftjobs.jobfile.fields import Replace

#: Steps whose examples are sorted by length together: more pad less, fewer mix better (transformers' Trainer: 50).
_STEPS_SORTED = 50
#: Batches are as wide as a multiple of this: CPU kernels are compiled per shape, and GPU kernels like it.
_WIDTHS = 8


@dataclass(frozen=True)
class Batch:
    """What one forward pass takes."""

    inputs: dict[str, torch.Tensor]
    """The model's keyword arguments: `input_ids`, `attention_mask`, `token_type_ids`: int64 (B, T); or features."""
    labels: torch.Tensor
    """int64 (M,): classes of the B examples, or token ids at the M masked positions."""
    positions: torch.Tensor | None = None
    """int64 (M,): masked positions in the flattened (B * T) batch; None for classification."""
    pair_labels: torch.Tensor | None = None
    """int64 (B,): of pairs of segments, 0 where they are as in the document and 1 where not."""
    draws: torch.Tensor | None = None
    """float32 (M,): in [0, 1), what a generator's replacements are drawn by."""

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""

        def moved(tensor: torch.Tensor | None) -> torch.Tensor | None:
            return None if tensor is None else tensor.to(device, non_blocking=True)

        inputs = {name: value.to(device, non_blocking=True) for name, value in self.inputs.items()}
        labels = self.labels.to(device, non_blocking=True)
        return Batch(inputs, labels, moved(self.positions), moved(self.pair_labels), moved(self.draws))


def epoch_order(lengths: np.ndarray, seed: int, epoch: int, global_batch_size: int) -> np.ndarray:
    """The order of the examples in an epoch, in which the examples of a step are of similar length and steps are not.

    The examples are shuffled, each run of `_STEPS_SORTED` steps is sorted by length and cut into steps again, and the
    steps are shuffled. So little is padded, and a text meets other neighbours in every epoch. What is left over for the
    last, smaller step is drawn from all lengths.

    Args:
        lengths: int (N,): tokens per example.
        seed: of the stage.
        epoch: from 1.
        global_batch_size: examples per step.

    Returns:
        int64 (N,): a function of the arguments alone, so it can be resumed.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    full, left_over = np.split(order, [len(order) // global_batch_size * global_batch_size])
    runs = [
        run[np.argsort(lengths[run], kind="stable")]
        for run in np.split(full, range(0, len(full), _STEPS_SORTED * global_batch_size)[1:])
    ]
    steps = np.concatenate(runs).reshape(-1, global_batch_size)
    return np.concatenate([generator.permutation(steps).ravel(), left_over])


def steps_per_epoch(examples: int, global_batch_size: int) -> int:
    """Optimizer steps per epoch; the last one may have fewer examples."""
    return -(-examples // global_batch_size)


def windows(
    order: np.ndarray, per_device_batch_size: int, accumulation: int, rank: int, world: int
) -> Iterator[list[np.ndarray]]:
    """Per optimizer step, the forward passes of one process: a list of index arrays, at least one, maybe empty.

    The examples of a step are dealt to the processes in contiguous shares that differ by at most one example, so all
    processes take the same number of steps and no example is used twice.
    """
    global_batch_size = per_device_batch_size * accumulation * world
    for start in range(0, len(order), global_batch_size):
        share = np.array_split(order[start : start + global_batch_size], world)[rank]
        passes = -(-len(share) // per_device_batch_size) or 1
        yield [share[i * per_device_batch_size : (i + 1) * per_device_batch_size] for i in range(passes)]


def by_length(lengths: np.ndarray, tokens: int) -> Iterator[np.ndarray]:
    """Batches of indices from the longest texts to the shortest, for passes whose order does not matter.

    Args:
        lengths: int64 (N,), in tokens.
        tokens: how many a batch has at most, padding included; a text that is longer is a batch of its own.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        end = start + max(tokens // max(int(lengths[order[start]]), 1), 1)
        yield order[start:end]
        start = end


def pad(tokens: Tokens, indices: Sequence[int] | np.ndarray, pad_token_id: int) -> dict[str, torch.Tensor]:
    """Tokens of some texts, padded on the right to the longest, T rounded up to a multiple of 8: int64 (B, T) each."""
    indices = np.asarray(indices, dtype=np.int64)
    lengths = tokens.offsets[indices + 1] - tokens.offsets[indices]
    shape = (len(indices), -(-int(lengths.max(initial=1)) // _WIDTHS) * _WIDTHS)
    input_ids = np.full(shape, pad_token_id, dtype=np.int64)
    attention_mask = (np.arange(shape[1]) < lengths[:, None]).astype(np.int64)
    types = np.zeros(shape, dtype=np.int64)
    for row, index in enumerate(indices):
        span = slice(tokens.offsets[index], tokens.offsets[index + 1])
        input_ids[row, : lengths[row]] = tokens.input_ids[span]
        if tokens.token_type_ids is not None:
            types[row, : lengths[row]] = tokens.token_type_ids[span]
    padded = {"input_ids": torch.from_numpy(input_ids), "attention_mask": torch.from_numpy(attention_mask)}
    if tokens.token_type_ids is not None:
        padded["token_type_ids"] = torch.from_numpy(types)
    return padded


@dataclass(frozen=True)
class LabelledExamples:
    """Tokenized texts with their labels."""

    tokens: Tokens
    labels: np.ndarray
    """int64 (N,), classes; float64 (N,), numbers; or uint8 (N, C), 1 for each label of a row"""
    pad_token_id: int

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per example: int64 (N,)."""
        return self.tokens.lengths

    def batch(self, indices: np.ndarray, epoch: int) -> Batch:
        """The examples at `indices`, the same in every epoch."""
        return Batch(pad(self.tokens, indices, self.pad_token_id), torch.from_numpy(self.labels[indices]))


@dataclass(frozen=True)
class MaskedExamples:
    """Tokenized texts, masked anew in every epoch."""

    tokens: Tokens
    seed: int
    probability: float
    mask_token_id: int
    vocab_size: int
    pad_token_id: int
    masking: Masking = "token"
    replace: Replace = AS_BERT
    numbers: np.ndarray | None = None
    """int64 (N,): the numbers that the examples' masks are drawn by; their positions unless given."""

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def texts(self) -> int:
        """How many texts the examples are made of."""
        return len(self)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per example: int64 (N,)."""
        return self.tokens.lengths

    def batch(self, indices: np.ndarray, epoch: int) -> Batch:
        """The examples at `indices` with the masks of `epoch`."""
        inputs = pad(self.tokens, indices, self.pad_token_id)
        words = self.tokens.word_starts
        input_ids = inputs["input_ids"].numpy()  # shares memory: masks are written into the batch
        width = input_ids.shape[1]
        labels, positions = [], []
        for row, index in enumerate(indices):
            span = slice(self.tokens.offsets[index], self.tokens.offsets[index + 1])
            original = self.tokens.input_ids[span]
            masked, chosen = mask(
                original,
                ~self.tokens.special[span],
                probability=self.probability,
                mask_token_id=self.mask_token_id,
                vocab_size=self.vocab_size,
                generator=example_generator(self.seed, epoch, self._number(int(index))),
                masking=self.masking,
                word_starts=None if words is None else words[span],
                replace=self.replace,
            )
            input_ids[row, : len(masked)] = masked
            labels.append(original[chosen])
            positions.append(row * width + chosen)
        return Batch(
            inputs,
            torch.from_numpy(np.concatenate([*labels, np.zeros(0)]).astype(np.int64)),
            torch.from_numpy(np.concatenate([*positions, np.zeros(0)]).astype(np.int64)),
        )

    def _number(self, index: int) -> int:
        return index if self.numbers is None else int(self.numbers[index])
