"""Caveats about the data: size of the test split, distribution of labels, truncated texts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ftjobs import statistics
from ftjobs.reporting.finding import Caveat
from ftjobs.reporting.inputs.evidence import Evidence
from ftjobs.reporting.text.phrases import code, count, first_items, interval, listed, percent, quoted

#: Half width of a 95 % interval at and above which a test split counts as small: five points.
_SMALL_TEST_HALF_WIDTH = 0.05
#: Classes count as unbalanced if the largest has this multiple of the uniform share.
_UNBALANCED_RATIO = 1.5


def small_test(evidence: Evidence) -> Iterator[Caveat]:
    """Warn about a test split too small to distinguish similar strategies."""
    if not evidence.strategies or evidence.measure.graded:
        return
    rows = len(evidence.data.splits["test"])
    best = max(float(strategy.right.mean()) for strategy in evidence.strategies)
    limits = statistics.proportion_interval(round(best * rows), rows)
    half_width = (limits.high - limits.low) / 2
    if half_width >= _SMALL_TEST_HALF_WIDTH:
        text = (
            f"**The test split is small: {count(rows, 'row')}.** One row is {percent(1 / rows)} points; an accuracy of "
            f"{percent(best)} % has a 95 % interval of ±{percent(half_width, 1)} points "
            f"({interval(limits.low, limits.high)} %)."
        )
        yield Caveat(name="small test split", text=text, figures={"rows": rows, "half_width": half_width})


def class_balance(evidence: Evidence) -> Iterator[Caveat]:
    """Give the distribution of classes in every split, and the classes that training lacks."""
    labels: dict[str, dict[str, int]] = evidence.summary["labels"]
    if not labels or not evidence.task.single_class:
        return
    share, name = evidence.majority_class()
    classes = len(evidence.data.classes)
    distributions = [f"{split} {_distribution(counts)}" for split, counts in labels.items()]
    if share >= min(_UNBALANCED_RATIO / classes, 0.9):
        lead = (
            f"**Classes are unbalanced:** always predicting {quoted(name)} is right on {percent(share)} % of the test "
            "rows."
        )
    else:
        lead = (
            f"**Classes are balanced:** the most frequent of {classes}, {quoted(name)}, has {percent(share)} % of the "
            "test rows."
        )
    missing = [label for label, number in labels["train"].items() if not number]
    untrained = f" Missing from training: {listed([quoted(label) for label in missing[:3]])}." if missing else ""
    yield Caveat(
        name="class balance",
        text=f"{lead} By split: {'; '.join(distributions)}.{untrained}",
        figures={"majority_accuracy": share, "majority": name, "labels": labels},
    )


def _distribution(counts: dict[str, int]) -> str:
    """Return the shares of the three most frequent classes."""
    total = max(sum(counts.values()), 1)
    top = sorted(counts.items(), key=lambda item: -item[1])
    shares = ", ".join(f"{quoted(label)} {percent(number / total, 1)} %" for label, number in top[:3])
    return shares + (f" and {len(top) - 3} more" if len(top) > 3 else "")


def truncated(evidence: Evidence) -> Iterator[Caveat]:
    """Count the texts that were longer than a stage's limit."""
    truncated: dict[str, dict[str, int]] = {}
    parts = []
    for strategy in evidence.strategies:
        by_split: dict[str, int] = strategy.runs[0].metrics["truncated"]
        if any(by_split.values()):
            truncated[strategy.name] = by_split
            splits = ", ".join(
                f"{number:,} of {len(evidence.data.splits[split]):,} {split} rows"
                for split, number in by_split.items()
                if number
            )
            limit = f"limit {strategy.settings['max_length']} tokens or the encoder's"
            parts.append(f"{code(strategy.name)} ({limit}) {splits}")
    for stage in evidence.adaptations:
        metrics = stage.runs[0].metrics
        if metrics["truncated"]:
            truncated[stage.name] = {"texts": metrics["truncated"]}
            parts.append(f"{code(stage.name)} {metrics['truncated']:,} of {metrics['texts']:,} texts")
    if truncated:
        longest = max(tokens["max"] for tokens in evidence.summary["tokens"].values())
        text = f"**Texts were truncated:** {first_items(parts, '; ')}. The longest text has {longest:,} tokens."
        yield Caveat(name="truncated", text=text, figures={"truncated": truncated, "longest": longest})


def distribution(evidence: Evidence) -> Iterator[Caveat]:
    """Give the distribution of labels that are numbers or sets."""
    labels = evidence.summary["labels"]
    if evidence.task.single_class or not labels:
        return
    if evidence.task.numeric:
        ranges = [
            f"{split} from {summary['min']:g} to {summary['max']:g}, mean {summary['mean']:.4g} ± {summary['sd']:.4g}"
            for split, summary in labels.items()
        ]
        outside = labels["test"]["min"] < labels["train"]["min"] or labels["test"]["max"] > labels["train"]["max"]
        lead = "Some test labels are outside the range of the training labels" if outside else "Labels are numbers"
        yield Caveat(name="labels", text=f"**{lead}:** {'; '.join(ranges)}.", figures={"labels": labels})
        return
    sizes = np.asarray(evidence.data.splits["test"].labels).sum(axis=1)
    mean_labels, rows_without = float(sizes.mean()), int((sizes == 0).sum())
    missing = [name for name, number in labels["train"].items() if not number]
    text = (
        f"**A test row has {mean_labels:.2f} of {len(evidence.data.classes)} labels on average;** "
        f"{count(rows_without, 'row')} {'has' if rows_without == 1 else 'have'} none."
    )
    if missing:
        text += f" Missing from training: {first_items(map(quoted, missing))}."
    figures = {"labels": labels, "mean_labels": mean_labels, "rows_without": rows_without}
    yield Caveat(name="labels", text=text, figures=figures)
