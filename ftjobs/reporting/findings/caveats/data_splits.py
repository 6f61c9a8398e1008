"""Caveats about the data: size of the test split, distribution of labels, truncated texts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ftjobs import statistics
from ftjobs.reporting.findings.caveats.caveat import Caveat, caveat, majority, some
from ftjobs.reporting.inputs.evidence import Evidence
from ftjobs.reporting.text.phrases import code, count, interval, listed, percent, quoted

#: Half width of a 95 % interval from which on a test split counts as small: five points.
_WIDE = 0.05


#: Share of test rows in the largest class from which on classes count as unbalanced: this often the uniform share.
_UNBALANCED = 1.5


def small_test(evidence: Evidence) -> Iterator[Caveat]:
    """Too few test rows to tell strategies apart that are close."""
    if not evidence.strategies or evidence.measure.graded:
        return
    rows = len(evidence.data.splits["test"])
    best = max(float(one.right.mean()) for one in evidence.strategies)
    found = statistics.proportion_interval(round(best * rows), rows)
    half = (found.high - found.low) / 2
    if half >= _WIDE:
        text = (
            f"**The test split is small: {count(rows, 'row')}.** One row is {percent(1 / rows)} points, and an "
            f"accuracy of {percent(best)} % is known to ±{percent(half, 1)} points "
            f"({interval(found.low, found.high)} %) from the choice of test rows alone."
        )
        yield caveat("small test split", text, rows=rows, half_width=half)


def class_balance(evidence: Evidence) -> Iterator[Caveat]:
    """How the classes are distributed in every split; gravest where one class outweighs the others."""
    labels: dict[str, dict[str, int]] = evidence.summary["labels"]
    if not labels or not evidence.task.single_class:
        return
    share, name = majority(evidence)
    classes = len(evidence.data.classes)
    parts = []
    for split, balance in labels.items():
        top = sorted(balance.items(), key=lambda item: -item[1])
        shown = [f"{quoted(one)} {percent(number / max(sum(balance.values()), 1), 1)} %" for one, number in top[:3]]
        more = f" and {len(top) - 3} more" if len(top) > 3 else ""
        parts.append(f"{split} {', '.join(shown)}{more}")
    missing = [one for one, number in labels["train"].items() if not number]
    uneven = share >= min(_UNBALANCED / classes, 0.9)
    lead = (
        f"**Classes are uneven:** always answering {quoted(name)} is right on {percent(share)} % of the test rows."
        if uneven
        else f"**Classes are balanced:** the most frequent of {classes}, {quoted(name)}, has {percent(share)} % of the "
        "test rows."
    )
    untrained = f" {listed([quoted(one) for one in missing[:3]])}: not in training at all." if missing else ""
    yield caveat(
        "class balance",
        f"{lead} By split: {'; '.join(parts)}.{untrained}",
        majority_accuracy=share,
        majority=name,
        labels=labels,
    )


def truncated(evidence: Evidence) -> Iterator[Caveat]:
    """Texts that lost their end because they were longer than the stage reads."""
    found: dict[str, dict[str, int]] = {}
    parts = []
    for one in evidence.strategies:
        truncated: dict[str, int] = one.runs[0].metrics["truncated"]
        if any(truncated.values()):
            found[one.name] = truncated
            splits = ", ".join(
                f"{number:,} of {len(evidence.data.splits[split]):,} in {split}"
                for split, number in truncated.items()
                if number
            )
            parts.append(f"{code(one.name)} (limit {one.settings['max_length']} tokens or the encoder's) {splits}")
    for stage in evidence.adaptations:
        metrics = stage.runs[0].metrics
        if metrics["truncated"]:
            found[stage.name] = {"texts": metrics["truncated"]}
            parts.append(f"{code(stage.name)} {metrics['truncated']:,} of {metrics['texts']:,} texts")
    if found:
        longest = max(tokens["max"] for tokens in evidence.summary["tokens"].values())
        text = f"**Texts were cut to fit the encoder:** {some(parts, '; ')}. The longest has {longest:,} tokens."
        yield caveat("truncated", text, truncated=found, longest=longest)


def distribution(evidence: Evidence) -> Iterator[Caveat]:
    """How the labels of every split are distributed."""
    labels = evidence.summary["labels"]
    if evidence.task.single_class or not labels:
        return
    if evidence.task.numeric:
        parts = [
            f"{split} from {one['min']:g} to {one['max']:g}, mean {one['mean']:.4g} ± {one['sd']:.4g}"
            for split, one in labels.items()
        ]
        outside = labels["test"]["min"] < labels["train"]["min"] or labels["test"]["max"] > labels["train"]["max"]
        lead = "Some test labels are beyond any in training" if outside else "Labels are numbers"
        yield caveat("labels", f"**{lead}:** {'; '.join(parts)}.", labels=labels)
        return
    test = np.asarray(evidence.data.splits["test"].labels)
    each, none = float(test.sum(axis=1).mean()), int((test.sum(axis=1) == 0).sum())
    rare = [name for name, number in labels["train"].items() if not number]
    text = (
        f"**A test row has {each:.2f} of {len(evidence.data.classes)} labels on average,** and "
        f"{count(none, 'row')} {'has' if none == 1 else 'have'} none."
    )
    if rare:
        text += f" Not in training at all: {some(map(quoted, rare))}."
    yield caveat("labels", text, labels=labels, mean_labels=each, rows_without=none)
