"""`corpus`: read a corpus once, drop duplicates and test texts, and hold out passages for evaluation."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

from ftjobs.data import prepared
from ftjobs.data.corpora import curation
from ftjobs.data.corpora.decontamination import EvaluationTexts
from ftjobs.data.corpora.passages import Fetch, Passages
from ftjobs.plan import CorpusStage
from ftjobs.system.progress import LOG


def run(
    settings: CorpusStage, seed: int, inputs: dict[str, Path], output: Path, fetch: Fetch | None = None
) -> dict[str, Any]:
    """Publish a corpus, without the texts of the test and validation splits of `inputs["prepare"]`.

    Writes `corpus/`: `train.parquet`, `held-out.parquet`, and `corpus.json` (counts, examples of dropped passages with
    reasons, provenance).

    Args:
        settings: the source, and the passages to drop.
        seed: unused; the corpus has its own.
        inputs: `prepare`, if texts of its test and validation splits are dropped.
        output: an empty folder.
        fetch: downloads files from object storage one after the other.

    Raises:
        UserError: the source is not readable, or too few passages remain.
        FtjobsError: the hub or the store does not answer.
    """
    corpus, field = settings.corpus, f"stages.{settings.stage}.corpus"
    excluded = (
        _evaluation_texts(inputs["prepare"] / "data", corpus.shortest_test_text) if corpus.decontaminate else None
    )
    passages, writer = Passages(corpus, field, fetch), curation.CorpusWriter(corpus, excluded, field)
    writer.add(passages)
    record = writer.publish(output / "corpus", passages.provenance)
    LOG.info(
        "%d passages: %d empty, %d with a test text, %d exact and %d near duplicates; %d for training, %d held out",
        record["read"], record["empty"], record["contaminated"], record["exact_duplicates"],
        record["near_duplicates"], record["train"], record["held_out"],
    )  # fmt: skip
    for match in record["most_held"]:
        LOG.info("%d passages contain %r", match["passages"], match["text"])
    return {name: value for name, value in record.items() if name not in ("examples", "most_held", "provenance")}


def _evaluation_texts(folder: Path, min_words: int) -> EvaluationTexts:
    """Return the texts of all splits except the training split."""
    data = prepared.read(folder)
    columns = [column for name, rows in data.splits.items() if name != "train" for column in rows.columns]
    return EvaluationTexts(chain.from_iterable(columns), min_words)
