"""Trying out an encoder of a family that the tests do not cover: what it lacks is said before a stage trains it."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedModel

from ftjobs.errors import UserError
from ftjobs.models import checkpoints
from ftjobs.system.progress import LOG

#: Families that the tests take through every stage.
TESTED = frozenset(
    ("albert", "bert", "deberta-v2", "distilbert", "electra", "modernbert", "mpnet", "roberta", "xlm-roberta")
)
_TEXTS = ["one two three four five six", "one two"]


@torch.no_grad()
def smoke_test(model: PreTrainedModel, folder: Path) -> None:
    """Run an encoder of another family on two texts, the shorter one padded, and see that padding changes nothing.

    Args:
        model: with a head, as it was loaded from `folder`.
        folder: its checkpoint.

    Raises:
        UserError: it does not run on them.
    """
    kind = model.config.model_type
    if kind in TESTED:
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
            f"{folder}: encoders of type `{kind}` do not run on short texts that are padded to a batch ({reason}); "
            f"choose another encoder, such as one of {', '.join(sorted(TESTED))}"
        ) from error
    if single.ndim == 2:  # a token each
        together = together[: len(single)]
    if not torch.allclose(together, single, rtol=1e-3, atol=1e-3 * float(single.std())):
        LOG.warning(
            "encoders of type `%s` read padding as if it were text: their answer for a text depends on the lengths of "
            "those beside it in a batch", kind,
        )  # fmt: skip
