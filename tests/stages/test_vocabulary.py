"""Added words: later stages tokenize with them, and resumed stages give the same bytes."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from ftjobs.execution import runner
from ftjobs.execution.checkpointing import StorageCheckpointer
from ftjobs.jobfile.read import read
from ftjobs.plan import plan, select
from ftjobs.storage import open_storage
from tests.helpers.families import FAMILIES
from tests.helpers.pipelines import files_of, job_fields, run_job, write_rows

DRUGS = ("paracetamol", "ibuprofen", "naproxen")


def job_with_words(folder: Path, encoder: Path, vocabulary: dict[str, Any]) -> dict[str, Any]:
    """A job on texts with drug names, two of which its first stage adds to the tokenizer."""
    write_rows(folder / "rows.csv", 42)
    lines = (folder / "rows.csv").read_text().splitlines()
    named = [line.replace(",", f" {DRUGS[min(row % 6, 2)]}.,", 1) for row, line in enumerate(lines[1:])]
    (folder / "rows.csv").write_text("\n".join([lines[0], *named]) + "\n")
    short = {"epochs": 2, "learning_rate": 1e-3, "mixed_precision": "no"}
    fields = job_fields(encoder, hypotheses=[], defaults={"classify": short, "adapt": short})
    fields["stages"] = {
        "plain": {"kind": "adapt"},
        "worded": {"kind": "adapt", "vocabulary": vocabulary},
        "further": {"kind": "adapt", "encoder": "worded", "masking": "whole-word"},
        "tuned": {"kind": "classify", "encoder": "further"},
    }
    return fields


OTHERS = [pytest.param(family, marks=pytest.mark.slow) for family in FAMILIES if family != "roberta"]


@pytest.mark.parametrize("family", ["roberta", *OTHERS])
def test_later_stages_and_transformers_use_the_added_words(
    make_encoder: Callable[..., Path], family: str, tmp_path: Path
) -> None:
    fields = job_with_words(tmp_path, make_encoder(family, "mlm", initializer_range=0.2), {"add": 2})
    storage, manifests = run_job(tmp_path, fields, tmp_path / "store")
    folders = {title.split()[0]: storage.root / manifest.folder for title, manifest in manifests.items()}
    added = [entry["word"] for entry in json.loads((folders["worded"] / "vocabulary.json").read_text())]
    old = len(AutoTokenizer.from_pretrained(folders["prepare"] / "model"))
    vocabulary = manifests["worded seed 1"].metrics["vocabulary"]
    assert len(added) == vocabulary["words"] == 2
    assert "naproxen" in added  # in four of six texts
    assert vocabulary["pieces_per_word"][1] < vocabulary["pieces_per_word"][0]
    for stage in ("worded", "further", "tuned"):
        tokenizer = AutoTokenizer.from_pretrained(folders[stage] / "model")
        config = json.loads((folders[stage] / "model/config.json").read_text())
        assert config["vocab_size"] == len(tokenizer) == vocabulary["tokens"][1] > old
        assert sum(token >= old for token in tokenizer("my naproxen, a naproxen").input_ids) == 2
    assert manifests["further seed 1"].metrics["tokens"] == manifests["worded seed 1"].metrics["tokens"]
    assert manifests["worded seed 1"].metrics["tokens"] < manifests["plain seed 1"].metrics["tokens"]
    assert not (folders["plain"] / "vocabulary.json").exists()
    assert "vocabulary" not in manifests["plain seed 1"].metrics

    model = AutoModelForSequenceClassification.from_pretrained(folders["tuned"] / "model").eval()
    stored = pq.read_table(folders["tuned"] / "predictions.parquet")["probabilities"].to_pylist()
    test = pq.read_table(folders["prepare"] / "data/test.parquet").to_pydict()
    for row, pair in enumerate(zip(test["text"], test["text_pair"], strict=True)):
        with torch.no_grad():
            expected = model(**tokenizer(*pair, truncation=True, return_tensors="pt")).logits[0].softmax(-1)
        np.testing.assert_allclose(stored[row], expected, rtol=1e-3, atol=1e-4)

    report = json.loads((folders["report"] / "report.json").read_text())
    bits = {row["stage"]: row["bits_per_character"] for row in report["adaptation"]}
    assert bits["worded"]["after"] == pytest.approx(vocabulary["bits_per_character"][1])
    for stage, pieces in (
        ("plain", vocabulary["held_out"]["pieces"][0]),
        ("further", vocabulary["held_out"]["pieces"][1]),
    ):
        loss = manifests[f"{stage} seed 1"].metrics["best"]["loss"]
        expected = loss / np.log(2) * pieces / vocabulary["held_out"]["characters"]
        assert bits[stage]["after"] == pytest.approx(expected)
    text = (folders["report"] / "report.md").read_text()
    assert "`worded` 2 words" in text
    assert "bits per character" in text
    assert "Added 2 words" in (folders["worded"] / "model/README.md").read_text()


def test_resuming_adds_the_same_words_and_gives_the_same_bytes(
    make_encoder: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Killed(BaseException):
        pass

    fields = job_with_words(tmp_path, make_encoder("roberta", "mlm"), {"add": list(DRUGS), "init": "random"})
    fields["defaults"]["adapt"]["save_every"] = 1
    (tmp_path / "job.yaml").write_text(json.dumps(fields))
    runs = plan(read(tmp_path / "job.yaml"))
    run, store = select(runs, "worded"), StorageCheckpointer._store_state

    def dies_at_step_7(self: StorageCheckpointer, write: Callable, step: int, total: int) -> None:
        store(self, write, step, total)
        if step == 7:
            raise Killed

    uninterrupted, killed = (open_storage(str(tmp_path / name)) for name in ("whole", "killed"))
    for storage in (uninterrupted, killed):
        runner.run_stage(runs[0], storage)
    expected = files_of(uninterrupted, runner.run_stage(run, uninterrupted))
    with monkeypatch.context() as broken, pytest.raises(Killed):
        broken.setattr(StorageCheckpointer, "_store_state", dies_at_step_7)
        runner.run_stage(run, killed)
    logging.getLogger("ftjobs").propagate = True
    with caplog.at_level(logging.INFO, logger="ftjobs"):
        resumed = files_of(killed, runner.run_stage(run, killed))
    assert "after step 7 of" in caplog.text
    assert {name for name in expected if resumed[name] != expected[name]} == {"timing.json"}
