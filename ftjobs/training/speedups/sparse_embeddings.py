"""Faster training of word embeddings, of which a training set uses few rows.

In a classifier, the rows of unused tokens have zero gradients and zero moments, so AdamW only decays them. They are
half of a small encoder's weights, and clearing, clipping, updating and exchanging their gradients takes a tenth of a
step. Therefore the used rows are trained as a separate matrix, and the unused rows share one trained scalar: its
gradient is zero too, so AdamW's decay gives it the factor by which each unused row shrinks. This is exact for AdamW
only.

In masked language modeling, the embedding is tied to the output layer, which has gradients for all rows. The gradients
of looked-up rows are added to that matrix in place, instead of as a second matrix that is mostly zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.optim import AdamW, Optimizer
from transformers import PreTrainedModel

from ftjobs.errors import FtjobsError

#: Token ids to process at a time: there may be more than fit into memory.
_CHUNK = 1_000_000


class UsedRows(nn.Module):
    """Replacement of an embedding during training on texts that use few of its tokens. Exact under AdamW only."""

    positions: torch.Tensor
    used: torch.Tensor

    def __init__(self, embedding: nn.Embedding, used: torch.Tensor) -> None:
        """
        Args:
            embedding: the embedding to replace.
            used: bool (V,), True for tokens of the training texts.
        """
        super().__init__()
        self.whole = embedding.requires_grad_(False)
        self.rows = nn.Parameter(embedding.weight[used].clone())  # (U, H)
        self.decay = nn.Parameter(embedding.weight.new_ones(1, 1))  # two dimensions, so that weight decay applies
        self.register_buffer("used", used, persistent=False)
        self.register_buffer("positions", used.cumsum(0) - 1, persistent=False)
        self.padding = None if embedding.padding_idx is None else int(self.positions[embedding.padding_idx])

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Return embeddings of tokens: float (..., H). In training mode, all tokens must be used ones."""
        rows = functional.embedding(self.positions[input_ids].clamp(min=0), self.rows, self.padding)
        if self.training:
            return rows + 0 * self.decay  # gives the scalar a gradient of zero
        used = self.used[input_ids].unsqueeze(-1)
        return torch.where(used, rows, self.whole(input_ids) * self.decay)

    @torch.no_grad()
    def merge(self) -> nn.Embedding:
        """Return the original embedding with the trained and the decayed rows."""
        weight = self.whole.weight
        weight.mul_(torch.where(self.used.unsqueeze(-1), 1, self.decay))
        weight[self.used] = self.rows
        return self.whole.requires_grad_(True)


def check_optimizer(model: nn.Module, optimizer: Optimizer) -> None:
    """Check that the optimizer of a model is one that `UsedRows` is exact for.

    Under AdamW, a parameter without gradients changes by decoupled weight decay alone, which is the same factor for all
    unused rows. Other optimizers treat them differently (Adam, for example, adds decay to the gradient and normalizes
    it per row).

    Raises:
        FtjobsError: the model has a `UsedRows` embedding and the optimizer is not AdamW.
    """
    if type(optimizer) is AdamW:
        return
    for name, module in model.named_modules():
        if isinstance(module, UsedRows):
            raise FtjobsError(
                f"{name}: sparse embedding training is exact under AdamW only, and the optimizer is "
                f"{type(optimizer).__name__}; train the whole embedding (without train_used_rows_only)"
            )


@contextmanager
def train_used_rows_only(model: PreTrainedModel, input_ids: np.ndarray) -> Iterator[None]:
    """Within the block, train only the embedding rows of the tokens in `input_ids`; restore the embedding afterwards.

    In training mode, the model then accepts these tokens only. Embeddings that are tied, frozen, or more than a lookup
    are left unchanged.

    Args:
        model: a classifier.
        input_ids: int (T,), tokens of the training set.
    """
    embedding = model.get_input_embeddings()
    plain = type(embedding) is nn.Embedding and _is_plain_lookup(embedding)
    if not plain or model.get_output_embeddings() is not None or not embedding.weight.requires_grad:
        yield
        return
    used = torch.zeros(embedding.num_embeddings, dtype=torch.bool)
    for start in range(0, len(input_ids), _CHUNK):
        used[torch.from_numpy(np.unique(input_ids[start : start + _CHUNK])).long()] = True
    if embedding.padding_idx is not None:
        used[embedding.padding_idx] = True
    used_rows = UsedRows(embedding, used.to(embedding.weight.device)).train(model.training)
    model.set_input_embeddings(used_rows)
    try:
        yield
    finally:
        model.set_input_embeddings(used_rows.merge())


@contextmanager
def in_place_embedding_gradients(model: nn.Module) -> Iterator[None]:
    """Within the block, a tied embedding on a CPU accumulates both of its gradients in one matrix.

    Autograd would add two gradients of the matrix's full size, also if the gradient of the lookup is sparse. Not used
    on a GPU, where rows of repeated tokens would be added in nondeterministic order.
    """
    tied = [
        (embedding, output)
        for embedding in model.modules()
        if type(embedding) is nn.Embedding and _is_plain_lookup(embedding) and embedding.weight.device.type == "cpu"
        for output in model.modules()
        if type(output) is nn.Linear and output.weight is embedding.weight
    ]
    for embedding, output in tied:
        _share(embedding, output)
    try:
        yield
    finally:
        for pair in tied:
            for module in pair:
                del module.forward


def _is_plain_lookup(embedding: nn.Embedding) -> bool:
    return embedding.max_norm is None and not embedding.scale_grad_by_freq and not embedding.sparse


def _share(embedding: Any, output: Any) -> None:
    """Let both modules use their matrix through one `_Tied` per forward pass."""
    weights: list[torch.Tensor] = []

    def look_up(input_ids: torch.Tensor) -> torch.Tensor:
        rows, weight = _Tied.apply(embedding.weight, input_ids, embedding.padding_idx)
        weights[:] = [weight]
        return cast(torch.Tensor, rows)

    def logits(hidden: torch.Tensor) -> torch.Tensor:
        return functional.linear(hidden, weights.pop() if weights else output.weight, output.bias)

    embedding.forward, output.forward = look_up, logits


class _Tied(torch.autograd.Function):
    """Look up rows of a matrix and return the matrix for a second use, with one gradient for both uses."""

    @staticmethod
    def forward(
        ctx: Any, weight: torch.Tensor, input_ids: torch.Tensor, padding: int | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the rows (..., H) at `input_ids` (int64 (...)) of `weight` (V, H), and `weight` itself."""
        ctx.save_for_backward(input_ids)
        ctx.padding, ctx.shape = padding, weight.shape
        ctx.set_materialize_grads(False)
        return functional.embedding(input_ids, weight), weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> tuple[torch.Tensor | None, None, None]:
        """Return the gradient of the matrix. That of the output layer has no other owner, so it is updated in place."""
        row_gradients, matrix_gradient = gradients
        (input_ids,) = ctx.saved_tensors
        if row_gradients is None:
            return matrix_gradient, None, None
        if ctx.padding is not None:
            row_gradients = row_gradients.masked_fill((input_ids == ctx.padding).unsqueeze(-1), 0)
        matrix_gradient = row_gradients.new_zeros(ctx.shape) if matrix_gradient is None else matrix_gradient
        return matrix_gradient.index_add_(0, input_ids.flatten(), row_gradients.flatten(0, -2)), None, None
