"""`report`: compare the strategies of a job, as one self-contained folder."""

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
    """Write the report on all stages.

    Writes `report.html`, `report.md`, `report.json`, `predictions.parquet` (one row per test example, stage and seed),
    `plots/` (each as SVG and PNG) and `job.yaml` (the resolved job).

    Args:
        settings: the job.
        seed: unused.
        inputs: `prepare`, and `<stage>/seed-<n>` for every stage and seed.
        output: an empty folder.
        published: manifests of the inputs.
    """
    results = evidence.read(settings, inputs)
    findings = content(results, published)
    job_file = yaml.safe_dump(settings.job, sort_keys=False, allow_unicode=True, width=120)
    visible_findings = visible(findings)
    report = document(visible_findings, job_file)
    plots = {
        block.name: charts.draw(block, visible_findings)
        for section in report.sections
        for block in section.blocks
        if isinstance(block, Plot)
    }
    (output / "plots").mkdir()
    for name, plot in plots.items():
        (output / "plots" / f"{name}.svg").write_text(plot.svg, encoding="utf-8")
        (output / "plots" / f"{name}.png").write_bytes(plot.png)
    texts = {
        "report.json": json.dumps(findings, indent=1, ensure_ascii=False) + "\n",
        "report.md": markdown_report.render(report),
        "report.html": html_report.render(report, {name: plot.page for name, plot in plots.items()}),
        JOB_FILE: f"# The job of this report, with every default filled in.\n{job_file}",
    }
    for name, text in texts.items():
        (output / name).write_text(text, encoding="utf-8")
    if results.strategies:
        predictions_table.write_predictions(results, output / "predictions.parquet")
    return {
        "stages": {row["stage"]: row[results.measure.key] for row in findings["results"]},
        "hypotheses": {test["hypothesis"]: test["verdict"] for test in findings["hypotheses"]},
        "to_ship": {key: findings["to_ship"][key] for key in ("stage", "seed", "artifact")},
    }
