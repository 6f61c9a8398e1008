"""The sections of the report: tables and plots of the findings, and the prose that says how to read them."""

from __future__ import annotations

from typing import Any

from ftjobs.reporting.text import (
    adaptation_section,
    errors_section,
    hypotheses_section,
    opening,
    results_section,
    run_section,
)
from ftjobs.reporting.text.blocks import Document


def document(content: dict[str, Any], job_file: str) -> Document:
    """The report in words, from its findings. `job_file`: the resolved job as YAML."""
    makers = (
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
    sections = [section for make in makers if (section := make(content)) is not None]
    return Document(
        title=content["pipeline"],
        headline=opening.headline(content),
        lead=opening.lead(content),
        ship=opening.ship(content),
        sections=[*sections, run_section.section(content, job_file)],
    )
