"""The `report` stage: a self-contained folder with the results of a pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from ftjobs.artifacts import Manifest
from ftjobs.plan import Report
from ftjobs.reporting.figures import charts
from ftjobs.reporting.finding import map_strings, to_json
from ftjobs.reporting.findings.collect import collect_findings
from ftjobs.reporting.inputs.evidence import read_evidence, write_predictions
from ftjobs.reporting.text.phrases import without_control_characters
from ftjobs.reporting.text.renderers import render_html, render_markdown
from ftjobs.reporting.text.report_document import JOB_FILE, report_document


def run(
    settings: Report, seed: int, inputs: dict[str, Path], output: Path, published: dict[str, Manifest]
) -> dict[str, Any]:
    """Analyze the published outputs of all stages and write the report.

    Writes `report.html`, `report.md`, `report.json`, `predictions.parquet` (one row per test example, stage and seed),
    `plots/` (SVG and PNG) and `job.yaml` (the resolved job file).

    Args:
        settings: of the stage
        seed: unused; stages have the same signature
        inputs: folders by role: `prepare`, and `<stage>/seed-<n>` for every stage and seed
        output: empty folder
        published: manifests by role

    Returns:
        Metrics for the manifest.
    """
    evidence = read_evidence(settings, inputs)
    findings = collect_findings(evidence, published)
    job_file = yaml.safe_dump(settings.job, sort_keys=False, allow_unicode=True, width=120)
    printable = map_strings(findings, without_control_characters)
    document = report_document(printable, job_file)
    plots = {plot.name: charts.draw(plot, printable) for plot in document.plots}
    (output / "plots").mkdir()
    for name, plot in plots.items():
        (output / "plots" / f"{name}.svg").write_text(plot.svg, encoding="utf-8")
        (output / "plots" / f"{name}.png").write_bytes(plot.png)
    texts = {
        "report.json": json.dumps(to_json(findings), indent=1, ensure_ascii=False) + "\n",
        "report.md": render_markdown(document),
        "report.html": render_html(document, {name: plot.inline_svg for name, plot in plots.items()}),
        JOB_FILE: f"# The resolved job file of this report, with all defaults.\n{job_file}",
    }
    for name, text in texts.items():
        (output / name).write_text(text, encoding="utf-8")
    if evidence.strategies:
        write_predictions(evidence, output / "predictions.parquet")
    shipped = findings.to_ship
    return {
        "stages": {result.stage: to_json(result.score) for result in findings.results},
        "hypotheses": {result.hypothesis: result.verdict for result in findings.hypotheses},
        "to_ship": {"stage": shipped.stage, "seed": shipped.seed, "artifact": shipped.artifact},
    }
