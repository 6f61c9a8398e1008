"""`objective: mlm`: masked language modeling."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ftjobs.objectives import Objective

if TYPE_CHECKING:
    from pathlib import Path

    from ftjobs.jobfile.fields import Adapt
    from ftjobs.objectives.compute.pretraining import PretrainingObjective


class MaskedLanguageModeling(Objective):
    """Predict masked tokens (Devlin et al. 2019, section 3.1)."""

    name = "mlm"
    description = "masked language modeling, one text per example (Devlin et al. 2019, section 3.1)."

    def load(self, settings: Adapt, folder: Path) -> PretrainingObjective:
        """Load an encoder with its masked-LM head."""
        from ftjobs.objectives.compute.mlm import MaskedLMObjective

        return MaskedLMObjective.load(settings, folder)


OBJECTIVES = (MaskedLanguageModeling(),)
