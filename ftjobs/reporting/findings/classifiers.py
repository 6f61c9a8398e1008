"""Results of classify stages: the strategies of the job, and intermediate tasks on their own data."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

import numpy as np

from ftjobs.data.overlap import measure_overlap, shares_text, text_keys
from ftjobs.reporting.inputs import reference_study
from ftjobs.reporting.inputs.evidence import Evidence
from ftjobs.reporting.inputs.runs import Intermediate, Run, Stage, Strategy
from ftjobs.reporting.text.phrases import TIMES

#: Of the bootstrap, so that a report is the same every time it is made.
SEED = 0


#: Parts that the logged steps of a training are divided into to draw its loss, and the fewest steps in one.
_MOST_PARTS, _STEPS_IN_PART = 60, 10


def results(evidence: Evidence) -> list[dict[str, Any]]:
    """One entry per classify stage, in the job's order."""
    published = reference_study.published(evidence)
    return [{**_result(evidence, one), "published": published.get(one.name)} for one in evidence.strategies]


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Mean, and standard deviation over seeds where there are two or more."""
    return {"mean": mean(values), "sd": stdev(values) if len(values) > 1 else None}


def compared(stage: Strategy | Intermediate, labels: np.ndarray) -> dict[str, Any]:
    """Test accuracy, or mean squared error: mean, s.d. over seeds, and the 95 % interval of the mean."""
    interval = stage.task.interval(stage.predictions, labels, seed=SEED)
    return {**spread(stage.figures(stage.task.measure.key)), "interval": [interval.low, interval.high]}


def cost(stage: Stage) -> dict[str, Any]:
    """What training one seed took: means over seeds, the highest memory, and where it ran. Measured."""
    timings = [run.timing for run in stage.runs]
    memory = [one["peak_memory_bytes"] for one in timings if "peak_memory_bytes" in one]
    return {
        "stage_seconds": mean(one["stage_seconds"] for one in timings),
        "train_seconds": mean(one["train_seconds"] for one in timings),
        "examples_per_second": mean(one["examples_per_second"] for one in timings),
        "peak_memory_bytes": max(memory) if memory else None,
        "peak_memory_of": sorted({one["peak_memory_of"] for one in timings if "peak_memory_of" in one}),
        "devices": sorted({_device(one) for one in timings}),
    }


def _device(timing: dict[str, Any]) -> str:
    processes = f"{timing['processes']} {TIMES} " if timing["processes"] > 1 else ""
    precision = "" if timing["mixed_precision"] == "no" else f", {timing['mixed_precision']}"
    return f"{processes}{timing['device']}{precision}"


def _result(evidence: Evidence, strategy: Strategy) -> dict[str, Any]:
    measure = strategy.measure
    others = [name for name, _ in measure.others]
    return {
        "stage": strategy.name,
        "adapted": evidence.is_adapted(strategy.name),
        "frozen": strategy.settings["freeze_encoder"],
        measure.key: compared(strategy, strategy.labels),
        **{name: spread(strategy.figures(name)) for name in others},
        "best_epochs": strategy.figures("best_epoch"),
        f"last_epoch_{measure.key}": spread(strategy.figures("last", measure.key)),
        "selected_on": strategy.selected_on,
        f"selection_{measure.key}": spread(strategy.selection),
        **trained_parameters(strategy),
        **early_stopping(strategy),
        "cost": cost(strategy),
        "seeds": {
            str(run.seed): {
                **{key: run.metrics[key] for key in (measure.key, *others, "loss", "best_epoch", "last")},
                f"selection_{measure.key}": selected,
                "training": _training_curve(run),
                "epochs": {
                    measure.key: [record["test"][measure.key] for record in run.metrics["epochs"]],
                },
            }
            for run, selected in zip(strategy.runs, strategy.selection, strict=True)
        },
    }


def trained_parameters(stage: Stage) -> dict[str, Any]:
    """How many parameters it trained, and of how many, where these are not all, or the head alone; else nothing."""
    metrics = stage.runs[0].metrics
    return {"parameters": metrics["parameters"]} if "parameters" in metrics else {}


def early_stopping(stage: Stage) -> dict[str, Any]:
    """Epochs that each seed ran, and those that were planned, where a stage may stop early; else nothing."""
    if stage.settings.get("early_stopping") is None:
        return {}
    return {"epochs_run": stage.figures("epochs_run"), "epochs_planned": stage.settings["epochs"]}


def _training_curve(run: Run) -> dict[str, list[float]]:
    """Training loss by `epoch`, as far as training had come: means of even parts of the steps that were logged. A part
    has enough of them to be more than noise; where that leaves no more parts than epochs, the means of whole epochs."""
    epochs = run.metrics["epochs"]
    positions, losses = run.step_losses
    number = min(_MOST_PARTS, len(losses) // _STEPS_IN_PART)
    if number <= len(epochs):
        return {"epoch": [record["epoch"] for record in epochs], "loss": [record["train_loss"] for record in epochs]}
    parts = np.array_split(np.arange(len(losses)), number)
    return {
        "epoch": [round(float(positions[part].mean()), 4) for part in parts],
        "loss": [round(float(losses[part].mean()), 6) for part in parts],
    }


def intermediate(evidence: Evidence) -> list[dict[str, Any]]:
    """One entry per classify stage on data of its own: its data, its figures there, and who takes its encoder.

    `overlap`: texts and rows of the job's test split that also stand in the training data of this task, with the
    accuracy of the strategies that build on it on the rows that do (`in_training`) and on the others (`new`).
    """
    return [_entry(evidence, one) for one in evidence.intermediate]


def _entry(evidence: Evidence, one: Intermediate) -> dict[str, Any]:
    measure, labels = one.task.measure, one.data.splits["test"].labels
    assert labels is not None, "the job file's checks let no classify stage through without labels"
    readers = [strategy for strategy in evidence.strategies if one.name in evidence.lineage(strategy.name)]
    return {
        "stage": one.name,
        "data_stage": evidence.report.own_data[one.name],
        "rows": one.summary["rows"],
        "classes": one.data.classes,
        "provenance": one.summary["provenance"],
        "label_type": one.task.name,
        measure.key: compared(one, labels),
        **{name: spread(one.figures(name)) for name, _ in measure.others},
        "best_epochs": one.figures("best_epoch"),
        "selected_on": one.runs[0].metrics["selected_on"],
        "cost": cost(one),
        "taken_by": [strategy.name for strategy in readers],
        "overlap": _overlap(evidence, one, readers),
    }


def _overlap(evidence: Evidence, one: Intermediate, readers: list[Strategy]) -> dict[str, Any]:
    train, test = text_keys(one.data.splits["train"].columns), text_keys(evidence.data.splits["test"].columns)
    rows = shares_text(train, test)
    return {
        **measure_overlap(train, test),
        "accuracy": {
            strategy.name: {
                "in_training": abs(float(strategy.scores[:, rows].mean())) if rows.any() else None,
                "new": abs(float(strategy.scores[:, ~rows].mean())) if not rows.all() else None,
            }
            for strategy in readers
        },
    }
