"""`objective: mlm+nsp` and `mlm+sop`: masked language modeling with a prediction about two segments."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from ftjobs.objectives import Objective

if TYPE_CHECKING:
    from pathlib import Path

    from ftjobs.jobfile.fields import Adapt
    from ftjobs.objectives.compute.pretraining import PretrainingObjective


class SegmentPairs(Objective):
    """Predict masked tokens, and the relation of two segments of a document."""

    example_unit = "pairs"
    relation: ClassVar[Literal["next", "order"]]
    """Relation of the two segments to predict: adjacent or random, in order or swapped."""
    task: ClassVar[str]
    """Prediction about the segments, in prose."""

    def describe(self, settings: Adapt) -> str:
        """Return the training method in prose."""
        return f"{super().describe(settings)} and {self.task}"

    def load(self, settings: Adapt, folder: Path) -> PretrainingObjective:
        """Load an encoder with its masked-LM head and its head for segment pairs."""
        from ftjobs.objectives.compute.sentence_pairs import SegmentPairObjective

        return SegmentPairObjective.load(settings, folder, self)


class NextSentencePrediction(SegmentPairs):
    """Masked language modeling and next-sentence prediction (Devlin et al. 2019, section 3.1)."""

    name = "mlm+nsp"
    description = (
        "additionally, whether the second of two segments follows the first in the document, which is true for half of "
        "the pairs (same section); for BERT."
    )
    figures: ClassVar[dict[str, str]] = {"nsp_accuracy": "next-sentence accuracy"}
    heads = "masked-LM head and its next-sentence head"
    relation = "next"
    task = "next-sentence prediction"


class SentenceOrderPrediction(SegmentPairs):
    """Masked language modeling and sentence-order prediction (Lan et al. 2020, section 3.1)."""

    name = "mlm+sop"
    description = "additionally, whether two segments are in order (Lan et al. 2020, section 3.1); for ALBERT."
    encoder_types = ("albert",)
    figures: ClassVar[dict[str, str]] = {"sop_accuracy": "sentence-order accuracy"}
    heads = "masked-LM head and its sentence-order head"
    relation = "order"
    task = "sentence-order prediction"


OBJECTIVES = (NextSentencePrediction(), SentenceOrderPrediction())
