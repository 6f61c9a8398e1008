"""`report`: the answer, and the evidence for it, as one folder that can be mailed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from ftjobs.artifacts import Manifest
from ftjobs.plan import Report
from ftjobs.reporting.figures import charts
from ftjobs.reporting.findings.collect import content
from ftjobs.reporting.inputs import evidence, predictions_table
from ftjobs.reporting.text import html_report, markdown_report
from ftjobs.reporting.text.blocks import Plot
from ftjobs.reporting.text.phrases import visible
from ftjobs.reporting.text.report_document import document
from ftjobs.reporting.text.run_section import JOB_FILE


def run(
    settings: Report, seed: int, inputs: dict[str, Path], output: Path, published: dict[str, Manifest]
) -> dict[str, Any]:
    """Put together what all stages found.

    Writes `report.html`, `report.md`, `report.json`, `predictions.parquet` (one row per test example, stage and seed),
    `plots/` (each as SVG and PNG) and `job.yaml` (the job as resolved). `inputs` are `prepare` and `<stage>/seed-<n>`
    for every stage and seed, and `published` the manifests of the same.
    """
    found = evidence.read(settings, inputs)
    findings = content(found, published)
    job_file = yaml.safe_dump(settings.job, sort_keys=False, allow_unicode=True, width=120)
    shown = visible(findings)
    words = document(shown, job_file)
    drawn = {
        block.name: charts.draw(block, shown)
        for section in words.sections
        for block in section.blocks
        if isinstance(block, Plot)
    }
    (output / "plots").mkdir()
    for name, plot in drawn.items():
        (output / "plots" / f"{name}.svg").write_text(plot.svg, encoding="utf-8")
        (output / "plots" / f"{name}.png").write_bytes(plot.png)
    texts = {
        "report.json": json.dumps(findings, indent=1, ensure_ascii=False) + "\n",
        "report.md": markdown_report.render(words),
        "report.html": html_report.render(words, {name: plot.page for name, plot in drawn.items()}),
        JOB_FILE: f"# The job of this report, with every default filled in.\n{job_file}",
    }
    for name, text in texts.items():
        (output / name).write_text(text, encoding="utf-8")
    if found.strategies:
        predictions_table.write_predictions(found, output / "predictions.parquet")
    return {
        "stages": {row["stage"]: row[found.measure.key] for row in findings["results"]},
        "hypotheses": {one["hypothesis"]: one["verdict"] for one in findings["hypotheses"]},
        "to_ship": {key: findings["to_ship"][key] for key in ("stage", "seed", "artifact")},
    }
