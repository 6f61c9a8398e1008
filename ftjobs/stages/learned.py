"""What an `adapt` stage learns from, and what it is measured on: the job's texts, or a corpus of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftjobs.data.corpora import curation
from ftjobs.data.examples.masked_examples import Unit
from ftjobs.data.prepared import ChainedTexts, PreparedData
from ftjobs.jobfile.fields import Adapt, Corpus

#: What of the record of a corpus stands in the metrics of the stages that learn from it.
_COUNTS = ("read", "empty", "contaminated", "exact_duplicates", "near_duplicates", "train", "held_out")


@dataclass(frozen=True)
class Learned:
    """Texts to learn from and to measure on, and what of them is an example."""

    train: ChainedTexts
    held_out: ChainedTexts
    """What the best epoch is chosen on."""
    evaluated_on: str
    """A split of the job's data, or `corpus`."""
    task: ChainedTexts | None = None
    """The job's held-out texts, where something else is held out."""
    unit: Unit = "document"
    counts: dict[str, Any] | None = None
    """What became of the passages of a corpus."""


def learned(settings: Adapt, data: PreparedData, inputs: dict[str, Path]) -> Learned:
    """The texts that a stage with these settings is about."""
    task = data.splits[data.selection_split].all_texts
    corpus = settings.corpus
    if isinstance(corpus, Corpus):
        folder = inputs["corpus"] / "corpus"
        record = curation.read_record(folder)
        train, held_out = curation.read(folder)
        used = "pairs" if settings.makes_pairs else corpus.unit
        counts: dict[str, Any] = {"unit": used, "isolate": corpus.isolate}
        counts |= {name: value for name, value in record.items() if name in _COUNTS}
        unit: Unit = "isolated" if corpus.isolate else corpus.unit
        return Learned(ChainedTexts([train]), ChainedTexts([held_out]), "corpus", task, unit, counts)
    splits = ["train"] if corpus == "train" else list(data.splits)
    columns = [column for name in splits for column in data.splits[name].columns]
    return Learned(ChainedTexts(columns), task, data.selection_split)
