"""Results of the job's strategies, with the cost of training."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean
from typing import Any

import numpy as np

from ftjobs.reporting.finding import BOOTSTRAP_SEED, Estimate, Finding, Spread, spread
from ftjobs.reporting.inputs import reference_study
from ftjobs.reporting.inputs.evidence import Evidence
from ftjobs.reporting.inputs.reference_study import PublishedResult
from ftjobs.reporting.inputs.runs import Intermediate, Run, Stage, Strategy
from ftjobs.reporting.text.phrases import TIMES

#: Points of a training-loss curve at most, and logged steps averaged in each point at least.
_MAX_POINTS, _MIN_STEPS_PER_POINT = 60, 10


@dataclass(frozen=True, kw_only=True)
class Cost(Finding):
    """Measured cost of training one seed: means over seeds, and the highest peak memory."""

    stage_seconds: float
    """Wall-clock time including loading and evaluation."""
    train_seconds: float
    examples_per_second: float
    """Over training steps alone."""
    peak_memory_bytes: int | None
    peak_memory_of: list[str]
    devices: list[str]


@dataclass(frozen=True, kw_only=True)
class LossCurve(Finding):
    """Training loss by position in epochs."""

    epoch: list[float]
    loss: list[float]


@dataclass(frozen=True, kw_only=True)
class SeedResult(Finding):
    """One strategy with one seed, evaluated on the test split."""

    metric: str
    """Key of the metric that strategies are compared by, such as `accuracy`."""
    score: float
    other_metrics: dict[str, float]
    loss: float
    best_epoch: int
    last: dict[str, float]
    """Metrics after the last epoch."""
    selection_score: float
    """The metric of the best epoch on the split that epochs were selected on."""
    training: LossCurve
    scores_by_epoch: list[float]

    def json_fields(self) -> dict[str, Any]:
        """Name keys after the metric."""
        return {
            self.metric: self.score,
            **self.other_metrics,
            "loss": self.loss,
            "best_epoch": self.best_epoch,
            "last": self.last,
            f"selection_{self.metric}": self.selection_score,
            "training": self.training,
            "epochs": {self.metric: self.scores_by_epoch},
        }


@dataclass(frozen=True, kw_only=True)
class StrategyResult(Finding):
    """One strategy over all its seeds, evaluated on the test split."""

    stage: str
    adapted: bool
    frozen: bool
    metric: str
    score: Estimate
    other_metrics: dict[str, Spread]
    best_epochs: list[int]
    last_epoch_score: Spread
    selected_on: str
    selection_score: Spread
    parameters: dict[str, int] | None
    """`trained` and `all`, where only part of the encoder was trained."""
    epochs_run: list[int] | None
    epochs_planned: int | None
    """Both only where the stage has early stopping."""
    cost: Cost
    seeds: dict[str, SeedResult]
    published: PublishedResult | None
    """The reference study's figures for this strategy."""

    def json_fields(self) -> dict[str, Any]:
        """Name keys after the metric."""
        fields: dict[str, Any] = {
            "stage": self.stage,
            "adapted": self.adapted,
            "frozen": self.frozen,
            self.metric: self.score,
            **self.other_metrics,
            "best_epochs": self.best_epochs,
            f"last_epoch_{self.metric}": self.last_epoch_score,
            "selected_on": self.selected_on,
            f"selection_{self.metric}": self.selection_score,
        }
        if self.parameters is not None:
            fields["parameters"] = self.parameters
        if self.epochs_run is not None:
            fields |= {"epochs_run": self.epochs_run, "epochs_planned": self.epochs_planned}
        return fields | {"cost": self.cost, "seeds": self.seeds, "published": self.published}


def strategy_results(evidence: Evidence) -> list[StrategyResult]:
    """Return one result per strategy, in the order of the job file."""
    published = reference_study.published_results(evidence)
    return [_strategy_result(evidence, strategy, published.get(strategy.name)) for strategy in evidence.strategies]


def score_estimate(stage: Strategy | Intermediate, labels: np.ndarray) -> Estimate:
    """Return the test score of a stage: mean and standard deviation over seeds, and the 95 % interval of the mean."""
    over_seeds = spread(stage.figures(stage.task.measure.key))
    interval = stage.task.interval(stage.predictions, labels, seed=BOOTSTRAP_SEED)
    return Estimate(mean=over_seeds.mean, sd=over_seeds.sd, interval=(interval.low, interval.high))


