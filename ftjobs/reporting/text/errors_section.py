"""Report sections on errors: confusion, calibration, scores per label, and example rows."""

from __future__ import annotations

from ftjobs.reporting.figures.matrices import MAX_PANELS
from ftjobs.reporting.findings.collect import Findings
from ftjobs.reporting.text.blocks import Examples, Plot, Prose, Section, Table
from ftjobs.reporting.text.phrases import code, quoted, spread

#: Labels in the table; `report.json` has all.
_MAX_LABELS = 30


def errors(findings: Findings) -> Section | None:
    """Return confusion matrices and calibration; None unless each row has exactly one class."""
    if not findings.confusion:
        return None
    caption = "Rows are true classes, columns predicted ones; cells are the share of the row, and test rows per seed."
    if len(findings.confusion) > MAX_PANELS:
        caption += f" The {MAX_PANELS} most accurate strategies; `report.json` has all."
    rows = [[code(result.stage), spread(result.ece.mean, result.ece.sd)] for result in findings.calibration]
    calibration = (
        "A classifier is calibrated if its confidence equals its accuracy. The expected calibration error is the mean "
        "distance between the two, over 15 bins of confidence (Guo et al. 2017)."
    )
    return Section(
        "Errors and calibration",
        [
            Plot("confusion", "Confusion matrices", caption),
            Prose(calibration),
            Table(["strategy", "expected calibration error, %"], rows, numeric=1),
            Plot("calibration", "Accuracy by confidence", "Dot size is the number of test rows."),
        ],
    )


def by_label(findings: Findings) -> Section | None:
    """Return the F1 of every label of a multi-label task; None for other tasks."""
    labels = findings.labels
    if not labels or not findings.results:
        return None
    names = [result.stage for result in findings.results]
    rows = [
        [
            quoted(result.label),
            f"{result.rows['train']:,}",
            f"{result.rows['test']:,}",
            *(spread(result.strategies[name].f1.mean, result.strategies[name].f1.sd) for name in names),
        ]
        for result in labels[:_MAX_LABELS]
    ]
    text = "F1 per label in per cent, and rows with the label in training and test, most frequent first. "
    text += f"The first {_MAX_LABELS}; all labels" if len(labels) > _MAX_LABELS else "Precision and recall"
    text += " are in `report.json`."
    header = ["label", "in training", "in test", *map(code, names)]
    return Section("Labels", [Prose(text), Table(header, rows, numeric=1)])


def examples(findings: Findings) -> Section | None:
    """Return rows on which strategies disagree, or errors of a single strategy; None without such rows."""
    entries = findings.disagreements.examples
    if not entries:
        return None
    is_error = findings.disagreements.kind == "errors"
    if findings.measure.graded:
        title = "Largest errors" if is_error else "Largest disagreements"
        text = _numbers_text(len(entries), is_error)
    else:
        title = "Most confident errors" if is_error else "Largest disagreements"
        text = _classes_text(findings, is_error)
    return Section(title, [Prose(text), Examples(entries, findings.data.text_columns)])


def _classes_text(findings: Findings, is_error: bool) -> str:
    rows, shown = findings.disagreements.rows, len(findings.disagreements.examples)
    several_labels = findings.task.label_sets
    total = f"{rows:,} of {findings.data.rows['test']:,} test rows"
    if is_error:
        order = "most wrong labels" if several_labels else "highest confidence"
        text = f"Every seed is wrong on {total}; these {shown} have the {order}."
    else:
        order = "most differing labels" if several_labels else "most different probabilities"
        text = (
            f"Strategies disagree on {total}. The {shown} below, for review by a domain expert, have the {order}, "
            "taken in turn from every way in which the strategies split."
        )
    figure = "share of labels predicted right" if several_labels else "mean probability of the true class"
    return f"{text} In brackets: {figure}, over seeds."


def _numbers_text(shown: int, is_error: bool) -> str:
    if is_error:
        return f"The {shown} test rows with the largest error, averaged over seeds. In brackets: mean absolute error."
    return (
        f"The {shown} test rows with the most different mean predictions, for review by a domain expert. In brackets: "
        "mean absolute error over seeds."
    )
