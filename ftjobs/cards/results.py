"""The section on results of a model card."""

from __future__ import annotations

from typing import Any

from ftjobs.cards.context import CardContext
from ftjobs.cards.markdown import code, table
from ftjobs.jobfile.fields import Classify
from ftjobs.objectives import all_figures
from ftjobs.tasks.base import Metric
from ftjobs.tasks.measures import Measure, percent


def results(context: CardContext) -> str:
    """Return the metrics of a trained model, and how the published epoch was selected."""
    return _classifier(context) if isinstance(context.run.settings, Classify) else _encoder(context)


def _classifier(context: CardContext) -> str:
    settings, metrics, task = context.run.settings, context.metrics, context.task
    assert isinstance(settings, Classify)
    split, interval = metrics["selected_on"], context.evaluation.interval
    low, high = (task.measure.with_unit(bound) for bound in (interval.low, interval.high))
    rows = [
        [
            metric.title or metric.name,
            format_metric(metric, task.measure, metrics[metric.key]),
            f"{low} to {high}" if metric.key == task.measure.key else "",
            format_metric(metric, task.measure, metrics["last"][metric.key]),
        ]
        for metric in task.card_metrics([code(name) for name in context.names])
    ]
    header = [f"on {context.data['rows']['test']:,} test rows", "best epoch", "95 % interval", "last epoch"]
    selection = task.metric(settings.metric_for_best)
    best = f"{'lowest' if selection.minimize else 'highest'} {selection.name}"
    return (
        f"{table(header, rows)}\n\nThe published weights are those of epoch {metrics['best_epoch']} of "
        f"{context.epochs}, the first with the {best} on the {split} split ({context.data['rows'][split]:,} rows). The "
        f"interval is {task.interval_method}. It covers the choice of test rows, and not the variation between seeds."
    )


def format_metric(metric: Metric, measure: Measure, value: float) -> str:
    """Return the value of a metric with its unit."""
    if metric.key == measure.key:
        return measure.with_unit(value)
    return f"{percent(value)} %" if metric.is_share else f"{value:.4f}"


def _encoder(context: CardContext) -> str:
    records = [context.metrics[name] for name in ("before", "best", "last")]
    rows = [
        ["perplexity", *(f"{record['perplexity']:.2f}" for record in records)],
        ["masked tokens predicted correctly", *(f"{percent(record['accuracy'])} %" for record in records)],
    ]
    for key, name in all_figures().items():
        if key in records[0]:
            rows.append([name, *(f"{percent(record[key])} %" for record in records)])
    if all("task_perplexity" in record for record in records):
        rows.append(["perplexity on the task's texts", *(f"{record['task_perplexity']:.2f}" for record in records)])
    measured_on = f"on the texts of the {context.metrics['evaluated_on']} split"
    if context.corpus is not None:
        measured_on = "on held-out passages of its corpus"
    note = context.objective.metrics_note if context.objective else ""
    note = f" For this model, {note}." if note else ""
    loss = "loss of the whole objective" if "objective_loss" in records[0] else "loss"
    return (
        f"{table([measured_on, 'before', 'after (best epoch)', 'last epoch'], rows)}\n\nPerplexity of masked "
        f"tokens, with the same masks before and after.{note} The published weights are those of epoch "
        f"{context.metrics['best_epoch']} of {context.epochs}, the first with the lowest {loss}."
        f"{_new_words(context.metrics.get('vocabulary'))}"
    )


def _new_words(added: dict[str, Any] | None) -> str:
    """Return a paragraph on words that were added to the tokenizer, if there are any."""
    if added is None:
        return ""
    (old, new), (before, best) = added["pieces_per_word"], added["bits_per_character"]
    return (
        f"\n\nAdded {added['words']:,} words of the domain to the tokenizer, which now has {added['tokens'][1]:,} "
        f"tokens: words of these texts have {new:.3f} tokens on average, {old:.3f} before. Perplexity is per token and "
        "not comparable between vocabularies. Bits per character are: "
        f"{before:.3f} before training, with the new words, and {best:.3f} after."
    )
