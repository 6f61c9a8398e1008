"""Training the rows of an embedding that texts use, which are few of a vocabulary.

In a classifier the rows of all other tokens have gradients of zero, and so moments of zero: AdamW does nothing to them
but decay. Half of a small encoder's weights are such rows, and clearing, clipping, updating and exchanging their
gradients is a tenth of its step. So the rows in use are trained as a matrix of their own, and one number is trained for
all the others: it has no gradient either, hence it is what AdamW's decay has made of 1, and of each of the other rows.

In masked language modelling the matrix is tied to the output layer, which has gradients for all rows. Those of the
tokens that were looked up are added to them where they are, and not as a second matrix that is mostly zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

#: Token ids looked at at once: there may be more of them than fit into memory.
_TOKENS = 1_000_000


class UsedRows(nn.Module):
    """Stands in for an embedding while it is trained on texts with few of its tokens."""

    places: torch.Tensor
    used: torch.Tensor

    def __init__(self, whole: nn.Embedding, used: torch.Tensor) -> None:
        """Args: whole: the embedding; used: bool (V,): tokens of the training texts."""
        super().__init__()
        self.whole = whole.requires_grad_(False)
        self.rows = nn.Parameter(whole.weight[used].clone())  # (U, H)
        self.decay = nn.Parameter(whole.weight.new_ones(1, 1))  # two dimensions: AdamW decays it as weights
        self.register_buffer("used", used, persistent=False)
        self.register_buffer("places", used.cumsum(0) - 1, persistent=False)
        self.padding = None if whole.padding_idx is None else int(self.places[whole.padding_idx])

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Embeddings of tokens; in training mode of those in use only: float (..., H)."""
        rows = functional.embedding(self.places[input_ids].clamp(min=0), self.rows, self.padding)
        if self.training:
            return rows + 0 * self.decay  # so that it has a gradient, of zero
        used = self.used[input_ids].unsqueeze(-1)
        return torch.where(used, rows, self.whole(input_ids) * self.decay)

    @torch.no_grad()
    def restored(self) -> nn.Embedding:
        """The embedding with all that was trained."""
        weight = self.whole.weight
        weight.mul_(torch.where(self.used.unsqueeze(-1), 1, self.decay))
        weight[self.used] = self.rows
        return self.whole.requires_grad_(True)


@contextmanager
def train_used_rows_only(model: PreTrainedModel, input_ids: np.ndarray) -> Iterator[None]:
    """Within the block, `model` trains the embeddings of `input_ids` (int (T,)), and takes no others in training mode;
    afterwards its embedding is whole again. Embeddings that are tied, frozen or do more than look up are left alone."""
    whole = model.get_input_embeddings()
    plain = type(whole) is nn.Embedding and _only_looks_up(whole)
    if not plain or model.get_output_embeddings() is not None or not whole.weight.requires_grad:
        yield
        return
    used = torch.zeros(whole.num_embeddings, dtype=torch.bool)
    for start in range(0, len(input_ids), _TOKENS):
        used[torch.from_numpy(np.unique(input_ids[start : start + _TOKENS])).long()] = True
    if whole.padding_idx is not None:
        used[whole.padding_idx] = True
    stand_in = UsedRows(whole, used.to(whole.weight.device)).train(model.training)
    model.set_input_embeddings(stand_in)
    try:
        yield
    finally:
        model.set_input_embeddings(stand_in.restored())


@contextmanager
def in_place_embedding_gradients(model: nn.Module) -> Iterator[None]:
    """Within the block, the gradient of an embedding on a CPU that is also the output layer is made in one piece.

    Autograd adds up two gradients of the matrix, each as large as it. (So it does if that of the lookup is sparse: it
    copies the other one first.) On a GPU the rows of a token that occurs twice would be added up in any order.
    """
    tied = [
        (embedding, output)
        for embedding in model.modules()
        if type(embedding) is nn.Embedding and _only_looks_up(embedding) and embedding.weight.device.type == "cpu"
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


def _only_looks_up(embedding: nn.Embedding) -> bool:
    return embedding.max_norm is None and not embedding.scale_grad_by_freq and not embedding.sparse


def _share(embedding: Any, output: Any) -> None:
    """Have both modules use their matrix by one `_Tied` in a forward pass."""
    weights: list[torch.Tensor] = []

    def look_up(input_ids: torch.Tensor) -> torch.Tensor:
        rows, weight = _Tied.apply(embedding.weight, input_ids, embedding.padding_idx)
        weights[:] = [weight]
        return cast(torch.Tensor, rows)

    def logits(hidden: torch.Tensor) -> torch.Tensor:
        return functional.linear(hidden, weights.pop() if weights else output.weight, output.bias)

    embedding.forward, output.forward = look_up, logits


class _Tied(torch.autograd.Function):
    """Rows of a matrix, and the matrix for another use, with one gradient for both."""

    @staticmethod
    def forward(
        ctx: Any, weight: torch.Tensor, input_ids: torch.Tensor, padding: int | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Of (V, H), by int64 (...): (..., H) and (V, H)."""
        ctx.save_for_backward(input_ids)
        ctx.padding, ctx.shape = padding, weight.shape
        ctx.set_materialize_grads(False)
        return functional.embedding(input_ids, weight), weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> tuple[torch.Tensor | None, None, None]:
        """That of the matrix: nobody else holds what comes from the output layer, so it is written to."""
        rows, whole = gradients
        (input_ids,) = ctx.saved_tensors
        if rows is None:
            return whole, None, None
        if ctx.padding is not None:
            rows = rows.masked_fill((input_ids == ctx.padding).unsqueeze(-1), 0)
        whole = rows.new_zeros(ctx.shape) if whole is None else whole
        return whole.index_add_(0, input_ids.flatten(), rows.flatten(0, -2)), None, None
