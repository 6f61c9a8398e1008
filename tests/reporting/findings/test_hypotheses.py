"""Hypotheses are decided by the predictions of the strategies."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ftjobs.reporting.findings.hypotheses import hypothesis_results
from tests.helpers.published import STAGES, Pipeline, guesses

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
