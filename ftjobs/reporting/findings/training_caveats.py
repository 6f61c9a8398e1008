"""Caveats about training: selection of epochs, seeds, processes, devices, and models that predict a constant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ftjobs import statistics
from ftjobs.reporting.finding import BOOTSTRAP_SEED, Caveat, Finding
from ftjobs.reporting.inputs.evidence import Evidence
from ftjobs.reporting.inputs.runs import Strategy
from ftjobs.reporting.text.phrases import code, count, first_items, percent, quoted


def selection(evidence: Evidence) -> Iterator[Caveat]:
    """Name the split that the best epoch was chosen on, and the gain over the last epoch."""
    if not evidence.strategies:
        return
    measure = evidence.measure
    sign = -1 if measure.minimize else 1
    gains = {
        strategy.name: sign
        * float(np.mean(strategy.figures(measure.key)) - np.mean(strategy.figures("last", measure.key)))
        for strategy in evidence.strategies
    }
    listed = first_items([f"{code(name)} {measure.difference(gain)}" for name, gain in gains.items()])
    unit = measure.difference_axis if measure.graded else "points of test accuracy"
    gain = f"Gain of the best epoch over the last, {unit}: {listed}."
    if evidence.selected_on == "test":
        rows = len(evidence.data.splits["test"])
        text = (
            f"**The best epoch was chosen on the {rows:,} test rows that it is reported on,** so the figures are "
            f"optimistic. {gain} Set `data.split.validation_fraction` to choose on a validation split."
        )
    else:
        rows = len(evidence.data.splits["validation"])
        text = f"**The best epoch was chosen on {count(rows, 'validation row')},** not on the test rows. {gain}"
    yield Caveat(name="selection", text=text, figures={"selected_on": evidence.selected_on, "best_minus_last": gains})


def one_seed(evidence: Evidence) -> Iterator[Caveat]:
    """Warn that a single seed cannot show the variation between training runs."""
    if len(evidence.seeds) > 1:
        return
    text = (
        f"**One seed ({evidence.seeds[0]}).** Intervals and verdicts cover the choice of test rows, not the variation "
        "between training runs. Set `seeds` to three or more."
    )
    yield Caveat(name="one seed", text=text, figures={"seeds": evidence.seeds})


def untrained_pooler(evidence: Evidence) -> Iterator[Caveat]:
    """Name the strategies with a frozen encoder whose checkpoint has no pooler: theirs is trained with the head."""
    stages = [
        strategy.name
        for strategy in evidence.strategies
        if strategy.settings["freeze_encoder"]
        and any("pooler" in name for name in strategy.runs[0].metrics["newly_initialised"])
    ]
    if stages:
        text = (
            f"**The checkpoint has no pooler,** so {first_items(map(code, stages))} trained a newly initialized one "
            "along with the head: the model is more than a linear probe."
        )
        yield Caveat(name="new pooler", text=text, figures={"stages": stages})


def several_processes(evidence: Evidence) -> Iterator[Caveat]:
    """Warn about stages on several processes: their effective batch size is larger than the job file's."""
    stages = [*evidence.strategies, *evidence.intermediate, *evidence.adaptations]
    processes = {stage.name: stage.processes for stage in stages}
    numbers = sorted({number for numbers in processes.values() for number in numbers})
    if not numbers or numbers == [1]:
        return
    batch = "Each process takes `per_device_batch_size` examples per step"
    if len(numbers) == 1:
        text = (
            f"**Every stage was trained on {numbers[0]} processes.** {batch}, so fewer processes train with a smaller "
            "effective batch."
        )
    else:
        listed = first_items(f"{code(name)} {' and '.join(map(str, numbers))}" for name, numbers in processes.items())
        text = (
            f"**Stages were trained on different numbers of processes:** {listed}. {batch}, so differences between "
            "stages may come from the effective batch size."
        )
    yield Caveat(name="several processes", text=text, figures={"processes": processes})


def different_devices(evidence: Evidence) -> Iterator[Caveat]:
    """Warn that times from different devices are not comparable."""
    stages = [*evidence.strategies, *evidence.intermediate, *evidence.adaptations]
    timings = [run.timing for stage in stages for run in stage.runs]
    devices = sorted({f"{timing['device']} ({timing['mixed_precision']})" for timing in timings})
    if len(devices) > 1:
        text = f"**Stages ran on different devices:** {', '.join(devices)}. Their times are not comparable."
        yield Caveat(name="different devices", text=text, figures={"devices": devices})


#: A seed has collapsed if this share of its predictions is a single class.
_COLLAPSED_SHARE = 0.99
#: Predicted numbers have collapsed if their standard deviation is at most this share of the labels'.
_COLLAPSED_SD = 0.01
_REMEDY = "Try another learning rate, more epochs or warm-up."


@dataclass(frozen=True, kw_only=True)
class ConstantBaseline(Finding):
    """The score of the best constant prediction, and the strategies that are not clearly better."""

    level: float
    answer: str
    """Name of the constant, for plots."""
    stages: list[str]


