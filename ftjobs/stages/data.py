"""`data`: fetch, check and split the data that stages have to themselves, as `prepare` does with the job's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ftjobs.data import preparation, prepared
from ftjobs.errors import UserError
from ftjobs.plan import DataStage


def run(settings: DataStage, seed: int, inputs: dict[str, Path], output: Path) -> dict[str, Any]:
    """Publish the data. It reads nothing, so it runs beside `prepare`; lengths in tokens are for encoders to say.

    Writes `data/` as `prepare` does.

    Raises:
        UserError: the data cannot be used; every problem of it at once.
        FtjobsError: the hub does not answer.
    """
    folder = output / "data"
    try:
        data, found = preparation.prepare_data(settings.data, folder)
    except UserError as error:  # which calls the fields those of the job's data
        raise UserError([f"stage `{settings.stage}`: {problem}" for problem in error.problems]) from error
    prepared.write_summary(data.classes, found, folder)
    preparation.log_summary(found)
    return {"rows": found["rows"], "labels": found["labels"], "overlap": found["overlap"]}
