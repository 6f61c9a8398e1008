"""What a reader must know before relying on a model, computed from the run that made it."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow.parquet as pq

from ftjobs.cards.made import CardContext
from ftjobs.cards.markdown import code
from ftjobs.statistics import proportion_interval


def limitations(made: CardContext) -> list[str]:
    """One sentence or two for each, as Markdown."""
    return list(_of_classifier(made) if made.run.kind == "classify" else _of_adapted(made))


def _of_classifier(made: CardContext) -> Iterator[str]:
    metrics, data = made.metrics, made.data
    rows, leaked = data["rows"]["test"], data["overlap"]["test"]
    if metrics["selected_on"] == "test":
        yield (
            f"The best epoch was chosen on the {rows:,} test rows that it is reported on, so the figures are "
            f"optimistic; the last epoch reached {_last(made)}."
        )
    if leaked["rows_in_training"]:
        yield (
            f"{leaked['rows_in_training']:,} of {leaked['rows']:,} test rows have a text that also stands in training; "
            "on texts that are all new the model may do worse."
        )
    yield from (_of_other_labels(made) if made.label_type != "class" else _of_classes(made))
    yield from _cut(metrics["truncated"]["train"], data["rows"]["train"], "training rows", metrics["max_length"])
    yield from _cut(metrics["truncated"]["test"], rows, "test rows", metrics["max_length"])
    yield "One seed of one pipeline, and one test split: other domains, and later texts, were not measured."


def _last(made: CardContext) -> str:
    last = made.metrics["last"]
    return f"{last['mse']:.4g}" if made.label_type == "float" else f"{100 * last['accuracy']:.2f} %"


def _of_other_labels(made: CardContext) -> Iterator[str]:
    """Of numbers, and of several labels at once."""
    labels = made.data["labels"]
    if made.label_type == "multi":
        unseen = [name for name, count in labels["train"].items() if not count]
        if unseen:
            yield f"No training row has the label{'s' if len(unseen) > 1 else ''} {', '.join(map(code, unseen))}."
        answers = {tuple(names) for names in pq.read_table(made.predictions)["prediction"].to_pylist()}
        if len(answers) == 1:
            yield f"It gives one answer only for every test row: {', '.join(map(code, answers.pop())) or 'no label'}."
        return
    constant = labels["test"]["sd"] ** 2 + (labels["test"]["mean"] - labels["train"]["mean"]) ** 2
    always = f"answering the mean of the training labels every time has a mean squared error of {constant:.4g}"
    if made.error_interval()[1] >= constant:
        yield f"Not better than a constant, as far as these test rows tell: {always}, which is not above the interval."
    else:
        yield f"To compare with: {always} on the test rows."
    yield (
        f"Its training labels go from {labels['train']['min']:g} to {labels['train']['max']:g}; nothing keeps its "
        "answers within."
    )


def _of_classes(made: CardContext) -> Iterator[str]:
    metrics, data = made.metrics, made.data
    rows, balance = data["rows"]["test"], data["labels"]["test"]
    largest = max(balance, key=lambda name: balance[name])
    low = proportion_interval(round(metrics["accuracy"] * rows), rows).low
    always = f"answering {code(largest)} every time reaches {100 * balance[largest] / rows:.2f} %"
    if low <= balance[largest] / rows:
        yield f"Not better than a constant, as far as these test rows tell: {always}, which is not below the interval."
    else:
        yield f"To compare with: {always} on the test rows."
    answers = set(pq.read_table(made.predictions, columns=["prediction"])["prediction"].to_pylist())
    if len(answers) == 1:
        yield f"It gives one answer only: every test row is predicted to be {code(answers.pop())}."
    unseen = [name for name, count in data["labels"]["train"].items() if not count]
    if unseen:
        yield f"No training row is of the class{'es' if len(unseen) > 1 else ''} {', '.join(map(code, unseen))}."


def _of_adapted(made: CardContext) -> Iterator[str]:
    metrics = made.metrics
    if metrics["evaluation_texts_also_trained_on"]:
        yield "The texts that perplexity is measured on were trained on too, so it says nothing about new texts."
    elif metrics["evaluated_on"] == "test":
        yield "The best epoch was chosen on the test texts that perplexity is measured on, so it is optimistic."
    if made.corpus is not None and not made.decontaminated:
        yield "Its corpus was not searched for test texts, so figures of classifiers that take it may be memory."
    if metrics["best"]["perplexity"] >= metrics["before"]["perplexity"] and not made.finds_replaced:
        yield "Adaptation did not lower perplexity."
    yield from _cut(metrics["truncated"], metrics["texts"], "texts", metrics["max_length"])
    yield (
        "Whether lower perplexity helps a task is for the stages that take this encoder to show; "
        "what stands in the texts it was adapted to, it may reveal."
    )


def _cut(count: int, of: int, what: str, limit: int) -> Iterator[str]:
    if count:
        yield f"{count:,} of {of:,} {what} were longer than {limit:,} tokens and were cut."
