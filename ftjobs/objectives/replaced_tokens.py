"""`objective: replaced-token`: ELECTRA's replaced-token detection."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ftjobs.objectives import Objective

if TYPE_CHECKING:
    from pathlib import Path

    from ftjobs.jobfile.fields import Adapt
    from ftjobs.objectives.compute.pretraining import PretrainingObjective

#: Folder of the generator within the folder of an ELECTRA encoder.
GENERATOR = "generator"


class ReplacedTokenDetection(Objective):
    """Detect the tokens that a small generator has replaced (Clark et al. 2020, section 3)."""

    name = "replaced-token"
    description = (
        "which tokens were replaced by a small generator, which is trained along with the encoder by masked language "
        "modeling (Clark et al. 2020, section 3); for ELECTRA."
    )
    encoder_types = ("electra",)
    settings = frozenset({"generator_size"})
    figures: ClassVar[dict[str, str]] = {
        "replaced_accuracy": "replaced-token accuracy",
        "replaced_f1": "replaced-token F1",
    }
    heads = "replaced-token head"
    publishes_masked_lm = False
    metrics_note = f"masked-LM metrics are those of the generator, in the folder `{GENERATOR}` of the checkpoint"
    companion_folder = GENERATOR

    def describe(self, settings: Adapt) -> str:
        """Return the training method in prose."""
        return f"replaced-token detection, with a generator trained by {super().describe(settings)}"

    def usage(self, model: str) -> list[str]:
        """Return lines of Python that score the tokens of a text."""
        return [
            "from transformers import AutoModelForPreTraining, AutoTokenizer",
            "",
            model,
            "electra, tokenizer = AutoModelForPreTraining.from_pretrained(model), AutoTokenizer.from_pretrained(model)",
            'print(electra(**tokenizer("A text.", return_tensors="pt")).logits)  # above 0: predicted as replaced',
        ]

    def load(self, settings: Adapt, folder: Path) -> PretrainingObjective:
        """Load an ELECTRA encoder with its replaced-token head, and its generator."""
        from ftjobs.objectives.compute.replaced_tokens import ReplacedTokenObjective

        return ReplacedTokenObjective.load(settings, folder)


OBJECTIVES = (ReplacedTokenDetection(),)
