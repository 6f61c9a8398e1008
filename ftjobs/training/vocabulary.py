"""Training the rows of an embedding that texts use, which are few of a vocabulary.

In a classifier the rows of all other tokens have gradients of zero, and so moments of zero: AdamW does nothing to them
but decay. Half of a small encoder's weights are such rows, and clearing, clipping, updating and exchanging their
gradients is a tenth of its step. So the rows in use are trained as a matrix of their own, and one number is trained for
all the others: it has no gradient either, hence it is what AdamW's decay has made of 1, and of each of the other rows.

In masked language modelling the matrix is tied to the output layer, which has gradients for all rows. Those of the
tokens that were looked up are added to them where they are, not as a second matrix that is mostly zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
        self.decay = nn.Parameter(torch.ones_like(whole.weight[:1, :1]))  # two dimensions: AdamW decays it as weights
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
def only_used_rows(model: PreTrainedModel, input_ids: np.ndarray) -> Iterator[None]:
    """Within the block, `model` trains the embeddings of `input_ids` (int (T,)), and takes no others in training mode;
    afterwards its embedding is whole again. Embeddings that are tied, frozen or do more than look up are left alone."""
    whole = model.get_input_embeddings()
    plain = type(whole) is nn.Embedding and whole.max_norm is None and not whole.scale_grad_by_freq
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
def lookups_added_in_place(model: nn.Module) -> Iterator[None]:
    """Within the block, embeddings on a CPU that are also an output layer have sparse gradients, which autograd adds to
    the output layer's in place. What is left is dense. (On a GPU the sum would wait for the tokens to be sorted.)"""
    outputs = {module.weight for module in model.modules() if isinstance(module, nn.Linear)}
    tied = [
        module
        for module in model.modules()
        if type(module) is nn.Embedding and module.weight in outputs and module.weight.device.type == "cpu"
    ]
    for embedding in tied:
        embedding.sparse = True
    try:
        yield
    finally:
        for embedding in tied:
            embedding.sparse = False
