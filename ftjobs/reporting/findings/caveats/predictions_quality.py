"""Caveats about models that predict a constant, or little better than a constant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ftjobs import statistics
from ftjobs.reporting.findings.caveats.caveat import Caveat, caveat, majority, some
from ftjobs.reporting.findings.classifiers import SEED
from ftjobs.reporting.inputs.evidence import Evidence
from ftjobs.reporting.inputs.runs import Strategy
from ftjobs.reporting.text.phrases import code, percent, quoted

#: A share of predictions in one class from which on a seed counts as collapsed.
_COLLAPSED_SHARE = 0.99


#: Share of the labels' spread below which predictions count as all the same.
_COLLAPSED = 0.01


def collapsed_classes(evidence: Evidence) -> Iterator[Caveat]:
    """Seeds that (nearly) always predict the same class, though the labels do not."""
    found: list[dict[str, Any]] = []
    if not evidence.task.single_class:
        return
    for one in evidence.strategies:
        for run, predictions in zip(one.runs, one.predictions, strict=True):
            shares = np.bincount(predictions, minlength=len(one.classes)) / len(predictions)
            label_share = np.bincount(one.labels, minlength=len(one.classes)).max() / len(one.labels)
            if shares.max() >= _COLLAPSED_SHARE > label_share:
                found.append(
                    {
                        "stage": one.name,
                        "seed": run.seed,
                        "class": one.classes[int(shares.argmax())],
                        "share": float(shares.max()),
                    }
                )
    if not found:
        return
    by_stage: dict[tuple[str, str], list[str]] = {}
    for each in found:
        by_stage.setdefault((each["stage"], each["class"]), []).append(str(each["seed"]))
    named = some(
        f"{code(stage)} {'seed' if len(seeds) == 1 else 'seeds'} {', '.join(seeds)} to {quoted(name)}"
        for (stage, name), seeds in by_stage.items()
    )
    runs = sum(len(one.runs) for one in evidence.strategies)
    yield caveat(
        "collapsed",
        f"**{len(found)} of {runs} trained classifiers {'has' if len(found) == 1 else 'have'} collapsed to one class:"
        f"** {named}. F1 says nothing of such a model; another learning rate, more epochs or warm-up may help.",
        runs=found,
    )


def no_better_than_majority(evidence: Evidence) -> Iterator[Caveat]:
    """Strategies whose interval holds what one gets by always answering the most frequent class."""
    if not evidence.strategies or not evidence.task.single_class:
        return
    share, name = majority(evidence)
    level = []
    for one in evidence.strategies:
        accuracy = float(one.right.mean())
        found = statistics.proportion_interval(round(accuracy * one.right.shape[1]), one.right.shape[1])
        if found.low <= share:
            level.append(one.name)
    if level:
        yield caveat(
            "no better than the majority class",
            f"**Always answering {quoted(name)} is right on {percent(share)} % of the test rows,** and "
            f"{some(map(code, level))} {'is' if len(level) == 1 else 'are'} not clearly better than that.",
            majority_accuracy=share,
            stages=level,
        )


def constant_answer(evidence: Evidence) -> Iterator[Caveat]:
    """What one gets by always giving the same answer, and the strategies that are not clearly better than that."""
    train, test = (evidence.data.splits[name].labels for name in ("train", "test"))
    if train is None or test is None or not evidence.strategies:
        return
    constant = evidence.task.constant_answer(train, evidence.data.classes)
    if constant is None:
        return
    scores = np.asarray(evidence.task.scores(constant.prediction, test), dtype=np.float64)
    level = abs(float(scores.mean()))
    shown = f"the {constant.kind}"
    if constant.names is not None:
        shown = f"the labels {some(map(quoted, constant.names))}" if constant.names else "no label at all"
    said = f"Always answering {shown} {evidence.measure.level(level)}."
    close = [one.name for one in evidence.strategies if not _clearly_better(one, scores)]
    text = f"**{said}**"
    if close:
        text += f" {some(map(code, close))} {'is' if len(close) == 1 else 'are'} not clearly better than that."
    else:
        text += " Every strategy is clearly better than that."
    yield caveat("constant answer", text, level=level, answer=constant.kind, stages=close)


def _clearly_better(one: Strategy, constant: np.ndarray) -> bool:
    other = np.broadcast_to(constant, one.scores.shape)
    found = statistics.compare(one.scores, other, seed=SEED, graded=one.measure.graded)
    return found.interval.low > 0


def collapsed(evidence: Evidence) -> Iterator[Caveat]:
    """Seeds that predict (nearly) the same for every row."""
    if evidence.task.single_class:
        return
    found = [
        {"stage": one.name, "seed": run.seed}
        for one in evidence.strategies
        for run, predictions in zip(one.runs, one.predictions, strict=True)
        if _all_the_same(one, predictions)
    ]
    if found:
        named = some(f"{code(one['stage'])} seed {one['seed']}" for one in found)
        runs = sum(len(one.runs) for one in evidence.strategies)
        yield caveat(
            "collapsed",
            f"**The same prediction for every test row from {len(found)} of {runs} trained models:** {named}. Another "
            "learning rate, more epochs or warm-up may help.",
            runs=found,
        )


def _all_the_same(one: Strategy, predictions: np.ndarray) -> bool:
    if one.task.numeric:
        return bool(predictions.std() <= _COLLAPSED * one.labels.std())
    return bool((predictions == predictions[0]).all() and not (one.labels == one.labels[0]).all())
