"""The fields of a job file, their types, defaults and bounds.

Every model refuses unknown keys and converts nothing silently: `epochs: "8"` is an error, not 8. The docstring below
each field is what `ftjobs schema` hands to editors.
"""

from ftjobs.jobfile.fields.adapt import Adapt, Replace
from ftjobs.jobfile.fields.base import Fields
from ftjobs.jobfile.fields.classify import Classify
from ftjobs.jobfile.fields.corpus import Corpus, CorpusSource, Streaming
from ftjobs.jobfile.fields.data import Data, Split
from ftjobs.jobfile.fields.encoder import Encoder, Scratch
from ftjobs.jobfile.fields.hypothesis import Hypothesis
from ftjobs.jobfile.fields.job import Job
from ftjobs.jobfile.fields.lora import Lora
from ftjobs.jobfile.fields.tracking import Tracking, WandbTracking
from ftjobs.jobfile.fields.training import TrainingFields
from ftjobs.jobfile.fields.vocabulary import Vocabulary

__all__ = [
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
