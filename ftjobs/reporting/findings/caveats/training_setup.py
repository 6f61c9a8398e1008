"""Caveats about training: selection of epochs, seeds, processes and devices."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ftjobs.reporting.findings.caveats.caveat import Caveat, caveat, some
from ftjobs.reporting.inputs.evidence import Evidence
from ftjobs.reporting.text.phrases import code, count


def selection(evidence: Evidence) -> Iterator[Caveat]:
    """Where the best epoch was chosen, and what choosing gained over simply taking the last."""
    if not evidence.strategies:
        return
    by = evidence.measure
    sign = -1 if by.minimize else 1
    gaps = {
        one.name: sign * float(np.mean(one.figures(by.key)) - np.mean(one.figures("last", by.key)))
        for one in evidence.strategies
    }
    rows = len(evidence.data.splits["test"])
    shown = some([f"{code(name)} {by.difference(gap)}" for name, gap in gaps.items()])
    what = by.difference_axis if by.graded else "in points of test accuracy"
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
