"""`corpus`: fetch the passages of a corpus once, drop repetitions and test texts, hold some out, publish the rest."""

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

    Writes `corpus/`: `train.parquet`, `held-out.parquet`, and `corpus.json` (counts, examples of what was dropped and
    why, where it came from).

    Args:
        settings: what to read and to drop.
        seed: of no stage; the corpus has its own.
        inputs: `prepare`, if its texts are to be dropped.
        output: an empty folder.
        fetch: how to get files from object storage one after the other.

    Raises:
        UserError: the source cannot be read, or too little of it is left.
        FtjobsError: the hub or the store does not answer.
    """
    corpus, field = settings.corpus, f"stages.{settings.stage}.corpus"
    held = _held_texts(inputs["prepare"] / "data", corpus.shortest_test_text) if corpus.decontaminate else None
    passages, kept = Passages(corpus, field, fetch), curation.CorpusWriter(corpus, held, field)
    kept.add(passages)
    record = kept.publish(output / "corpus", passages.provenance)
    LOG.info(
        "%d passages: %d empty, %d hold a test text, %d repeat others exactly, %d nearly; %d to train on, %d held out",
        record["read"], record["empty"], record["contaminated"], record["exact_duplicates"],
        record["near_duplicates"], record["train"], record["held_out"],
    )  # fmt: skip
    for one in record["most_held"]:
        LOG.info("%d passages hold %r", one["passages"], one["text"])
    return {name: value for name, value in record.items() if name not in ("examples", "most_held", "provenance")}


def _held_texts(folder: Path, shortest: int) -> EvaluationTexts:
    """The texts of every split but the training split."""
    data = prepared.read(folder)
    columns = [column for name, rows in data.splits.items() if name != "train" for column in rows.columns]
    return EvaluationTexts(chain.from_iterable(columns), shortest)
