"""Features of a frozen encoder: computed once, then the head trains on them alone.

A frozen encoder in eval mode maps a text to the same vector in every epoch, so running it every epoch repeats work.
Sentence heads read one vector per text: the last hidden state of the first token, or (ModernBERT) the mean over
tokens. That vector is kept, and during training a small module stands in for the encoder and hands it out.
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
from ftjobs.training.optimization import autocast
from ftjobs.training.state import Checkpointer

#: What fetching features from storage is reckoned to cost: seconds to begin with, and bytes per second.
_SECONDS_TO_BEGIN, _BYTES_PER_SECOND = 5.0, 100e6


@dataclass(frozen=True)
class FeatureExamples:
    """Texts as feature vectors, with their labels."""

    features: torch.Tensor
    """float32 (N, H), in a file"""
    labels: np.ndarray
    """As `LabeledExamples` has them."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> np.ndarray:
        """One vector per example: int64 (N,)."""
        return np.ones(len(self), dtype=np.int64)

    def batch(self, indices: np.ndarray, epoch: int) -> Batch:
        """The examples at `indices`, each a sequence of one vector: (B, 1, H)."""
        inputs = {"inputs_embeds": self.features[torch.from_numpy(indices)].unsqueeze(1)}
        return Batch(inputs, torch.from_numpy(self.labels[indices]))


class _FeatureEncoder(nn.Module):
    """Stands in for a frozen encoder. Its pooler stays real: it may be new, and then trains with the head."""

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
    """Within the block, `model` takes features in place of texts; its encoder is put back afterwards."""
    encoder = model.base_model
    setattr(model, model.base_model_prefix, _FeatureEncoder(encoder))
    try:
        yield
    finally:
        setattr(model, model.base_model_prefix, encoder)


def tokens_at_once(device: torch.device) -> int:
    """How many a pass without training takes at once: many fill a GPU; a CPU is as fast with few, and texts that are
    more alike in length are padded less."""
    return 2_048 if device.type == "cpu" else 8_192


@torch.no_grad()
def compute(
    model: PreTrainedModel, examples: LabeledExamples, title: str, mixed_precision: str = "no"
) -> FeatureExamples:
    """Run the encoder once over all examples, in eval mode, longest first.

    Args:
        model: a classifier.
        examples: of one split.
        title: what the progress display calls it.
        mixed_precision: as in the job file; that of training for what is trained on, none for what is evaluated on.
    """
    model.eval()
    device = next(model.parameters()).device
    mean = getattr(model.config, "classifier_pooling", "cls") == "mean"
    features = torch.from_numpy(memory_mapped.zeros((len(examples), model.config.hidden_size), np.float32))
    with track(title, len(examples)) as advance, autocast(mixed_precision, device):
        for indices in batches_by_length(examples.lengths, tokens_at_once(device)):
            inputs = examples.batch(indices, 0).to(device).inputs
            hidden = model.base_model(**inputs).last_hidden_state  # (B, T, H)
            if mean:
                kept = inputs["attention_mask"].unsqueeze(-1)
                vectors = (hidden * kept).sum(1) / kept.sum(1)
            else:
                vectors = hidden[:, 0]
            features[torch.from_numpy(indices)] = vectors.float().cpu()
            advance(len(indices), "")
    return FeatureExamples(features, examples.labels)


def of_splits(
    model: PreTrainedModel,
    splits: dict[str, LabeledExamples],
    checkpointer: Checkpointer | None,
    mixed_precision: str = "no",
) -> dict[str, FeatureExamples]:
    """Features of every split: those that an earlier attempt at this stage has left, or computed now.

    Those of `train` are computed in the precision of training, those that are evaluated on in full precision.

    Computed ones are left for a later attempt if making them again would take longer than fetching them.
    """
    shapes = {name: (len(examples), model.config.hidden_size) for name, examples in splits.items()}
    stored = checkpointer.cached_file("features") if checkpointer else None
    if stored is not None:
        tensors = load_file(stored)
        if {name: tuple(tensor.shape) for name, tensor in tensors.items()} == shapes:
            LOG.info("features: those of an earlier attempt")
            return {name: FeatureExamples(tensors[name], examples.labels) for name, examples in splits.items()}
    started = perf_counter()
    precisions = dict.fromkeys(splits, "no") | {"train": mixed_precision}
    found = {
        name: compute(model, examples, f"features of {name}", precisions[name]) for name, examples in splits.items()
    }
    tensors = {name: examples.features for name, examples in found.items()}
    to_fetch = _SECONDS_TO_BEGIN + sum(tensor.nbytes for tensor in tensors.values()) / _BYTES_PER_SECOND
    if checkpointer and perf_counter() - started > to_fetch:
        checkpointer.cache_file("features", lambda path: save_file(tensors, path))
    return found


@torch.no_grad()
def supports_feature_cache(model: PreTrainedModel, examples: LabeledExamples) -> bool:
    """Whether the head gives the same logits from features as from texts, tried on a few examples.

    False for a head that reads more than one vector per text; its encoder has to run in every epoch.
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
            found = model(**features.batch(few, 0).to(device).inputs).logits
    except (TypeError, AttributeError, RuntimeError, ValueError, IndexError):
        return False
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-3, atol=1e-4)
