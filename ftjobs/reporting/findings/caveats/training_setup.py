"""Caveats about training: selection of epochs, seeds, poolers, processes and devices."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ftjobs.reporting.findings.caveats.caveat import Caveat, first_items
from ftjobs.reporting.inputs.evidence import Evidence
from ftjobs.reporting.text.phrases import code, count


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
