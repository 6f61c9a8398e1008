"""Compose the report document from the findings."""

from __future__ import annotations

from ftjobs.reporting.findings.collect import Findings
from ftjobs.reporting.text import (
    adaptation_section,
    errors_section,
    hypotheses_section,
    opening,
    results_section,
    run_section,
)
from ftjobs.reporting.text.blocks import Document

_SECTIONS = (
    results_section.results,
    hypotheses_section.hypotheses,
    hypotheses_section.caveats,
    results_section.learning,
    adaptation_section.adaptation,
    adaptation_section.intermediate,
    errors_section.errors,
    errors_section.by_label,
    errors_section.examples,
)


def report_document(findings: Findings, job_file: str) -> Document:
    """Return the report; sections without content are left out.

    Args:
        findings: results of the analyses, without control characters
        job_file: the resolved job as YAML
    """
    sections = [section for make in _SECTIONS if (section := make(findings)) is not None]
    return Document(
        title=findings.pipeline,
        headline=opening.headline(findings),
        lead=opening.lead(findings),
        ship=opening.ship(findings),
        sections=[*sections, run_section.provenance(findings, job_file)],
    )
