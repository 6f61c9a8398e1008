"""Caveats about the data: what leaks, what is rare, what is cut."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ftjobs import statistics
from ftjobs.reporting.caveats.caveat import Caveat, caveat, majority, some
from ftjobs.reporting.evidence import Evidence
from ftjobs.reporting.intermediate import intermediate
from ftjobs.reporting.phrases import code, count, interval, listed, percent, quoted
from ftjobs.reporting.results import SEED

#: Half width of a 95 % interval from which on a test split counts as small: five points.
_WIDE = 0.05
#: Share of test rows in the largest class from which on classes count as unbalanced: this often the uniform share.
_UNBALANCED = 1.5
#: New test rows from which on accuracy on them says something.
_ENOUGH = 30


def leakage(evidence: Evidence) -> Iterator[Caveat]:
    """Test texts that also stand in training, and what every strategy reaches with and without them."""
    overlap = evidence.summary["overlap"]["test"]
    seen = evidence.in_training
    if not seen.any():
        yield caveat(
            "leakage",
            f"**No test text stands in training:** none of the {overlap['texts']:,} texts of the {len(seen):,} test "
            "rows, compared without regard to case and white space.",
            rows=len(seen),
            rows_in_training=0,
            accuracy={},
        )
        return
    share = percent(seen.mean(), 0)
    text = (
        f"**{int(seen.sum()):,} of {len(seen):,} test rows ({share} %) have a text that also stands in training** "
        f"({overlap['texts_in_training']:,} of {overlap['texts']:,} test texts). "
    )
    new = int((~seen).sum())
    accuracy = {}
    for one in evidence.strategies:
        entry: dict[str, Any] = {"all": _level(one.scores), "in_training": _level(one.scores[:, seen])}
        if new:
            entry["new"] = _level(one.scores[:, ~seen])
            if one.measure.graded:
                found = statistics.score_interval(-one.scores[:, ~seen], seed=SEED)
            else:
                found = statistics.proportion_interval(round(entry["new"] * new), new)
            entry["new_interval"] = [found.low, found.high]
        accuracy[one.name] = entry
    if not new:
        text += "Not one row is new, so nothing here says how well a model does on texts that it has not seen. "
    elif evidence.strategies and new < _ENOUGH:
        text += f"Only {count(new, 'row')} {'is' if new == 1 else 'are'} new, too few to say how much that flatters. "
    if evidence.strategies:
        name = evidence.measure.name
        text += f"{name[0].upper()}{name[1:]} with and without them stands below. "
    text += "`data.split.group_by: connected` keeps rows that share a text on one side."
    yield caveat("leakage", text, rows=len(seen), rows_in_training=int(seen.sum()), new_rows=new, accuracy=accuracy)


def _level(scores: np.ndarray) -> float:
    """Accuracy of rows right or wrong, mean squared error of squared errors with a minus sign."""
    return abs(float(scores.mean()))


def intermediate_leakage(evidence: Evidence) -> Iterator[Caveat]:
    """Test texts of the job that also stand in the training data of an intermediate task that strategies build on."""
    for one in intermediate(evidence):
        if not one["taken_by"]:
            continue
        found = one["overlap"]
        rows, total = found["rows_in_training"], found["rows"]
        if not rows:
            text = (
                f"**No test text stands in the training data of the intermediate task {code(one['stage'])}:** none of "
                f"the {found['texts']:,} texts of the {total:,} test rows."
            )
        else:
            text = (
                f"**{rows:,} of {total:,} test rows ({percent(rows / total, 0)} %) have a text that also stands in the "
                f"training data of the intermediate task {code(one['stage'])}** ({found['texts_in_training']:,} of "
                f"{found['texts']:,} test texts), with the labels of that task."
            )
            parts = [_on_leaked(evidence, name, share) for name, share in found["accuracy"].items()]
            text += f" {some(parts, '; ')}." if parts else ""
        yield caveat("intermediate task", text, stage=one["stage"], **found)


def _on_leaked(evidence: Evidence, name: str, found: dict[str, float | None]) -> str:
    """What a strategy reaches on the rows that leak, and on the others."""
    inside, new = found["in_training"], found["new"]
    assert inside is not None, "there are such rows"
    if evidence.measure.graded:
        return f"{code(name)} a mean squared error of {inside:.3g}" + ("" if new is None else f", {new:.3g} elsewhere")
    return f"{code(name)} {percent(inside)} % of those right" + (
        "" if new is None else f", {percent(new)} % of the others"
    )


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
    if not labels or evidence.label_type != "class":
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
