"""The fields of a job file, with types, defaults and bounds.

Unknown keys are errors, and types are not converted: `epochs: "8"` is an error, not 8. The docstring of each field is
its description in `ftjobs schema`, which editors display.
"""

from ftjobs.jobfile.fields.adapt_stage import Adapt, Replace
from ftjobs.jobfile.fields.classify_stage import Classify
from ftjobs.jobfile.fields.common import Fields, Lora, TrainingFields
from ftjobs.jobfile.fields.encoder import Encoder, Scratch, Vocabulary
from ftjobs.jobfile.fields.job import MARGIN_TOO_LARGE, Hypothesis, Job, Tracking, WandbTracking
from ftjobs.jobfile.fields.text_sources import Corpus, CorpusSource, Data, Split, Streaming

__all__ = [
    "MARGIN_TOO_LARGE",
    "Adapt",
    "Classify",
    "Corpus",
    "CorpusSource",
    "Data",
    "Encoder",
    "Fields",
    "Hypothesis",
    "Job",
    "Lora",
    "Replace",
    "Scratch",
    "Split",
    "Streaming",
    "Tracking",
    "TrainingFields",
    "Vocabulary",
    "WandbTracking",
]
