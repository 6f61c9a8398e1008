"""Caveats about how models were trained and chosen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ftjobs import statistics
from ftjobs.reporting.caveats.caveat import Caveat, caveat, majority, some
from ftjobs.reporting.evidence import Evidence
from ftjobs.reporting.phrases import code, count, percent, quoted

#: A share of predictions in one class from which on a seed counts as collapsed.
_COLLAPSED = 0.99


def selection(evidence: Evidence) -> Iterator[Caveat]:
    """Where the best epoch was chosen, and what choosing gained over simply taking the last."""
    if not evidence.strategies:
        return
    by = evidence.measure
    gaps = {
        one.name: float(np.mean(one.figures(by.key)) - np.mean(one.figures("last", by.key))) * (-1 if by.graded else 1)
        for one in evidence.strategies
    }
    rows = len(evidence.data.splits["test"])
    shown = some([f"{code(name)} {by.difference(gap)}" for name, gap in gaps.items()])
    what = "how much lower the mean squared error on test rows is" if by.graded else "in points of test accuracy"
    gap = f"Best epoch against last epoch, {what}: {shown}."
    if evidence.selected_on == "test":
        text = (
            f"**The best epoch was chosen on the same {rows:,} test rows that it is reported on,** so the figures are "
            f"optimistic. {gap} `data.split.validation_fraction` gives a split to choose on."
        )
    else:
        validation = len(evidence.data.splits["validation"])
        text = (
            f"**The best epoch was chosen on {count(validation, 'validation row')},** not on the test rows it is "
            f"reported on. {gap}"
        )
    yield caveat("selection", text, selected_on=evidence.selected_on, best_minus_last=gaps)


def one_seed(evidence: Evidence) -> Iterator[Caveat]:
    """A single seed."""
    if len(evidence.seeds) > 1:
        return
    yield caveat(
        "one seed",
        f"**One seed ({evidence.seeds[0]}).** Intervals and verdicts are about these trained models only: they say "
        "what other test rows would do, and not what another run of the same training would. "
        "Give `seeds` three or more.",
        seeds=evidence.seeds,
    )


def collapsed(evidence: Evidence) -> Iterator[Caveat]:
    """Seeds that (nearly) always predict the same class, though the labels do not."""
    found: list[dict[str, Any]] = []
    if evidence.label_type != "class":
        return
    for one in evidence.strategies:
        for run, predictions in zip(one.runs, one.predictions, strict=True):
            shares = np.bincount(predictions, minlength=len(one.classes)) / len(predictions)
            label_share = np.bincount(one.labels, minlength=len(one.classes)).max() / len(one.labels)
            if shares.max() >= _COLLAPSED > label_share:
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
    if not evidence.strategies or evidence.label_type != "class":
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


def untrained_pooler(evidence: Evidence) -> Iterator[Caveat]:
    """Frozen encoders whose checkpoint had no pooler: part of the encoder was made up and trained with the head."""
    found = [
        one.name
        for one in evidence.strategies
        if one.settings["freeze_encoder"] and any("pooler" in name for name in one.runs[0].metrics["newly_initialised"])
    ]
    if found:
        yield caveat(
            "new pooler",
            f"**The checkpoint has no pooler,** so {some(map(code, found))} trained one from random weights as part "
            "of the head; the frozen head is larger than a linear layer.",
            stages=found,
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


def several_processes(evidence: Evidence) -> Iterator[Caveat]:
    """Trainings on several processes, whose steps take more examples than the job file says of one."""
    stages = [*evidence.strategies, *evidence.intermediate, *evidence.adaptations]
    numbers = {one.name: one.processes for one in stages}
    different = sorted({number for those in numbers.values() for number in those})
    if not different or different == [1]:
        return
    batch = "A step takes `per_device_batch_size` examples on each process"
    if len(different) == 1:
        text = f"**Every stage was trained on {different[0]} processes.** {batch}: on fewer, it is another training."
    else:
        shown = some(f"{code(name)} {' and '.join(map(str, those))}" for name, those in numbers.items())
        text = (
            f"**Not all were trained on the same number of processes:** {shown}. {batch}, so a difference between "
            "them may be one of batch sizes."
        )
    yield caveat("several processes", text, processes=numbers)


def different_machines(evidence: Evidence) -> Iterator[Caveat]:
    """Times can only be compared when they were measured on the same kind of device."""
    stages = [*evidence.strategies, *evidence.intermediate, *evidence.adaptations]
    devices = sorted({f"{r.timing['device']} ({r.timing['mixed_precision']})" for one in stages for r in one.runs})
    if len(devices) > 1:
        yield caveat(
            "different devices",
            f"**Not all stages ran on the same device:** {', '.join(devices)}. Times cannot be compared.",
            devices=devices,
        )
