"""The recommended checkpoint: the best strategy by selection score, and the strategies equivalent to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import mean
from typing import Any

from ftjobs import statistics
from ftjobs.artifacts import Manifest
from ftjobs.reporting.finding import BOOTSTRAP_SEED, OPTIONAL, Finding, Interval
from ftjobs.reporting.findings.adaptations import comparable_bits
from ftjobs.reporting.inputs.evidence import Evidence
from ftjobs.reporting.inputs.runs import Run, Strategy


@dataclass(frozen=True, kw_only=True)
class EquivalentStrategy(Finding):
    """A strategy whose difference from the recommended one has an interval that includes zero."""

    stage: str
    difference: float
    interval: Interval


@dataclass(frozen=True, kw_only=True)
class Recommendation(Finding):
    """The checkpoint to ship."""

    stage: str
    seed: int
    chosen_on: str
    """The split that the choice was made on."""
    artifact: str


@dataclass(frozen=True, kw_only=True)
class ClassifierRecommendation(Recommendation):
    """A strategy of the job."""

    metric: str
    score: float
    """Of the recommended seed on the test split."""
    interval: Interval
    selection_mean: float
    """Mean over seeds on the split that the choice was made on."""
    selection_seed: float
    level_with: list[EquivalentStrategy]
    simplest_of_these: str

    def json_fields(self) -> dict[str, Any]:
        """Name keys after the metric."""
        return {
            "kind": "classifier",
            "stage": self.stage,
            "seed": self.seed,
            self.metric: self.score,
            "interval": self.interval,
            "chosen_on": self.chosen_on,
            f"selection_{self.metric}": {"stage": self.selection_mean, "seed": self.selection_seed},
            "level_with": self.level_with,
            "simplest_of_these": self.simplest_of_these,
            "artifact": self.artifact,
        }


@dataclass(frozen=True, kw_only=True)
class EncoderRecommendation(Recommendation):
    """An adapted encoder, of a job without strategies."""

    loss: float
    perplexity: float
    bits_per_character: float | None = field(default=None, metadata=OPTIONAL)

    def json_fields(self) -> dict[str, Any]:
        """Add `kind`."""
        return {"kind": "encoder", **super().json_fields()}


@dataclass(frozen=True, kw_only=True)
class IntermediateRecommendation(Recommendation):
    """A classify stage on its own data, of a job that has no other stages."""

    metric: str
    score: float
    label_type: str

    def json_fields(self) -> dict[str, Any]:
        """Add `kind` and name the score after the metric."""
        json_fields = super().json_fields()
        return {
            "kind": "classifier of its own data",
            json_fields.pop("metric"): json_fields.pop("score"),
            **json_fields,
        }


def to_ship(evidence: Evidence, published: dict[str, Manifest]) -> Recommendation:
    """Recommend a checkpoint.

    The strategy with the best mean selection score over seeds and, of its seeds, the one with the best. Ties go to the
    strategy with the least training effort, then to the first in the job file. The selection score is measured on the
    validation split, or on the test split of a job without one.

    A job without strategies ships the adapted encoder with the lowest loss on held-out text; a job whose stages all
    have their own data ships the first of them.
    """
    if evidence.adaptations and not evidence.strategies:
        return _encoder_to_ship(evidence, published)
    if not evidence.strategies:
        return _intermediate_to_ship(evidence, published)
    ranked = sorted(evidence.strategies, key=lambda strategy: (strategy.rank, _effort(evidence, strategy)))
    best = ranked[0]
    sign = -1 if best.measure.minimize else 1
    position = max(range(len(best.runs)), key=lambda index: sign * best.selection[index])
    run = best.runs[position]
    equivalent = [other for strategy in ranked[1:] if (other := _equivalent(best, strategy)) is not None]
    candidates = [best, *(evidence.strategy(other.stage) for other in equivalent)]
    return ClassifierRecommendation(
        stage=best.name,
        seed=run.seed,
        chosen_on=best.selected_on,
        artifact=published[f"{best.name}/seed-{run.seed}"].key,
        metric=best.measure.key,
        score=run.metrics[best.measure.key],
        interval=_seed_interval(best, position),
        selection_mean=mean(best.selection),
        selection_seed=best.selection[position],
        level_with=equivalent,
        simplest_of_these=min(candidates, key=lambda strategy: _effort(evidence, strategy)).name,
    )


def _seed_interval(strategy: Strategy, position: int) -> Interval:
    """Return the interval of one seed's score."""
    interval = strategy.task.interval(strategy.predictions[[position]], strategy.labels, seed=BOOTSTRAP_SEED)
    return interval.low, interval.high


def _encoder_to_ship(evidence: Evidence, published: dict[str, Manifest]) -> EncoderRecommendation:
    """Recommend the lowest loss on the job's held-out texts, or the fewest bits per character between vocabularies.

    Held-out texts of corpora are not used: they differ between stages.
    """
    candidates = [(stage, run, _task_metric(run, "loss")) for stage in evidence.adaptations for run in stage.runs]
    bits = [comparable_bits(evidence, stage, run.metrics["best"]["loss"]) for stage, run, _ in candidates]
    values = [loss if value is None else value for value, (*_, loss) in zip(bits, candidates, strict=True)]
    best = min(range(len(candidates)), key=lambda index: (bits[index] is None, values[index]))
    stage, run, loss = candidates[best]
    return EncoderRecommendation(
        stage=stage.name,
        seed=run.seed,
        chosen_on=evidence.selected_on if "task_loss" in run.metrics["best"] else run.metrics["evaluated_on"],
        artifact=published[f"{stage.name}/seed-{run.seed}"].key,
        loss=loss,
        perplexity=_task_metric(run, "perplexity"),
        bits_per_character=bits[best],
    )


def _task_metric(run: Run, name: str) -> float:
    """Return a metric on the job's held-out texts, for stages with their own corpus and for others."""
    best: dict[str, float] = run.metrics["best"]
    return best.get(f"task_{name}", best[name])


def _intermediate_to_ship(evidence: Evidence, published: dict[str, Manifest]) -> IntermediateRecommendation:
    """Recommend the first stage: scores on different data are not comparable."""
    stage = evidence.intermediate[0]
    measure = stage.task.measure
    sign = -1 if measure.minimize else 1
    run = max(stage.runs, key=lambda run: sign * run.best[run.metrics["selected_on"]][measure.key])
    return IntermediateRecommendation(
        stage=stage.name,
        seed=run.seed,
        chosen_on=run.metrics["selected_on"],
        artifact=published[f"{stage.name}/seed-{run.seed}"].key,
        metric=measure.key,
        score=run.metrics[measure.key],
        label_type=stage.task.name,
    )


def _equivalent(best: Strategy, other: Strategy) -> EquivalentStrategy | None:
    """Return the difference between two strategies if its interval includes zero."""
    comparison = statistics.compare(best.scores, other.scores, seed=BOOTSTRAP_SEED, graded=best.measure.graded)
    low, high = comparison.interval.low, comparison.interval.high
    if not low <= 0 <= high:
        return None
    return EquivalentStrategy(stage=other.name, difference=comparison.difference, interval=(low, high))


def _effort(evidence: Evidence, strategy: Strategy) -> tuple[int, int]:
    """Order strategies by training effort: stages that they build on, then head only, part of the encoder, all of
    it."""
    in_part = bool(strategy.settings.get("lora")) or strategy.settings.get("unfreeze", "all") != "all"
    return len(evidence.lineage(strategy.name)), 0 if strategy.settings["freeze_encoder"] else 1 if in_part else 2
