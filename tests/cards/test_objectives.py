"""Cards, status and plan of encoders adapted by objectives of their families."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from ftjobs import artifacts
from ftjobs.execution.status import estimate_work, summarize
from ftjobs.jobfile.read import read
from ftjobs.plan import plan, select
from tests.helpers.cards import fenced_block
from tests.helpers.documents import documents_of
from tests.helpers.pipelines import CLASSES, job_fields, run_job


@pytest.mark.parametrize(
    ("objective", "family", "heads", "figure", "task"),
    [
        ("mlm+nsp", "bert", "masked-LM head and its next-sentence head", "nsp_accuracy", "fill-mask"),
        ("replaced-token", "electra", "replaced-token head", "replaced_f1", None),
    ],
)
def test_card_status_and_plan_of_an_objective(
    make_encoder: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    objective: str,
    family: str,
    heads: str,
    figure: str,
    task: str | None,
) -> None:
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        rows = [[text, text, CLASSES[row % 3]] for row, text in enumerate(documents_of(60))]
        csv.writer(file).writerows([["question", "answer", "topic"], *rows])
    fields = job_fields(make_encoder(family, "pretraining"), hypotheses=[])
    fields["stages"] = {"adapt": {"kind": "adapt", "objective": objective, "epochs": 1}}
    storage, manifests = run_job(tmp_path, fields, tmp_path / "store")
    manifest = manifests["adapt seed 1"]
    value = manifest.metrics["best"][figure]
    summary = summarize(manifest)
    assert summary.startswith("perplexity ")
    assert summary.endswith(f"{figure.replace('_', ' ')} {manifest.metrics['before'][figure]:.4f} -> {value:.4f}")
    run = select(plan(read(tmp_path / "job.yaml")), "adapt")
    assert estimate_work(run, manifests["prepare"]) == ("1 epoch on 96 texts" if task else "12 steps on 96 texts")

    artifacts.pull(storage, manifest, tmp_path / "model")
    card = (tmp_path / "model/README.md").read_text()
    data = ModelCard.load(tmp_path / "model/README.md").data
    assert data.pipeline_tag == task
    assert round(value, 6) in [result.metric_value for result in data.eval_results]
    assert f"An encoder with its {heads}, from" in card
    assert f"| {100 * manifest.metrics['before'][figure]:.2f} % | {100 * value:.2f} % |" in card
    assert "the whole objective" in card
    monkeypatch.chdir(tmp_path / "model")
    with redirect_stdout(io.StringIO()) as printed:
        exec(compile(fenced_block(card, "python"), "README.md", "exec"), {})
    assert ("token_str" if task else "tensor([[") in printed.getvalue()
    report = artifacts.read_text(storage, manifests["report"], "report.md")
    assert "of the objective, %" in report
