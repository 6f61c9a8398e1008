"""All that a report is made of, read once and side by side."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ftjobs.data import prepared
from ftjobs.data.corpora import curation
from ftjobs.data.corpora.curation import CorpusRecord
from ftjobs.data.overlap import shares_text, text_keys
from ftjobs.data.prepared import DataSummary, PreparedData
from ftjobs.plan import Report
from ftjobs.reporting.inputs.runs import Intermediate, Run, Stage, Strategy, read_predictions, read_run
from ftjobs.tasks import Task
from ftjobs.tasks.measures import Measure


@dataclass(frozen=True)
class Evidence:
    """All that a report is made of."""

    report: Report
    data: PreparedData
    summary: DataSummary
    """What `prepare` found out about the data and the encoder."""
    strategies: list[Strategy]
    adaptations: list[Stage]
    intermediate: list[Intermediate]
    corpora: dict[str, CorpusRecord] = field(default_factory=dict)
    """By the stage that brought it, the record of a corpus that stages have to themselves."""

    @property
    def seeds(self) -> list[int]:
        """The job's seeds."""
        return list(self.report.job["seeds"])

    @property
    def task(self) -> Task:
        """The task of the job's data."""
        return self.data.task

    @property
    def measure(self) -> Measure:
        """The measure by which strategies are compared."""
        return self.task.measure

    @property
    def selected_on(self) -> str:
        """The split that best epochs were chosen on: `validation`, or `test` where there is no other."""
        return self.data.selection_split

    @cached_property
    def in_training(self) -> np.ndarray:
        """bool (N,): test rows with at least one text that also stands in training, compared normalised."""
        train, test = (text_keys(self.data.splits[name].columns) for name in ("train", "test"))
        return shares_text(train, test)

    def lineage(self, name: str) -> list[str]:
        """The stages whose encoders a stage builds on, the nearest first."""
        found: list[str] = []
        stages = self.report.job["stages"]
        while (encoder := stages[name].get("encoder")) is not None:
            found.append(name := encoder)
        return found

    def is_adapted(self, name: str, to_texts: bool = False) -> bool:
        """Whether a stage builds on an encoder that was adapted to texts of the domain, or (unless only that is asked
        for) trained on an intermediate task."""
        stages, own = self.report.job["stages"], () if to_texts else self.report.own_data
        return any(stages[one]["kind"] == "adapt" or one in own for one in self.lineage(name))

    def strategy(self, name: str) -> Strategy:
        """The classify stage of this name."""
        return next(one for one in self.strategies if one.name == name)


def read(report: Report, inputs: dict[str, Path]) -> Evidence:
    """Read the folders of `prepare` and of every `<stage>/seed-<n>`.

    Raises:
        CorruptArtifact: the predictions of a stage are not about the rows that `prepare` published.
    """
    folder = inputs["prepare"] / "data"
    data = prepared.read(folder)
    strategies: list[Strategy] = []
    adaptations: list[Stage] = []
    intermediate: list[Intermediate] = []
    for name in report.stages:
        settings = report.job["stages"][name]
        runs = [read_run(inputs[f"{name}/seed-{seed}"], seed) for seed in report.job["seeds"]]
        if settings["kind"] == "adapt":
            adaptations.append(Stage(name, settings, runs))
            continue
        if name in report.own_data:
            intermediate.append(_intermediate(name, settings, runs, inputs[report.own_data[name]] / "data"))
            continue
        predictions = np.stack([read_predictions(name, run, data) for run in runs])
        labels = data.splits["test"].labels
        assert labels is not None, "the job file's checks let no classify stage through without labels"
        strategies.append(Strategy(name, settings, runs, predictions, labels, data.classes, data.label_type))
    summary = prepared.read_summary(folder)
    records = {name: curation.read_record(inputs[name] / "corpus") for name in dict.fromkeys(report.corpora.values())}
    return Evidence(report, data, summary, strategies, adaptations, intermediate, records)


def _intermediate(name: str, settings: dict[str, Any], runs: list[Run], folder: Path) -> Intermediate:
    data = prepared.read(folder)
    predictions = np.stack([read_predictions(name, run, data) for run in runs])
    return Intermediate(name, settings, runs, data, prepared.read_summary(folder), predictions)
