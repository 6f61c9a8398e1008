"""Every setting with every family: unsupported combinations raise, all others publish complete models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForMaskedLM

from ftjobs.errors import UserError
from ftjobs.execution import runner
from ftjobs.jobfile.read import read
from ftjobs.models import checkpoints
from ftjobs.plan import plan
from ftjobs.storage import open_storage
from tests.helpers.classifiers import check_predictions
from tests.helpers.families import FAMILIES, WORDS
from tests.helpers.pipelines import job_fields, write_rows

PASSAGES = {"source": "passages.txt", "decontaminate": False}
STAGES: dict[str, dict[str, Any]] = {
    "whole-word": {"kind": "adapt", "masking": "whole-word"},
    "span": {"kind": "adapt", "masking": "span"},
    "packed": {"kind": "adapt", "corpus": {**PASSAGES, "unit": "packed"}},
    "isolated": {"kind": "adapt", "corpus": {**PASSAGES, "unit": "packed", "isolate": True}},
    "adapters": {"kind": "adapt", "lora": {"rank": 2}},
    "nsp": {"kind": "adapt", "objective": "mlm+nsp", "corpus": PASSAGES},
    "sop": {"kind": "adapt", "objective": "mlm+sop", "corpus": PASSAGES},
    "replaced": {"kind": "adapt", "objective": "replaced-token"},
    "gradual": {"kind": "classify", "unfreeze": "gradual"},
    "highest": {"kind": "classify", "unfreeze": "last-1", "layer_decay": 0.9, "reinitialise_layers": 1},
    "low-rank": {"kind": "classify", "lora": {"rank": 2}},
    "adapted": {"kind": "classify", "encoder": "adapters", "freeze_encoder": True},
}
SERVED_BY = {"nsp": {"bert"}, "sop": {"albert"}, "replaced": {"electra"}}
REASONS = {
    "nsp": "needs an encoder with a next-sentence head",
    "sop": "needs ALBERT",
    "replaced": "needs an ELECTRA encoder",
    "gradual": "share 1 set of weights",
    "highest": "share 1 set of weights",
}


def refused(family: str) -> set[str]:
    """Return the stages that a family does not support."""
    shared = {"gradual", "highest"} if family == "albert" else set()
    return shared | {stage for stage, families in SERVED_BY.items() if family not in families}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_family_supports_or_refuses_every_setting(
    make_encoder: Callable[..., Path], family: str, tmp_path: Path
) -> None:
    encoder = make_encoder(family, "mlm", initializer_range=0.2)
    write_rows(tmp_path / "rows.csv", 40)
    sentences = [
        [
            f"{WORDS[(row + k) % 40].title()} {WORDS[3 * row % 40]} {WORDS[(5 * row + k) % 40]} can help."
            for k in range(5)
        ]
        for row in range(40)
    ]
    (tmp_path / "passages.txt").write_text("\n".join(map(" ".join, sentences)))
    short = {"epochs": 1, "learning_rate": 1e-3, "mixed_precision": "no"}
    fields = job_fields(encoder, hypotheses=[], defaults={"classify": short, "adapt": short}, stages=STAGES)
    (tmp_path / "job.yaml").write_text(json.dumps(fields))
    storage, folders = open_storage(str(tmp_path / "store")), {}
    for run in plan(read(tmp_path / "job.yaml")):
        if run.stage in refused(family):
            with pytest.raises(UserError, match=REASONS[run.stage]):
                runner.run_stage(run, storage)
        elif run.kind != "report":
            folders[run.stage] = tmp_path / "store" / runner.run_stage(run, storage).folder
    assert STAGES.keys() - folders.keys() == refused(family)

    before = checkpoints.read_weights(encoder)
    for stage, folder in folders.items():
        if STAGES.get(stage, {}).get("kind") == "classify":
            check_predictions(folders, stage)
        elif stage in STAGES and stage != "replaced":
            model, loading = AutoModelForMaskedLM.from_pretrained(folder / "model", output_loading_info=True)
            assert not loading["missing_keys"]
            assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
            tied = set(model.all_tied_weights_keys)
            assert before.keys() - checkpoints.read_weights(folder / "model").keys() <= tied
