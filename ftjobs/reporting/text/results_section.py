"""Report sections on the strategies: results, learning curves, errors, calibration and example rows."""

from __future__ import annotations

from collections.abc import Sequence

from ftjobs.reporting.figures.matrices import MAX_PANELS
from ftjobs.reporting.findings.adaptations import AdaptationResult
from ftjobs.reporting.findings.collect import Findings
from ftjobs.reporting.findings.strategies import StrategyResult
from ftjobs.reporting.text.blocks import Block, Examples, Plot, Prose, Section, Table
from ftjobs.reporting.text.phrases import COST_HEADER, capitalized, code, cost_cells, listed, percent, quoted, spread


def results(findings: Findings) -> Section | None:
    """Return the table of strategies; None without strategies."""
    if not findings.results:
        return None
    measure = findings.measure
    shipped = [result.stage for result in findings.results].index(findings.to_ship.stage)
    has_published = any(result.published for result in findings.results)
    header = ["strategy", f"{measure.name}{measure.unit}", "95 % interval", *(column for _, column in measure.others)]
    header += ["best epoch", *(["published (epoch)"] if has_published else []), *COST_HEADER]
    rows = []
    for result in findings.results:
        cells = [
            code(result.stage),
            measure.spread(result.score.mean, result.score.sd),
            measure.interval(*result.score.interval),
            *(
                measure.other(result.other_metrics[name].mean, result.other_metrics[name].sd)
                for name, _ in measure.others
            ),
            ", ".join(map(str, result.best_epochs)),
        ]
        if has_published:
            known = result.published
            cells.append(f"{percent(known.accuracy)} ({known.best_epoch})" if known else "-")
        rows.append([*cells, *cost_cells(result.cost)])
    table = Table(header, rows, numeric=1, left=frozenset({len(header) - 1}), strong=shipped)
    notes = [_notes(findings), early_stopping_note(findings.results), parameters_note(findings.results)]
    notes += [_published_note(findings)] if has_published else []
    blocks: list[Block] = [Prose(_data(findings)), table, *(Prose(note) for note in notes if note)]
    caption = f"{capitalized(measure.name)} with 95 % intervals."
    if len(findings.seeds) > 1:
        caption = f"{capitalized(measure.name)}, mean over seeds, with 95 % intervals; small dots are single seeds."
    return Section("Results", [*blocks, Plot("results", f"Test {measure.name} of every strategy", caption)])


def _data(findings: Findings) -> str:
    data = findings.data
    rows = ", ".join(f"{number:,} {split}" for split, number in data.rows.items())
    seeds = f"seeds {', '.join(map(str, findings.seeds))}" if len(findings.seeds) > 1 else "one seed"
    return f"{rows} rows, {findings.task.describe_outputs(len(data.classes or []))}, {seeds}."


def _notes(findings: Findings) -> str:
    """Explain the columns of the table."""
    metrics = findings.task.metrics_note([quoted(name) for name in findings.data.classes or []])
    spread = ""
    if len(findings.seeds) > 1:
        spread = "Mean ± standard deviation over seeds; the interval is that of the mean. "
    measured = sorted({source for result in findings.results for source in result.cost.peak_memory_of})
    memory = f"; peak memory is that of the {' or the '.join(measured)}" if measured else ""
    return (
        f"Metrics are those of the test split; the best epoch was chosen on the {findings.results[0].selected_on} "
        f"split. {spread}{metrics} Cost is per seed: time includes loading and evaluation, examples/s counts training "
        f"steps only{memory}."
    )


def early_stopping_note(results: Sequence[StrategyResult | AdaptationResult]) -> str:
    """List the epochs after which early stopping ended the training of each seed."""
    stopped = [
        f"{code(result.stage)} after epoch {listed([str(epochs) for epochs in result.epochs_run])} of "
        f"{result.epochs_planned}"
        for result in results
        if result.epochs_run and result.epochs_planned and min(result.epochs_run) < result.epochs_planned
    ]
    return f"Early stopping ended training of {'; of '.join(stopped)}." if stopped else ""


def parameters_note(results: Sequence[StrategyResult | AdaptationResult]) -> str:
    """Give the trained parameters of stages that train part of the encoder, or low-rank adapters."""
    trained = [
        f"{code(result.stage)} {result.parameters['trained']:,} of {result.parameters['all']:,}"
        for result in results
        if result.parameters
    ]
    return f"Trained parameters: {listed(trained)}." if trained else ""


def _published_note(findings: Findings) -> str:
    text = (
        "**Published** results are those of the reference study, which this job repeats: bert-base-cased, one seed, "
        "best epoch chosen on its 214 test rows."
    )
    if findings.reference_encoder_differs is not None:
        encoder = code(findings.reference_encoder_differs)
        text += f" This job uses another encoder ({encoder}), so compare the order of the strategies, not their level."
    return text


def learning(findings: Findings) -> Section | None:
    """Return the plots of accuracy and training loss by epoch; None without strategies."""
    if not findings.results:
        return None
    measure = findings.measure
    loss = capitalized(findings.task.loss_name)
    band = "Lines are means over seeds, bands the range over seeds. " if len(findings.seeds) > 1 else ""
    selected_on = findings.results[0].selected_on
    accuracy = Plot(
        "accuracy",
        f"Test {measure.name} by epoch",
        f"{band}Markers are best epochs, chosen on the {selected_on} split.",
    )
    return Section(
        "Learning curves",
        [accuracy, Plot("training-loss", "Training loss by epoch", f"{band}{loss} per example.")],
    )


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
            f"Strategies disagree on {total}. The {shown} below have the {order}, taken in turn from every combination "
            "of predictions; they are the rows to review with a domain expert."
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
