"""Objectives: one module per way to adapt an encoder, with its requirements, examples, loss, evaluation and wording.

Modules of this folder declare objectives and import neither torch nor transformers. The implementations in `compute/`
may import what `ftjobs.training` may; `Objective.load` imports them.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from functools import cache
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pathlib import Path

    from ftjobs.jobfile.fields import Adapt
    from ftjobs.objectives.compute.pretraining import PretrainingObjective

__all__ = [
    "DEFAULT_OBJECTIVE",
    "Objective",
    "all_figures",
    "all_objectives",
    "get_objective",
    "objective_names",
]

DEFAULT_OBJECTIVE = "mlm"
"""The `objective` of an `adapt` stage that names none."""
_MASKING = {"token": "", "whole-word": " of whole words", "span": " of spans of words"}


class Objective(ABC):
    """Declaration of an objective: everything that job files, reports, cards and status lines depend on.

    The defaults are those of objectives that publish an encoder with a masked-LM head.
    """

    name: ClassVar[str]
    """Value of `objective`."""
    description: ClassVar[str]
    """Documentation of that value in the job-file schema."""
    encoder_types: ClassVar[tuple[str, ...]] = ()
    """`model_type` of the encoders with heads for this objective; empty if `load` decides."""
    settings: ClassVar[frozenset[str]] = frozenset({"replace", "vocabulary"})
    """Fields of an `adapt` stage that apply to this objective, among those that do not apply to every objective."""
    example_unit: ClassVar[str | None] = None
    """Unit of an example if the objective determines it; None if `corpus.unit` does."""
    figures: ClassVar[dict[str, str]] = {}
    """Shares that the objective measures besides `accuracy` of masked tokens: key in metrics, and name in prose."""
    heads: ClassVar[str] = "masked-LM head"
    """Heads of the published encoder, in prose."""
    publishes_masked_lm: ClassVar[bool] = True
    """The published encoder predicts masked tokens, so perplexity describes the published model."""
    metrics_note: ClassVar[str] = ""
    """Clause on the masked-LM metrics for reports and cards, if they are not those of the published encoder."""
    companion_folder: ClassVar[str | None] = None
    """Folder within a checkpoint with further weights that training with this objective continues from."""

    def describe(self, settings: Adapt) -> str:
        """Return the training method in prose, for reports and cards."""
        return f"masked language modeling{self.describe_masking(settings)}"

    @staticmethod
    def describe_masking(settings: Adapt) -> str:
        """Return the unit of masking in prose: ` of whole words`, or nothing for single tokens."""
        return _MASKING[settings.masking]

    def usage(self, model: str) -> list[str]:
        """Return lines of Python that use the published encoder, for cards. `model`: the line that sets `model`."""
        return [
            "from transformers import pipeline",
            "",
            model,
            'fill_mask = pipeline("fill-mask", model=model)',
            'print(fill_mask(f"A text with a {fill_mask.tokenizer.mask_token} in it."))',
        ]

    @abstractmethod
    def load(self, settings: Adapt, folder: Path) -> PretrainingObjective:
        """Load an encoder with the heads of this objective. Heads that the checkpoint does not contain are initialized.

        Args:
            settings: of the stage.
            folder: a checkpoint.

        Raises:
            UserError: the encoder does not support this objective.
        """


@cache
def _registry() -> dict[str, Objective]:
    modules = sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg)
    loaded = [importlib.import_module(f"{__name__}.{name}") for name in modules]
    objectives = [objective for module in loaded for objective in getattr(module, "OBJECTIVES", ())]
    return {objective.name: objective for objective in sorted(objectives, key=lambda objective: objective.name)}


def all_objectives() -> tuple[Objective, ...]:
    """Return every objective, ordered by name.

    Objectives are those listed in `OBJECTIVES` of any module in this folder, which are imported on the first call.
    """
    return tuple(_registry().values())


def get_objective(name: str) -> Objective:
    """Return the objective of a name.

    Raises:
        KeyError: no objective has this name; job files are checked before.
    """
    return _registry()[name]


def objective_names() -> tuple[str, ...]:
    """Return the accepted values of `objective`."""
    return tuple(_registry())


def all_figures() -> dict[str, str]:
    """Return the figures of all objectives: key in metrics, and name in prose."""
    return {key: name for objective in all_objectives() for key, name in objective.figures.items()}
