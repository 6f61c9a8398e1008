"""Caveats about labels that are numbers, or several at once: what a constant answer reaches, how they are spread."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ftjobs import statistics
from ftjobs.reporting.caveats.caveat import Caveat, caveat, some
from ftjobs.reporting.evidence import Evidence
from ftjobs.reporting.phrases import code, count, percent, quoted
from ftjobs.reporting.results import SEED
from ftjobs.reporting.runs import Strategy

#: Share of the labels' spread below which predictions count as all the same.
_COLLAPSED = 0.01


def constant_answer(evidence: Evidence) -> Iterator[Caveat]:
    """What one gets by always giving the same answer, and the strategies that are not clearly better than that."""
    if evidence.label_type == "class" or not evidence.strategies:
        return
    level, answer, said = _numbers(evidence) if evidence.label_type == "float" else _sets(evidence)
    constant = _constant_scores(evidence)
    close = [one.name for one in evidence.strategies if not _clearly_better(one, constant)]
    text = f"**{said}**"
    if close:
        text += f" {some(map(code, close))} {'is' if len(close) == 1 else 'are'} not clearly better than that."
    else:
        text += " Every strategy is clearly better than that."
    yield caveat("constant answer", text, level=level, answer=answer, stages=close)


def _numbers(evidence: Evidence) -> tuple[float, str, str]:
    level = -float(_constant_scores(evidence).mean())
    said = f"Always answering the mean of the training labels has a mean squared error of {level:.4g} on the test rows."
    return level, "mean of the training labels", said


def _sets(evidence: Evidence) -> tuple[float, str, str]:
    level = float(_constant_scores(evidence).mean())
    names = [name for name, flag in zip(evidence.data.classes, _most_frequent(evidence), strict=True) if flag]
    shown = f"the labels {some(map(quoted, names))}" if names else "no label at all"
    return level, "most frequent labels", f"Always answering {shown} is right on {percent(level)} % of the test rows."


def _constant_scores(evidence: Evidence) -> np.ndarray:
    """float64 (N,): the score of the constant answer on every test row."""
    train, test = (evidence.data.splits[name].labels for name in ("train", "test"))
    assert train is not None
    assert test is not None
    if evidence.label_type == "float":
        return np.asarray(-((test - train.mean()) ** 2))
    return np.asarray((test == _most_frequent(evidence)).all(axis=1), dtype=np.float64)


def _most_frequent(evidence: Evidence) -> np.ndarray:
    """uint8 (C,): the set of labels that most training rows have."""
    found, counts = np.unique(np.asarray(evidence.data.splits["train"].labels), axis=0, return_counts=True)
    return np.asarray(found[counts.argmax()])


def _clearly_better(one: Strategy, constant: np.ndarray) -> bool:
    other = np.broadcast_to(constant, one.scores.shape)
    found = statistics.compare(one.scores, other, seed=SEED, graded=one.measure.graded)
    return found.interval.low > 0


def distribution(evidence: Evidence) -> Iterator[Caveat]:
    """How the labels of every split are distributed."""
    labels = evidence.summary["labels"]
    if evidence.label_type == "class" or not labels:
        return
    if evidence.label_type == "float":
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


def collapsed(evidence: Evidence) -> Iterator[Caveat]:
    """Seeds that predict (nearly) the same for every row."""
    if evidence.label_type == "class":
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
    if one.label_type == "float":
        return bool(predictions.std() <= _COLLAPSED * one.labels.std())
    return bool((predictions == predictions[0]).all() and not (one.labels == one.labels[0]).all())
