"""`data`: read, check and split the separate data of stages, as `prepare` does with the job's data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ftjobs.data import preparation, prepared
from ftjobs.errors import UserError
from ftjobs.plan import DataStage


def run(settings: DataStage, seed: int, inputs: dict[str, Path], output: Path) -> dict[str, Any]:
    """Publish the data. The stage has no inputs, so it runs in parallel with `prepare`.

    Writes `data/` like `prepare`, without lengths in tokens, which depend on the encoder.

    Raises:
        UserError: the data is not usable; the message lists all problems.
        FtjobsError: the hub does not answer.
    """
    folder = output / "data"
    try:
        data, summary = preparation.prepare_data(settings.data, folder)
    except UserError as error:  # its field names are those of the job's data
        raise UserError([f"stage `{settings.stage}`: {problem}" for problem in error.problems]) from error
    prepared.write_summary(data.classes, summary, folder)
    preparation.log_summary(summary)
    return {"rows": summary["rows"], "labels": summary["labels"], "overlap": summary["overlap"]}
