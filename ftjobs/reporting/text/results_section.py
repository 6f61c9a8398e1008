"""Report sections on results and learning curves."""

from __future__ import annotations

from collections.abc import Sequence

from ftjobs.reporting.findings.adaptations import AdaptationResult
from ftjobs.reporting.findings.collect import Findings
from ftjobs.reporting.findings.strategies import StrategyResult
from ftjobs.reporting.text.blocks import Block, Plot, Prose, Section, Table
from ftjobs.reporting.text.phrases import COST_HEADER, capitalized, code, cost_cells, listed, percent, quoted


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
        f"Test split; best epoch chosen on {findings.results[0].selected_on}. {spread}{metrics} Cost is per seed: time "
        f"includes loading and evaluation, examples/s counts training steps only{memory}."
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
    band = "Mean over seeds; bands span the seeds. " if len(findings.seeds) > 1 else ""
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