def collapsed_classes(evidence: Evidence) -> Iterator[Caveat]:
    """Name the seeds that predict (almost) only one class, unless the labels do too."""
    if not evidence.task.single_class:
        return
    runs: list[dict[str, Any]] = []
    for strategy in evidence.strategies:
        classes = len(strategy.classes)
        label_share = np.bincount(strategy.labels, minlength=classes).max() / len(strategy.labels)
        for run, predictions in zip(strategy.runs, strategy.predictions, strict=True):
            shares = np.bincount(predictions, minlength=classes) / len(predictions)
            if shares.max() >= _COLLAPSED_SHARE > label_share:
                predicted = strategy.classes[int(shares.argmax())]
                share = float(shares.max())
                runs.append({"stage": strategy.name, "seed": run.seed, "class": predicted, "share": share})
    if not runs:
        return
    seeds_by_class: dict[tuple[str, str], list[str]] = {}
    for run_figures in runs:
        key = run_figures["stage"], run_figures["class"]
        seeds_by_class.setdefault(key, []).append(str(run_figures["seed"]))
    listed = first_items(
        f"{code(stage)} {'seed' if len(seeds) == 1 else 'seeds'} {', '.join(seeds)} to {quoted(predicted)}"
        for (stage, predicted), seeds in seeds_by_class.items()
    )
    total = sum(len(strategy.runs) for strategy in evidence.strategies)
    text = (
        f"**{len(runs)} of {total} trained classifiers collapsed to one class:** {listed}. Their F1 is not "
        f"informative. {_REMEDY}"
    )
    yield Caveat(name="collapsed", text=text, figures={"runs": runs})


def no_better_than_majority(evidence: Evidence) -> Iterator[Caveat]:
    """Name the strategies whose interval includes the accuracy of always predicting the most frequent class."""
    if not evidence.strategies or not evidence.task.single_class:
        return
    share, name = evidence.majority_class()
    stages = []
    for strategy in evidence.strategies:
        rows = strategy.right.shape[1]
        limits = statistics.proportion_interval(round(float(strategy.right.mean()) * rows), rows)
        if limits.low <= share:
            stages.append(strategy.name)
    if stages:
        text = (
            f"**Always predicting {quoted(name)} is right on {percent(share)} % of the test rows;** "
            f"{first_items(map(code, stages))} {'is' if len(stages) == 1 else 'are'} not clearly better."
        )
        figures = {"majority_accuracy": share, "stages": stages}
        yield Caveat(name="no better than the majority class", text=text, figures=figures)


def constant_answer(evidence: Evidence) -> Iterator[Caveat]:
    """Give the score of the best constant prediction, and the strategies that are not clearly better."""
    train, test = (evidence.data.splits[name].labels for name in ("train", "test"))
    if train is None or test is None or not evidence.strategies:
        return
    constant = evidence.task.constant_answer(train, evidence.data.classes)
    if constant is None:
        return
    scores = np.asarray(evidence.task.scores(constant.prediction, test), dtype=np.float64)
    level = abs(float(scores.mean()))
    prediction = f"the {constant.kind}"
    if constant.names is not None:
        prediction = f"the labels {first_items(map(quoted, constant.names))}" if constant.names else "no label"
    stages = [strategy.name for strategy in evidence.strategies if not _clearly_better(strategy, scores)]
    if stages:
        be = "is" if len(stages) == 1 else "are"
        comparison = f"{first_items(map(code, stages))} {be} not clearly better."
    else:
        comparison = "Every strategy is clearly better."
    text = f"**Always predicting {prediction} {evidence.measure.level(level)}.** {comparison}"
    figures = ConstantBaseline(level=level, answer=constant.kind, stages=stages)
    yield Caveat(name="constant answer", text=text, figures=figures)


def _clearly_better(strategy: Strategy, constant: np.ndarray) -> bool:
    other = np.broadcast_to(constant, strategy.scores.shape)
    comparison = statistics.compare(strategy.scores, other, seed=BOOTSTRAP_SEED, graded=strategy.measure.graded)
    return comparison.interval.low > 0


def collapsed(evidence: Evidence) -> Iterator[Caveat]:
    """Name the seeds that predict (almost) the same number or label set for every row."""
    if evidence.task.single_class:
        return
    runs = [
        {"stage": strategy.name, "seed": run.seed}
        for strategy in evidence.strategies
        for run, predictions in zip(strategy.runs, strategy.predictions, strict=True)
        if _is_constant(strategy, predictions)
    ]
    if runs:
        listed = first_items(f"{code(run['stage'])} seed {run['seed']}" for run in runs)
        total = sum(len(strategy.runs) for strategy in evidence.strategies)
        text = f"**{len(runs)} of {total} trained models predict the same for every test row:** {listed}. {_REMEDY}"
        yield Caveat(name="collapsed", text=text, figures={"runs": runs})


def _is_constant(strategy: Strategy, predictions: np.ndarray) -> bool:
    if strategy.task.numeric:
        return bool(predictions.std() <= _COLLAPSED_SD * strategy.labels.std())
    labels = strategy.labels
    return bool((predictions == predictions[0]).all() and not (labels == labels[0]).all())
