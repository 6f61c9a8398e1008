"""The sections of the report: tables and plots of the findings, and the prose that says how to read them."""

from __future__ import annotations

from typing import Any

from ftjobs.reporting import opening
from ftjobs.reporting.document import Document
from ftjobs.reporting.sections import figures, labels, reasons, run, tasks


def document(content: dict[str, Any], job_file: str) -> Document:
    """The report in words, from its findings. `job_file`: the resolved job as YAML."""
    makers = (
        figures.results,
        reasons.hypotheses,
        reasons.caveats,
        figures.learning,
        figures.adaptation,
        tasks.intermediate,
        figures.errors,
        labels.by_label,
        reasons.examples,
    )
    sections = [section for make in makers if (section := make(content)) is not None]
    return Document(
        title=content["pipeline"],
        headline=opening.headline(content),
        lead=opening.lead(content),
        ship=opening.ship(content),
        sections=[*sections, run.section(content, job_file)],
    )
