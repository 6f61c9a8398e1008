"""Predictions of the strategies decide hypotheses, and whether adapting pays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftjobs.reporting.findings.hypotheses import does_adapting_pay, hypothesis_results
from tests.helpers.published import BETTER, SAME, STAGES, Pipeline, guesses

FOUR = {name: guesses(0.6 + number / 20) for number, name in enumerate(STAGES)}


def test_differences_and_pairs_are_those_of_the_predictions(tmp_path: Path) -> None:
    evidence = Pipeline(tmp_path, FOUR, hypotheses=["behavioural > head by 0.01"]).evidence()
    (result,) = hypothesis_results(evidence)
    first, second = evidence.strategy("behavioural").right, evidence.strategy("head").right
    np.testing.assert_allclose(result.difference, first.mean() - second.mean(), atol=1e-12)
    assert result.hypothesis == "behavioural > head by 0.01"
    assert list(result.seeds) == ["1", "2", "3"]
    assert result.seeds["2"].only_better == int((first[1] & ~second[1]).sum())
    assert result.seeds["2"].only_worse == int((second[1] & ~first[1]).sum())
    assert result.p_value <= result.adjusted_p_value


def test_only_undecided_hypotheses_give_required_evidence(tmp_path: Path) -> None:
    same = dict.fromkeys(FOUR, guesses(0.7))
    classifiers = {**same, "adapted-behavioural": guesses(0.95), "behavioural": guesses(0.73)}
    stated = ["behavioural > head", "adapted-behavioural > head"]
    pipeline = Pipeline(tmp_path, classifiers, hypotheses=stated, test=400)
    undecided, decided = hypothesis_results(pipeline.evidence())
    assert (undecided.verdict, decided.verdict) == ("undecided", "supported")
    assert decided.needed is None
    assert undecided.needed is not None
    assert undecided.needed.more_seeds is None or undecided.needed.more_seeds > 0
    assert undecided.needed.more_seeds or undecided.needed.more_examples


@pytest.mark.parametrize(
    ("classifiers", "verdict"),
    [
        (BETTER, "supported"),
        (SAME, "undecided"),
        ({**BETTER, "adapted-head": guesses(0.4), "adapted-behavioural": guesses(0.5)}, "contradicted"),
    ],
)
def test_adapted_strategies_are_compared_with_their_counterparts(
    tmp_path: Path, classifiers: dict[str, Any], verdict: str
) -> None:
    evidence = Pipeline(tmp_path, classifiers, test=1_000).evidence()
    comparisons = does_adapting_pay(evidence, [])
    assert [(entry.better, entry.worse, entry.verdict) for entry in comparisons] == [
        ("adapted-head", "head", verdict),
        ("adapted-behavioural", "behavioural", verdict),
    ]
    assert not any(entry.stated or entry.intermediate for entry in comparisons)


def test_stated_hypothesis_replaces_the_comparison(tmp_path: Path) -> None:
    stated = ["adapted-head > head by 0.5", "behavioural > head"]
    findings = Pipeline(tmp_path, BETTER, test=1_000, hypotheses=stated).findings()
    first, second = findings.does_adapting_pay
    assert (first.stated, first.margin, first.verdict) == (True, 0.5, "contradicted")
    assert (second.stated, second.margin, second.verdict) == (False, 0.0, "supported")


def test_counterpart_has_fewest_other_differences(tmp_path: Path) -> None:
    stages = {
        "adapt": {"kind": "adapt"},
        "long": {"kind": "classify", "epochs": 9, "learning_rate": 1e-4},
        "plain": {"kind": "classify", "epochs": 9},
        "frozen": {"kind": "classify", "freeze_encoder": True},
        "adapted": {"kind": "classify", "encoder": "adapt", "epochs": 8},
    }
    evidence = Pipeline(tmp_path, dict.fromkeys(stages, guesses(0.7)), stages=stages).evidence()
    (entry,) = does_adapting_pay(evidence, [])
    assert (entry.better, entry.worse, entry.also_differ_in) == ("adapted", "plain", ["epochs"])


def test_different_numbers_of_processes_count_as_difference(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, dict.fromkeys(STAGES, guesses(0.7)))
    for seed in (1, 2, 3):
        pipeline.update("adapted-head", seed, "timing.json", processes=8)
    differences = {entry.better: entry.also_differ_in for entry in does_adapting_pay(pipeline.evidence(), [])}
    assert differences == {"adapted-head": ["--num-processes"], "adapted-behavioural": []}


def test_job_without_adapted_strategy_has_no_comparison(tmp_path: Path) -> None:
    stages = {"head": STAGES["head"], "behavioural": STAGES["behavioural"]}
    assert does_adapting_pay(Pipeline(tmp_path, BETTER, stages=stages).evidence(), []) == []