def training_cost(stage: Stage) -> Cost:
    """Return the measured cost of training one seed."""
    timings = [run.timing for run in stage.runs]
    peak_memory = [timing["peak_memory_bytes"] for timing in timings if "peak_memory_bytes" in timing]
    return Cost(
        stage_seconds=mean(timing["stage_seconds"] for timing in timings),
        train_seconds=mean(timing["train_seconds"] for timing in timings),
        examples_per_second=mean(timing["examples_per_second"] for timing in timings),
        peak_memory_bytes=max(peak_memory) if peak_memory else None,
        peak_memory_of=sorted({timing["peak_memory_of"] for timing in timings if "peak_memory_of" in timing}),
        devices=sorted({_device(timing) for timing in timings}),
    )


def _device(timing: dict[str, Any]) -> str:
    processes = f"{timing['processes']} {TIMES} " if timing["processes"] > 1 else ""
    precision = "" if timing["mixed_precision"] == "no" else f", {timing['mixed_precision']}"
    return f"{processes}{timing['device']}{precision}"


def _strategy_result(evidence: Evidence, strategy: Strategy, published: PublishedResult | None) -> StrategyResult:
    measure = strategy.measure
    epochs_run, epochs_planned = early_stopping(strategy)
    return StrategyResult(
        stage=strategy.name,
        adapted=evidence.is_adapted(strategy.name),
        frozen=strategy.settings["freeze_encoder"],
        metric=measure.key,
        score=score_estimate(strategy, strategy.labels),
        other_metrics={name: spread(strategy.figures(name)) for name, _ in measure.others},
        best_epochs=strategy.best_epochs,
        last_epoch_score=spread(strategy.figures("last", measure.key)),
        selected_on=strategy.selected_on,
        selection_score=spread(strategy.selection),
        parameters=trained_parameters(strategy),
        epochs_run=epochs_run,
        epochs_planned=epochs_planned,
        cost=training_cost(strategy),
        seeds={
            str(run.seed): _seed_result(strategy, run, selection_score)
            for run, selection_score in zip(strategy.runs, strategy.selection, strict=True)
        },
        published=published,
    )


def _seed_result(strategy: Strategy, run: Run, selection_score: float) -> SeedResult:
    metric = strategy.measure.key
    return SeedResult(
        metric=metric,
        score=run.metrics[metric],
        other_metrics={name: run.metrics[name] for name, _ in strategy.measure.others},
        loss=run.metrics["loss"],
        best_epoch=run.metrics["best_epoch"],
        last=run.metrics["last"],
        selection_score=selection_score,
        training=_training_curve(run),
        scores_by_epoch=[record["test"][metric] for record in run.metrics["epochs"]],
    )


def trained_parameters(stage: Stage) -> dict[str, int] | None:
    """Return `trained` and `all` parameters of a stage that trains part of the encoder, otherwise None."""
    parameters: dict[str, int] | None = stage.runs[0].metrics.get("parameters")
    return parameters


def early_stopping(stage: Stage) -> tuple[list[int] | None, int | None]:
    """Return the epochs that each seed ran, and the planned number; None for both without early stopping."""
    if stage.settings.get("early_stopping") is None:
        return None, None
    return [run.metrics["epochs_run"] for run in stage.runs], stage.settings["epochs"]


def _training_curve(run: Run) -> LossCurve:
    """Average the logged losses in equal parts of the training.

    A part holds enough steps to average out noise. With fewer parts than epochs, return the mean of each epoch instead.
    """
    epochs = run.metrics["epochs"]
    positions, losses = run.step_losses
    points = min(_MAX_POINTS, len(losses) // _MIN_STEPS_PER_POINT)
    if points <= len(epochs):
        return LossCurve(epoch=[record["epoch"] for record in epochs], loss=[record["train_loss"] for record in epochs])
    parts = np.array_split(np.arange(len(losses)), points)
    return LossCurve(
        epoch=[round(float(positions[part].mean()), 4) for part in parts],
        loss=[round(float(losses[part].mean()), 6) for part in parts],
    )
