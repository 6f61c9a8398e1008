"""Smoke test of encoder families that the tests of this package do not cover, before a stage trains them."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedModel

from ftjobs.errors import UserError
from ftjobs.models import checkpoints
from ftjobs.system.progress import LOG

#: Families that the tests run through every stage.
TESTED = frozenset(
    ("albert", "bert", "deberta-v2", "distilbert", "electra", "modernbert", "mpnet", "roberta", "xlm-roberta")
)
_TEXTS = ["one two three four five six", "one two"]


@torch.no_grad()
def smoke_test(model: PreTrainedModel, folder: Path) -> None:
    """Run an encoder of an untested family on two texts, and warn if padding changes the output of the shorter one.

    Args:
        model: a model with a head, loaded from `folder`.
        folder: its checkpoint.

    Raises:
        UserError: the encoder does not run on padded texts.
    """
    family = model.config.model_type
    if family in TESTED:
        return
    tokenizer = checkpoints.load_tokenizer(folder)
    padded = tokenizer(_TEXTS, padding=True, pad_to_multiple_of=8, return_tensors="pt")
    alone = tokenizer(_TEXTS[-1:], return_tensors="pt")
    model.eval()
    try:
        together, single = (model(**inputs)[0].select(0, -1) for inputs in (padded, alone))
    except (RuntimeError, ValueError, IndexError, TypeError, AttributeError, KeyError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(
            f"{folder}: encoders of type `{family}` do not run on a padded batch of short texts ({reason}); "
            f"choose another encoder, such as one of {', '.join(sorted(TESTED))}"
        ) from error
    if single.ndim == 2:  # one row per token
        together = together[: len(single)]
    if not torch.allclose(together, single, rtol=1e-3, atol=1e-3 * float(single.std())):
        LOG.warning(
            "encoders of type `%s` do not ignore padding: their output for a text depends on the other texts of its "
            "batch", family,
        )  # fmt: skip
