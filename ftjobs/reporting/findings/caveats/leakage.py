"""Caveats about test rows whose texts a model saw in training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ftjobs import statistics
from ftjobs.reporting.findings.caveats.caveat import Caveat, caveat, some
from ftjobs.reporting.findings.classifiers import SEED, intermediate
from ftjobs.reporting.inputs.evidence import Evidence
from ftjobs.reporting.text.phrases import code, count, percent

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
        return f"{code(name)} a {evidence.measure.name} of {inside:.3g}" + (
            "" if new is None else f", {new:.3g} elsewhere"
        )
    return f"{code(name)} {percent(inside)} % of those right" + (
        "" if new is None else f", {percent(new)} % of the others"
    )


def adapted_on_held_out(evidence: Evidence) -> Iterator[Caveat]:
    """Held-out texts were adapted on too."""
    found = [one.name for one in evidence.adaptations if one.settings["corpus"] == "all"]
    if found:
        yield caveat(
            "adapted on held-out texts",
            f"**{some(map(code, found))} read the validation and test texts too, without their labels** "
            "(`corpus: all`): perplexity is measured on texts that were trained on, and accuracy is that of a model "
            "that knows the test texts.",
            stages=found,
        )


def not_decontaminated(evidence: Evidence) -> Iterator[Caveat]:
    """A corpus that was not searched for test texts."""
    found = [
        name for name in evidence.report.corpora if not evidence.report.job["stages"][name]["corpus"]["decontaminate"]
    ]
    if found:
        yield caveat(
            "corpus may hold test texts",
            f"**The corpus of {some(map(code, found))} was not searched for test texts** (`decontaminate: false`): "
            "what strategies reach on their encoders may in part be memory.",
            stages=found,
        )
