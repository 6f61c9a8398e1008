"""Caveats about test rows that share a text with training data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ftjobs import statistics
from ftjobs.reporting.finding import BOOTSTRAP_SEED, OPTIONAL, Caveat, Finding, Interval, to_json
from ftjobs.reporting.findings.intermediate_tasks import SplitScores, intermediate_results
from ftjobs.reporting.inputs.evidence import Evidence
from ftjobs.reporting.inputs.runs import Strategy
from ftjobs.reporting.text.phrases import code, count, first_items, percent

#: Fewest rows without leakage for which a score is informative.
_MIN_NEW_ROWS = 30


@dataclass(frozen=True, kw_only=True)
class LeakageScores(Finding):
    """Scores of one strategy on all test rows, on those that share a text with training, and on the others."""

    all: float
    in_training: float
    new: float | None = field(default=None, metadata=OPTIONAL)
    new_interval: Interval | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True, kw_only=True)
class LeakageFigures(Finding):
    """Extent of the leakage, and its effect on the scores."""

    rows: int
    rows_in_training: int
    new_rows: int | None = field(default=None, metadata=OPTIONAL)
    """Rows that share no text with training; given only if some rows do."""
    accuracy: dict[str, LeakageScores]
    """By strategy."""


def leakage(evidence: Evidence) -> Iterator[Caveat]:
    """Count the test rows that share a text with the training split, and score strategies with and without them."""
    overlap = evidence.summary["overlap"]["test"]
    shared = evidence.in_training
    rows, rows_in_training = len(shared), int(shared.sum())
    if not rows_in_training:
        text = (
            f"**No leakage:** none of the {overlap['texts']:,} texts of the {rows:,} test rows occurs in the training "
            "split (ignoring case and white space)."
        )
        figures = LeakageFigures(rows=rows, rows_in_training=0, accuracy={})
        yield Caveat(name="leakage", text=text, figures=figures)
        return
    new_rows = rows - rows_in_training
    sentences = [
        f"**Leakage: {rows_in_training:,} of {rows:,} test rows ({percent(shared.mean(), 0)} %) share a text with the "
        f"training split** ({overlap['texts_in_training']:,} of {overlap['texts']:,} test texts)."
    ]
    if not new_rows:
        sentences.append("No test row is new, so performance on new texts is unknown.")
    elif evidence.strategies and new_rows < _MIN_NEW_ROWS:
        be = "is" if new_rows == 1 else "are"
        sentences.append(f"Only {count(new_rows, 'row')} {be} new, too few to measure the effect.")
    if evidence.strategies:
        name = evidence.measure.name
        sentences.append(f"The table below gives {name} with and without these rows.")
    sentences.append("`data.split.group_by: connected` assigns rows that share a text to the same split.")
    accuracy = {strategy.name: _leakage_scores(strategy, shared) for strategy in evidence.strategies}
    figures = LeakageFigures(rows=rows, rows_in_training=rows_in_training, new_rows=new_rows, accuracy=accuracy)
    yield Caveat(name="leakage", text=" ".join(sentences), figures=figures)


def _leakage_scores(strategy: Strategy, shared: np.ndarray) -> LeakageScores:
    scores = strategy.scores
    total, in_training = _mean_score(scores), _mean_score(scores[:, shared])
    new_rows = int((~shared).sum())
    if not new_rows:
        return LeakageScores(all=total, in_training=in_training)
    new = _mean_score(scores[:, ~shared])
    if strategy.measure.graded:
        interval = statistics.score_interval(-scores[:, ~shared], seed=BOOTSTRAP_SEED)
    else:
        interval = statistics.proportion_interval(round(new * new_rows), new_rows)
    return LeakageScores(all=total, in_training=in_training, new=new, new_interval=(interval.low, interval.high))


def _mean_score(scores: np.ndarray) -> float:
    """Return the accuracy, or the mean squared error of negative squared errors."""
    return abs(float(scores.mean()))


def intermediate_leakage(evidence: Evidence) -> Iterator[Caveat]:
    """Count the test rows that share a text with the training data of an intermediate task."""
    for result in intermediate_results(evidence):
        if not result.taken_by:
            continue
        overlap = result.overlap
        rows, rows_in_training, task = overlap.rows, overlap.rows_in_training, code(result.stage)
        if not rows_in_training:
            text = (
                f"**No leakage from the intermediate task {task}:** none of the {overlap.texts:,} texts of the "
                f"{rows:,} test rows occurs in its training data."
            )
        else:
            text = (
                f"**{rows_in_training:,} of {rows:,} test rows ({percent(rows_in_training / rows, 0)} %) share a text "
                f"with the training data of the intermediate task {task}** ({overlap.texts_in_training:,} of "
                f"{overlap.texts:,} test texts), where it is labeled for that task."
            )
            scores = [_with_and_without(evidence, name, scores) for name, scores in overlap.accuracy.items()]
            text += f" {first_items(scores, '; ')}." if scores else ""
        yield Caveat(name="intermediate task", text=text, figures={"stage": result.stage, **to_json(overlap)})


def _with_and_without(evidence: Evidence, name: str, scores: SplitScores) -> str:
    measure = evidence.measure
    assert scores.in_training is not None, "called only if some rows share a text"
    new = "" if scores.new is None else f", {measure.with_unit(scores.new)} on the others"
    return f"{code(name)}: {measure.name} {measure.with_unit(scores.in_training)} on these rows{new}"


def adapted_on_held_out(evidence: Evidence) -> Iterator[Caveat]:
    """Name the adapt stages that trained on validation and test texts."""
    stages = [stage.name for stage in evidence.adaptations if stage.settings["corpus"] == "all"]
    if stages:
        text = (
            f"**{first_items(map(code, stages))} also trained on the validation and test texts, without their labels** "
            "(`corpus: all`): perplexity is measured on training texts, and accuracy is that of an encoder that has "
            "seen the test texts."
        )
        yield Caveat(name="adapted on held-out texts", text=text, figures={"stages": stages})


def not_decontaminated(evidence: Evidence) -> Iterator[Caveat]:
    """Name the adapt stages whose corpus was not searched for test texts."""
    stages = [
        name for name in evidence.report.corpora if not evidence.report.job["stages"][name]["corpus"]["decontaminate"]
    ]
    if stages:
        text = (
            f"**The corpus of {first_items(map(code, stages))} was not searched for test texts** "
            "(`decontaminate: false`): test scores of strategies on these encoders may include memorized texts."
        )
        yield Caveat(name="corpus may hold test texts", text=text, figures={"stages": stages})
