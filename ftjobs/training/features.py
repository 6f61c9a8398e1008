"""Cached features of a frozen encoder, on which the head is trained.

A frozen encoder in eval mode maps a text to the same vector in every epoch, so it runs only once. Sentence heads read
one vector per text: the last hidden state of the first token, or (ModernBERT) the mean over tokens. During training, a
small module that returns the cached vectors replaces the encoder.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from ftjobs.data import memory_mapped
from ftjobs.data.examples.batching import Batch, LabeledExamples, batches_by_length
from ftjobs.system.progress import LOG, track
from ftjobs.training.callbacks import Checkpointer
from ftjobs.training.optimization import autocast

#: Estimated cost of downloading features from storage: latency in seconds, and bytes per second.
_LATENCY, _BYTES_PER_SECOND = 5.0, 100e6


@dataclass(frozen=True)
class FeatureExamples:
    """Texts as feature vectors, with their labels."""

    features: torch.Tensor
    """float32 (N, H), memory-mapped."""
    labels: np.ndarray
    """As in `LabeledExamples`."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> np.ndarray:
        """Ones, since each example is one vector: int64 (N,)."""
        return np.ones(len(self), dtype=np.int64)

    def batch(self, indices: np.ndarray, epoch: int) -> Batch:
        """Return the examples at `indices`, each a sequence of one vector: (B, 1, H)."""
        inputs = {"inputs_embeds": self.features[torch.from_numpy(indices)].unsqueeze(1)}
        return Batch(inputs, torch.from_numpy(self.labels[indices]))


class _FeatureEncoder(nn.Module):
    """Replacement of a frozen encoder. Keeps the pooler, which is trained with the head if it is new."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.pooler: nn.Module | None = getattr(encoder, "pooler", None)
        self.pooler_activation: nn.Module | None = getattr(encoder, "pooler_activation", None)

    def forward(self, *_: object, inputs_embeds: torch.Tensor, **__: object) -> BaseModelOutputWithPooling:
        pooled = None
        if self.pooler is not None and self.pooler_activation is not None:  # ALBERT keeps its pooler in two parts
            pooled = self.pooler_activation(self.pooler(inputs_embeds[:, 0]))
        elif self.pooler is not None:
            pooled = self.pooler(inputs_embeds)
        return BaseModelOutputWithPooling(last_hidden_state=inputs_embeds, pooler_output=pooled)


@contextmanager
def feature_encoder(model: PreTrainedModel) -> Iterator[None]:
    """Within the block, `model` takes features instead of texts; restore its encoder afterwards."""
    encoder = model.base_model
    setattr(model, model.base_model_prefix, _FeatureEncoder(encoder))
    try:
        yield
    finally:
        setattr(model, model.base_model_prefix, encoder)


def tokens_per_batch(device: torch.device) -> int:
    """Return the tokens of a batch without training. A GPU needs many; a CPU is as fast with few, and smaller batches
    of texts of similar length need less padding."""
    return 2_048 if device.type == "cpu" else 8_192


@torch.no_grad()
def compute(
    model: PreTrainedModel, examples: LabeledExamples, title: str, mixed_precision: str = "no"
) -> FeatureExamples:
    """Run the encoder once over all examples, in eval mode, longest first.

    Args:
        model: a classifier.
        examples: of one split.
        title: of the progress display.
        mixed_precision: as in the job file; `no` for splits that are evaluated on.
    """
    model.eval()
    device = next(model.parameters()).device
    mean = getattr(model.config, "classifier_pooling", "cls") == "mean"
    features = torch.from_numpy(memory_mapped.zeros((len(examples), model.config.hidden_size), np.float32))
    with track(title, len(examples)) as advance, autocast(mixed_precision, device):
        for indices in batches_by_length(examples.lengths, tokens_per_batch(device)):
            inputs = examples.batch(indices, 0).to(device).inputs
            hidden = model.base_model(**inputs).last_hidden_state  # (B, T, H)
            if mean:
                mask = inputs["attention_mask"].unsqueeze(-1)
                vectors = (hidden * mask).sum(1) / mask.sum(1)
            else:
                vectors = hidden[:, 0]
            features[torch.from_numpy(indices)] = vectors.float().cpu()
            advance(len(indices), "")
    return FeatureExamples(features, examples.labels)


def load_or_compute(
    model: PreTrainedModel,
    splits: dict[str, LabeledExamples],
    checkpointer: Checkpointer | None,
    mixed_precision: str = "no",
) -> dict[str, FeatureExamples]:
    """Return the features of every split, cached by an earlier attempt at this stage or computed now.

    Features of `train` are computed in the precision of training, those of other splits in fp32. Computed features are
    cached for later attempts if computing them takes longer than downloading them.
    """
    shapes = {name: (len(examples), model.config.hidden_size) for name, examples in splits.items()}
    stored = checkpointer.cached_file("features") if checkpointer else None
    if stored is not None:
        tensors = load_file(stored)
        if {name: tuple(tensor.shape) for name, tensor in tensors.items()} == shapes:
            LOG.info("features: reusing those of an earlier attempt")
            return {name: FeatureExamples(tensors[name], examples.labels) for name, examples in splits.items()}
    started = perf_counter()
    precisions = dict.fromkeys(splits, "no") | {"train": mixed_precision}
    computed = {
        name: compute(model, examples, f"features of {name}", precisions[name]) for name, examples in splits.items()
    }
    tensors = {name: examples.features for name, examples in computed.items()}
    download_seconds = _LATENCY + sum(tensor.nbytes for tensor in tensors.values()) / _BYTES_PER_SECOND
    if checkpointer and perf_counter() - started > download_seconds:
        checkpointer.cache_file("features", lambda path: save_file(tensors, path))
    return computed


@torch.no_grad()
def supports_feature_cache(model: PreTrainedModel, examples: LabeledExamples) -> bool:
    """Return whether the head computes the same logits from features as from texts, tested on a few examples.

    False for a head that reads more than one vector per text; its encoder runs in every epoch.
    """
    model.eval()
    few = np.arange(min(len(examples), 8))
    device = next(model.parameters()).device
    expected = model(**examples.batch(few, 0).to(device).inputs).logits
    offsets = examples.tokens.offsets[: len(few) + 1]
    sample = replace(examples, tokens=replace(examples.tokens, offsets=offsets), labels=examples.labels[: len(few)])
    try:
        features = compute(model, sample, "features")
        with feature_encoder(model):
            cached = model(**features.batch(few, 0).to(device).inputs).logits
    except (TypeError, AttributeError, RuntimeError, ValueError, IndexError):
        return False
    return cached.shape == expected.shape and torch.allclose(cached, expected, rtol=1e-3, atol=1e-4)
