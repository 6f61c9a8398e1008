"""Epoch order, batches of padded tensors, and the division of a step's examples among processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ftjobs.data.examples.tokenization import Tokens

#: Steps whose examples are sorted by length together, as in transformers' Trainer. More pad less; fewer shuffle better.
_SORTED_STEPS = 50
#: Batch width is a multiple of this: CPU kernels are compiled per shape, and GPU kernels prefer aligned widths.
_WIDTH_MULTIPLE = 8


@dataclass(frozen=True)
class Batch:
    """Inputs and targets of one forward pass."""

    inputs: dict[str, torch.Tensor]
    """Keyword arguments of the model: `input_ids`, `attention_mask`, `token_type_ids`: int64 (B, T); or features."""
    labels: torch.Tensor
    """int64 (M,): classes of the B examples, or token ids at the M masked positions."""
    positions: torch.Tensor | None = None
    """int64 (M,): masked positions in the flattened (B * T) batch; None for classification."""
    pair_labels: torch.Tensor | None = None
    """int64 (B,): for segment pairs, 0 if they are as in the document and 1 if they are random or swapped."""
    draws: torch.Tensor | None = None
    """float32 (M,): uniform in [0, 1), used to sample a generator's replacements."""

    def to(self, device: torch.device) -> Batch:
        """Copy the batch to a device."""

        def move(tensor: torch.Tensor | None) -> torch.Tensor | None:
            return None if tensor is None else tensor.to(device, non_blocking=True)

        inputs = {name: value.to(device, non_blocking=True) for name, value in self.inputs.items()}
        labels = self.labels.to(device, non_blocking=True)
        return Batch(inputs, labels, move(self.positions), move(self.pair_labels), move(self.draws))


def epoch_order(lengths: np.ndarray, seed: int, epoch: int, global_batch_size: int) -> np.ndarray:
    """Return the order of examples in an epoch: similar lengths within a step, random lengths across steps.

    The examples are shuffled, each group of `_SORTED_STEPS` steps is sorted by length and divided into steps again, and
    the steps are shuffled. This reduces padding, and examples share batches with different ones in every epoch. The
    remainder for the last, smaller step is drawn from all lengths.

    Args:
        lengths: int (N,): tokens per example.
        seed: seed of the stage.
        epoch: from 1.
        global_batch_size: examples per step.

    Returns:
        int64 (N,): depends on the arguments only, so training can resume.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    full, remainder = np.split(order, [len(order) // global_batch_size * global_batch_size])
    groups = [
        group[np.argsort(lengths[group], kind="stable")]
        for group in np.split(full, range(0, len(full), _SORTED_STEPS * global_batch_size)[1:])
    ]
    steps = np.concatenate(groups).reshape(-1, global_batch_size)
    return np.concatenate([generator.permutation(steps).ravel(), remainder])


def steps_per_epoch(examples: int, global_batch_size: int) -> int:
    """Return the optimizer steps per epoch; the last step may have fewer examples."""
    return -(-examples // global_batch_size)


def accumulation_windows(
    order: np.ndarray, per_device_batch_size: int, accumulation: int, rank: int, world: int
) -> Iterator[list[np.ndarray]]:
    """Yield, per optimizer step, one process's forward passes as index arrays; at least one, possibly empty.

    A step's examples are divided among the processes in contiguous shares that differ by at most one example, so every
    process takes the same number of steps and no example is used twice.
    """
    global_batch_size = per_device_batch_size * accumulation * world
    for start in range(0, len(order), global_batch_size):
        share = np.array_split(order[start : start + global_batch_size], world)[rank]
        passes = -(-len(share) // per_device_batch_size) or 1
        yield [share[i * per_device_batch_size : (i + 1) * per_device_batch_size] for i in range(passes)]


def batches_by_length(lengths: np.ndarray, max_tokens: int) -> Iterator[np.ndarray]:
    """Yield batches of indices from the longest texts to the shortest, for passes whose order does not matter.

    Args:
        lengths: int64 (N,): tokens per text.
        max_tokens: maximum tokens per batch, including padding; a longer text is a batch by itself.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        end = start + max(max_tokens // max(int(lengths[order[start]]), 1), 1)
        yield order[start:end]
        start = end


def pad(tokens: Tokens, indices: Sequence[int] | np.ndarray, pad_token_id: int) -> dict[str, torch.Tensor]:
    """Pad texts on the right to the longest one, T rounded up to a multiple of 8: int64 (B, T) each."""
    indices = np.asarray(indices, dtype=np.int64)
    lengths = tokens.offsets[indices + 1] - tokens.offsets[indices]
    shape = (len(indices), -(-int(lengths.max(initial=1)) // _WIDTH_MULTIPLE) * _WIDTH_MULTIPLE)
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
class LabeledExamples:
    """Tokenized texts with their labels."""

    tokens: Tokens
    labels: np.ndarray
    """int64 (N,): classes; float64 (N,): numbers; or uint8 (N, C): 1 for each label of a row."""
    pad_token_id: int

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per example: int64 (N,)."""
        return self.tokens.lengths

    def batch(self, indices: np.ndarray, epoch: int) -> Batch:
        """Return the examples at `indices`, identical in every epoch."""
        return Batch(pad(self.tokens, indices, self.pad_token_id), torch.from_numpy(self.labels[indices]))
