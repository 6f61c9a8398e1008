"""Sections of a model card: results, limitations, and training data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ftjobs.cards.context import CardContext
from ftjobs.cards.markdown import code, table
from ftjobs.data.corpora.curation import CorpusRecord
from ftjobs.data.prepared import DataSummary
from ftjobs.jobfile.fields import Adapt, Classify, Corpus
from ftjobs.objectives import all_figures
from ftjobs.tasks.measures import Measure, percent
from ftjobs.tasks.wording import Metric


def results(context: CardContext) -> str:
    """Return the metrics of a trained model, and how the published epoch was selected."""
    return _classifier_results(context) if isinstance(context.run.settings, Classify) else _encoder_results(context)


def _classifier_results(context: CardContext) -> str:
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
        f"interval is {task.interval_method}. It covers the choice of test rows, not the variation between seeds."
    )


def format_metric(metric: Metric, measure: Measure, value: float) -> str:
    """Return the value of a metric with its unit."""
    if metric.key == measure.key:
        return measure.with_unit(value)
    return f"{percent(value)} %" if metric.is_share else f"{value:.4f}"


def _encoder_results(context: CardContext) -> str:
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
        f"{_added_words_note(context.metrics.get('vocabulary'))}"
    )


def _added_words_note(added: dict[str, Any] | None) -> str:
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


def limitations(context: CardContext) -> list[str]:
    """Return limitations that follow from data, training and evaluation, as Markdown sentences."""
    return list(_classifier_limitations(context) if context.run.kind == "classify" else _encoder_limitations(context))


def _classifier_limitations(context: CardContext) -> Iterator[str]:
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


def _encoder_limitations(context: CardContext) -> Iterator[str]:
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
    yield "Lower perplexity does not imply better classifiers. The encoder may reveal texts that it was trained on."


def _truncated(count: int, total: int, rows: str, limit: int) -> Iterator[str]:
    if count:
        yield f"{count:,} of {total:,} {rows} ({percent(count / total, 1)} %) were truncated to {limit:,} tokens."


MAX_NAMES = 30
"""Classes or labels that a card lists."""
_EXAMPLES = {
    "sentence": "a sentence",
    "document": "a passage",
    "packed": "as many passages as fit, the last one truncated",
    "pairs": "a pair of segments",
}


def training_data(context: CardContext) -> str:
    """Return provenance, rows per label, division and overlap of the data, after the corpus if there is one."""
    data = context.data
    rows = [["all", *(f"{number:,}" for number in data["rows"].values())]]
    labels = context.task.card_label_rows(data["labels"], context.names, code) if context.names else []
    counts = table(["rows", *data["rows"]], [*rows, *labels[:MAX_NAMES]])
    if len(labels) > MAX_NAMES:
        counts += f"\n\nand {len(labels) - MAX_NAMES} more."
    section = f"{_provenance(data['provenance'])}\n\n{counts}\n\n{_division(data)}"
    if context.corpus is None:
        return section
    return f"{_corpus(context, context.corpus)}\n\nThe data of the task, not used for this training:\n\n{section}"


def _provenance(provenance: dict[str, Any]) -> str:
    if "hub_id" in provenance:
        config = f", configuration {code(provenance['config'])}" if provenance["config"] else ""
        revision, commit = code(provenance["revision"]), code(provenance["commit"])
        return f"{code(provenance['hub_id'])} from the Hugging Face hub{config}, revision {revision}, commit {commit}."
    rows = [
        [code(file["name"]), file["split"], f"{file['bytes']:,}", f"`{file['sha256']}`"] for file in provenance["files"]
    ]
    return table(["file", "split", "bytes", "sha256"], rows)


def _division(data: DataSummary) -> str:
    split, parts = data["split"], []
    for name in ("test", "validation"):
        if (fraction := split[f"{name}_fraction"]) is not None:
            parts.append(f"{fraction:g} of the rows held out for {name}")
        elif name in data["rows"]:
            parts.append(f"the source's {name} split")
    if any(split[f"{name}_fraction"] is not None for name in ("test", "validation")):
        parts.append(f"shuffled with seed {split['seed']}")
    if split["group_by"] == "connected":
        parts.append("rows that share a text in the same split")
    elif split["group_by"]:
        parts.append(f"rows with the same {code(split['group_by'])} in the same split")
    overlap = data["overlap"]["test"]
    return (
        f"Split: {', '.join(parts)}. {overlap['rows_in_training']:,} of {overlap['rows']:,} test rows share a text "
        f"with the training split ({overlap['texts_in_training']:,} of {overlap['texts']:,} distinct test texts)."
    )


def corpus_name(context: CardContext) -> str:
    """Return the first source of the corpus, and the number of further sources."""
    assert context.corpus is not None
    sources = [str(source.get("hub_id") or source["name"]) for source in context.corpus["provenance"]]
    more = f" and {len(sources) - 1:,} more" if len(sources) > 1 else ""
    return f"{code(sources[0])}{more}"


def _corpus(context: CardContext, record: CorpusRecord) -> str:
    """Return sources, removed and held-out passages, and the unit of an example."""
    settings = context.run.settings
    assert isinstance(settings, Adapt)
    assert isinstance(settings.corpus, Corpus)
    used = context.metrics["corpus"]
    counts = {
        "read": record["read"],
        "without words": record["empty"],
        "contain a test or validation text": record["contaminated"] if context.is_decontaminated else None,
        "exact duplicates": record["exact_duplicates"],
        "near duplicates": record["near_duplicates"],
        "held out for evaluation": record["held_out"],
        "trained on": record["train"],
    }
    rows = [[name, "not checked" if count is None else f"{count:,}"] for name, count in counts.items()]
    masked = ", without attention between passages" if settings.corpus.isolate else ""
    return "\n\n".join(
        [
            f"A corpus without labels:\n\n{_corpus_sources(record['provenance'])}",
            table(["passages", ""], rows),
            f"An example is {_EXAMPLES[used['unit']]}{masked}. Training used {used['tokens_seen']:,} tokens, "
            f"{context.metrics['tokens']:,} per epoch.",
        ]
    )


def _corpus_sources(provenance: list[dict[str, Any]]) -> str:
    rows = [
        [code(source["hub_id"]), f"commit `{source['commit']}`"]
        if "hub_id" in source
        else [code(source["name"]), f"{source['bytes']:,} bytes, sha256 `{source['sha256']}`"]
        for source in provenance[:MAX_NAMES]
    ]
    more = f"\n\nand {len(provenance) - len(rows):,} more." if len(provenance) > len(rows) else ""
    return table(["source", "version"], rows) + more
