"""All findings as plain data: what `report.json` holds, and all that words, tables and plots are made of."""

from __future__ import annotations

from typing import Any

from ftjobs.artifacts import Manifest
from ftjobs.reporting import answer, disagreements, hypotheses, labels, provenance, quality, reference, results
from ftjobs.reporting.caveats import caveats
from ftjobs.reporting.evidence import Evidence
from ftjobs.reporting.intermediate import intermediate

#: Raised when a field of `report.json` changes its meaning or goes.
VERSION = 2


def content(evidence: Evidence, published: dict[str, Manifest]) -> dict[str, Any]:
    """The findings. Shares and accuracies are fractions, times seconds, intervals 95 %.

    Args:
        evidence: what the stages published.
        published: role -> manifest, of `prepare` and of every `<stage>/seed-<n>`.
    """
    tested = hypotheses.tested(evidence)
    rows = results.results(evidence)
    return {
        "version": VERSION,
        "pipeline": evidence.report.pipeline,
        "seeds": evidence.seeds,
        "does_adapting_pay": answer.does_adapting_pay(evidence, tested),
        "to_ship": answer.to_ship(evidence, published),
        "results": rows,
        "reference_encoder_differs": reference.encoder_differs(evidence) if any(r["published"] for r in rows) else None,
        "adaptation": results.adaptation(evidence),
        **({"intermediate": intermediate(evidence)} if evidence.intermediate else {}),
        "hypotheses": tested,
        "caveats": caveats(evidence),
        "confusion": quality.confusion(evidence),
        "calibration": quality.calibration(evidence),
        **({"labels": labels.by_label(evidence)} if evidence.label_type == "multi" else {}),
        "disagreements": disagreements.disagreements(evidence),
        "data": {
            key: evidence.summary[key]
            for key in ("classes", "rows", "labels", "overlap", "text_columns", "tokens", "label_type")
            if key in evidence.summary
        },
        "what_was_run": provenance.what_was_run(evidence, published),
    }
