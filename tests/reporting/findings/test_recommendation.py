"""The recommended checkpoint has the best selection score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ftjobs.reporting.findings.recommendation import (
    ClassifierRecommendation,
    EncoderRecommendation,
    to_ship,
)
from ftjobs.reporting.inputs.evidence import Evidence
from tests.helpers.published import BETTER, SAME, Pipeline, guesses


def set_validation_accuracy(evidence: Evidence, **by_strategy: float) -> None:
    """Replace the validation accuracy of the best epoch; 0.5 for strategies that are not named."""
    for strategy in evidence.strategies:
        for run in strategy.runs:
            accuracy = by_strategy.get(strategy.name, 0.5) + run.seed / 100
            run.best["validation"] = {**run.best["validation"], "accuracy": accuracy}


def recommended(evidence: Evidence, pipeline: Pipeline) -> ClassifierRecommendation:
    recommendation = to_ship(evidence, pipeline.published())
    assert isinstance(recommendation, ClassifierRecommendation)
    return recommendation


def test_job_without_strategies_ships_encoder_with_lowest_loss(tmp_path: Path) -> None:
    stages = {"adapt": {"kind": "adapt"}}
    findings = Pipeline(tmp_path, {}, stages=stages, classes=(), pairs=False, seeds=[3, 1, 2]).findings()
    assert isinstance(findings.to_ship, EncoderRecommendation)
    assert (findings.to_ship.stage, findings.to_ship.seed) == ("adapt", 1)


def test_validation_scores_choose_strategy_and_seed(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, BETTER)
    evidence = pipeline.evidence()
    set_validation_accuracy(evidence, head=0.9)  # the worst strategy on the test split
    shipped = recommended(evidence, pipeline)
    assert (shipped.stage, shipped.seed, shipped.chosen_on) == ("head", 3, "validation")
    assert (shipped.selection_mean, shipped.selection_seed) == (pytest.approx(0.92), 0.93)
    assert shipped.score == evidence.strategy("head").runs[2].metrics["accuracy"]
    assert shipped.interval[0] < shipped.score < shipped.interval[1]
    assert shipped.artifact == next(run.key for run in pipeline.runs if (run.stage, run.seed) == ("head", 3))


def test_choice_on_test_split_is_recorded(tmp_path: Path) -> None:
    assert Pipeline(tmp_path, BETTER, validation=0).findings().to_ship.chosen_on == "test"


def test_equivalent_strategies_are_listed_with_the_simplest(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, {**SAME, "head": guesses(0.2)}, test=500)
    shipped = recommended(pipeline.evidence(), pipeline)
    equivalent = {other.stage for other in shipped.level_with} | {shipped.stage}
    assert equivalent == {"behavioural", "adapted-head", "adapted-behavioural"}
    assert shipped.simplest_of_these == "behavioural"
    assert all(other.interval[0] <= 0 <= other.interval[1] for other in shipped.level_with)


def test_tie_goes_to_the_simplest_strategy(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, SAME)
    evidence = pipeline.evidence()
    set_validation_accuracy(evidence)
    assert recommended(evidence, pipeline).stage == "head"


@pytest.mark.parametrize("part", [{"lora": {"rank": 8, "alpha": 16}}, {"unfreeze": "last-2"}])
def test_training_part_of_the_encoder_is_simpler_than_all_of_it(tmp_path: Path, part: dict[str, Any]) -> None:
    pipeline = Pipeline(tmp_path, SAME)
    evidence = pipeline.evidence()
    set_validation_accuracy(evidence)
    # Both train the original encoder; `head` comes first in the job file.
    evidence.strategy("head").settings["freeze_encoder"] = False
    evidence.strategy("behavioural").settings.update(part)
    assert recommended(evidence, pipeline).stage == "behavioural"
