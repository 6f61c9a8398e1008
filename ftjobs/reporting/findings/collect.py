"""All findings as plain data: what `report.json` holds, and all that words, tables and plots are made of."""

from __future__ import annotations

from typing import Any

from ftjobs.artifacts import Manifest
from ftjobs.reporting.findings import (
    adaptations,
    classifiers,
    disagreements,
    error_analysis,
    hypotheses,
    recommendation,
)
from ftjobs.reporting.findings.caveats import caveats
from ftjobs.reporting.inputs import provenance, reference_study
from ftjobs.reporting.inputs.evidence import Evidence

#: Raised when a field of `report.json` changes its meaning or goes.
VERSION = 2


def content(evidence: Evidence, published: dict[str, Manifest]) -> dict[str, Any]:
    """The findings. Shares and accuracies are fractions, times seconds, intervals 95 %.

    Args:
        evidence: what the stages published.
        published: role -> manifest, of `prepare` and of every `<stage>/seed-<n>`.
    """
    tested = hypotheses.tested(evidence)
    rows = classifiers.results(evidence)
    return {
        "version": VERSION,
        "pipeline": evidence.report.pipeline,
        "seeds": evidence.seeds,
        "does_adapting_pay": recommendation.does_adapting_pay(evidence, tested),
        "to_ship": recommendation.to_ship(evidence, published),
        "results": rows,
        "reference_encoder_differs": reference_study.encoder_differs(evidence)
        if any(r["published"] for r in rows)
        else None,
        "adaptation": adaptations.adaptation(evidence),
        **({"intermediate": classifiers.intermediate(evidence)} if evidence.intermediate else {}),
        "hypotheses": tested,
        "caveats": caveats(evidence),
        "confusion": error_analysis.confusion(evidence),
        "calibration": error_analysis.calibration(evidence),
        **({"labels": error_analysis.by_label(evidence)} if evidence.task.label_sets else {}),
        "disagreements": disagreements.disagreements(evidence),
        "data": {
            key: evidence.summary[key]
            for key in ("classes", "rows", "labels", "overlap", "text_columns", "tokens", "label_type")
            if key in evidence.summary
        },
        "what_was_run": provenance.what_was_run(evidence, published),
    }
