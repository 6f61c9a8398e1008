"""What an adapt stage does with its settings: each masking and objective trains, resumes and publishes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftjobs.jobfile.fields import Adapt
from ftjobs.jobfile.read import read
from ftjobs.models import checkpoints
from ftjobs.plan import plan
from ftjobs.stages import adapt, prepare
from ftjobs.training.session import Session
from tests.stages.test_pipeline import job_fields, write_rows
from tests.training.test_resume import FolderKeeper, Killed

#: Whole optimizer steps of 60 texts at a time, twice through.
SHORT = {"epochs": 2, "learning_rate": 1e-3, "per_device_batch_size": 16, "mixed_precision": "no"}


@pytest.fixture(scope="module")
def prepared_with(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """`prepared_with(encoder)`: the folder that `prepare` publishes for 90 rows of two texts."""
    made: dict[Path, Path] = {}

    def make(encoder: Path) -> Path:
        if encoder not in made:
            folder = tmp_path_factory.mktemp("prepared")
            write_rows(folder / "rows.csv")
            (folder / "job.yaml").write_text(json.dumps(job_fields(encoder)))
            run = plan(read(folder / "job.yaml"))[0]
            (folder / "out").mkdir()
            prepare.run(run.settings, 0, {}, folder / "out")
            made[encoder] = folder / "out"
        return made[encoder]

    return make


def run_adapt(folder: Path, output: Path, keeper: Any = None, **fields: Any) -> dict[str, Any]:
    output.mkdir()
    settings = Adapt(**{**SHORT, **fields})
    return adapt.run(settings, 1, {"prepare": folder, "encoder": folder}, output, Session(keeper))


@pytest.mark.parametrize("masking", ["whole-word", "span"])
def test_words_and_spans_are_learned_and_killed_and_resumed_end_in_the_same_bytes(
    prepared_with: Any, make_encoder: Callable[..., Path], tmp_path: Path, masking: str
) -> None:
    folder = prepared_with(make_encoder("bert", "mlm"))
    whole = run_adapt(folder, tmp_path / "whole", masking=masking)
    assert whole["best"]["loss"] < whole["before"]["loss"]
    (tmp_path / "state").mkdir()
    with pytest.raises(Killed):
        run_adapt(folder, tmp_path / "killed", FolderKeeper(tmp_path / "state", 1, 11), masking=masking)
    assert run_adapt(folder, tmp_path / "again", FolderKeeper(tmp_path / "state", 100), masking=masking) == whole
    for name in (checkpoints.WEIGHTS, "../metrics.json", "../metrics.jsonl"):
        assert (tmp_path / "again/model" / name).read_bytes() == (tmp_path / "whole/model" / name).read_bytes()
