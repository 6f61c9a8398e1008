"""Rows for review: largest disagreement first, every pattern of disagreement before any is repeated."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ftjobs.reporting.finding import to_json
from ftjobs.reporting.findings.disagreements import MAX_CHARACTERS, MAX_ROWS, disagreements
from tests.helpers.published import Classifier, Pipeline, guesses

STAGES = {"one": {"kind": "classify"}, "two": {"kind": "classify"}}
#: Ids of test rows start after 100 training and 50 validation rows.
FIRST_ID = 150


def wrong_on(rows: list[int], logit: float = 3.0) -> Classifier:
    """Return a classifier that is wrong on these rows only, with this logit for the other class."""

    def classify(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
        logits = np.zeros((len(labels), 2), np.float32)
        logits[np.arange(len(labels)), labels] = 3.0
        logits[rows] = 0
        logits[rows, 1 - labels[rows]] = logit
        return logits

    return classify


def test_most_confident_disagreement_comes_first(tmp_path: Path) -> None:
    def confident_and_not(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
        logits = wrong_on([3])(rng, labels)
        logits[7] = 0
        logits[7, 1 - labels[7]] = 0.2
        return logits

    classifiers = {"one": confident_and_not, "two": wrong_on([])}
    selection = disagreements(Pipeline(tmp_path, classifiers, stages=STAGES, shared=5).evidence())
    assert selection.rows == 2
    assert [row.id - FIRST_ID for row in selection.examples] == [3, 7]
    first, second = selection.examples
    assert first.texts == ["  TRAIN QUESTION 3", "test question 3 again"]
    assert first.label == "similar"
    assert (first.in_training, second.in_training) == (True, False)
    assert to_json(first.strategies) == [
        {"stage": "one", "predictions": ["different"] * 3, "right": 0, "label_probability": 0.0474},
        {"stage": "two", "predictions": ["similar"] * 3, "right": 3, "label_probability": 0.9526},
    ]


def test_every_pattern_comes_before_any_is_repeated(tmp_path: Path) -> None:
    stages = {**STAGES, "three": {"kind": "classify"}}
    classifiers = {"one": wrong_on(list(range(0, 80, 2))), "two": wrong_on([90], logit=0.1), "three": wrong_on([])}
    selection = disagreements(Pipeline(tmp_path, classifiers, stages=stages).evidence())
    assert selection.rows == 41
    assert len(selection.examples) == MAX_ROWS
    rows = [row.id - FIRST_ID for row in selection.examples]
    assert rows[:2] == [0, 90]  # row 90 has the lowest confidence, but is the only one on which `two` differs
    assert set(rows) - {90} == set(range(0, 38, 2))


def test_single_strategy_shows_its_errors(tmp_path: Path) -> None:
    classifiers = {"one": wrong_on([4, 8], logit=2.0)}
    selection = disagreements(Pipeline(tmp_path, classifiers, stages={"one": STAGES["one"]}).evidence())
    assert (selection.kind, selection.rows) == ("errors", 2)
    assert [row.id - FIRST_ID for row in selection.examples] == [4, 8]


def test_agreeing_strategies_show_no_rows(tmp_path: Path) -> None:
    same = dict.fromkeys(STAGES, wrong_on([2]))
    assert disagreements(Pipeline(tmp_path, same, stages=STAGES).evidence()).examples == []


def test_long_texts_are_shortened_with_their_length(tmp_path: Path) -> None:
    classifiers = {"one": wrong_on([0]), "two": wrong_on([])}
    pipeline = Pipeline(tmp_path, classifiers, stages=STAGES, texts=lambda split, row: f"{row} " * 900)
    (row,) = disagreements(pipeline.evidence()).examples
    assert [len(text) for text in row.texts] == [MAX_CHARACTERS, MAX_CHARACTERS]
    assert row.characters[0] == 1800


def test_100_000_rows_are_analyzed(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, dict.fromkeys(STAGES, guesses(0.8)), stages=STAGES, test=100_000, seeds=[1])
    selection = disagreements(pipeline.evidence())
    assert selection.rows > 10_000
    assert len(selection.examples) == MAX_ROWS
