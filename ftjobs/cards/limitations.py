"""The section on limitations of a model card."""

from __future__ import annotations

from collections.abc import Iterator

from ftjobs.cards.context import CardContext
from ftjobs.cards.markdown import code
from ftjobs.tasks.measures import percent


def limitations(context: CardContext) -> list[str]:
    """Return limitations that follow from data, training and evaluation, as Markdown sentences."""
    return list(_classifier(context) if context.run.kind == "classify" else _encoder(context))


def _classifier(context: CardContext) -> Iterator[str]:
    metrics, data, measure = context.metrics, context.data, context.task.measure
    rows, overlap = data["rows"]["test"], data["overlap"]["test"]
    if metrics["selected_on"] == "test":
        yield (
            f"The best epoch was selected on the same {rows:,} test rows, so the metrics are optimistic; the last "
            f"epoch has {measure.name} {measure.with_unit(metrics['last'][measure.key])}."
        )
    if overlap["rows_in_training"]:
        yield (
            f"{overlap['rows_in_training']:,} of {overlap['rows']:,} test rows share a text with the training split; "
            "expect lower quality on new texts."
        )
    yield from context.task.card_limitations(context.evaluation, code)
    for name, total in (("train", data["rows"]["train"]), ("test", rows)):
        split = {"train": "training rows", "test": "test rows"}[name]
        yield from _truncated(metrics["truncated"][name], total, split, metrics["max_length"])
    yield "Measured with one seed and one test split; other domains and later texts were not measured."


def _encoder(context: CardContext) -> Iterator[str]:
    metrics = context.metrics
    if metrics["evaluation_texts_also_trained_on"]:
        yield "Perplexity was measured on training texts, so it does not describe new texts."
    elif metrics["evaluated_on"] == "test":
        yield "The best epoch was selected on the test texts that perplexity is measured on, so it is optimistic."
    if context.corpus is not None and not context.is_decontaminated:
        yield "The corpus may contain test texts, so classifiers on this encoder may have memorized them."
    if metrics["best"]["perplexity"] >= metrics["before"]["perplexity"] and context.predicts_masked_tokens:
        yield "Adaptation did not lower perplexity."
    yield from _truncated(metrics["truncated"], metrics["texts"], "texts", metrics["max_length"])
    yield ("Lower perplexity does not imply better classifiers. The encoder may reveal texts that it was trained on.")


def _truncated(count: int, total: int, rows: str, limit: int) -> Iterator[str]:
    if count:
        yield f"{count:,} of {total:,} {rows} ({percent(count / total, 1)} %) were truncated to {limit:,} tokens."
