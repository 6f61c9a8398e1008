"""Rows shown to a person: those on which strategies differ, each way of differing first, and only so many."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ftjobs.reporting.findings.disagreements import CHARACTERS, ROWS, disagreements
from tests.helpers.published import Classifier, Pipeline, guesses

STAGES = {"one": {"kind": "classify"}, "two": {"kind": "classify"}}


def wrong_on(rows: list[int], sure: float = 3.0, elsewhere: float = 3.0) -> Classifier:
    """Right everywhere but on these rows, there with the logit `sure` for the other class."""

    def logits(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
        found = np.zeros((len(labels), 2), np.float32)
        found[np.arange(len(labels)), labels] = elsewhere
        found[rows] = 0
        found[rows, 1 - labels[rows]] = sure
        return found

    return logits


def test_rows_on_which_strategies_differ_the_surest_first(tmp_path: Path) -> None:
    def mixed(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
        found = wrong_on([3])(rng, labels)
        found[7] = 0
        found[7, 1 - labels[7]] = 0.2
        return found

    classifiers = {"one": mixed, "two": wrong_on([])}
    found = disagreements(Pipeline(tmp_path, classifiers, stages=STAGES, shared=5).evidence())
    assert found["rows"] == 2
    assert [one["id"] for one in found["examples"]] == [153, 157]  # test rows come after 100 and 50 others
    first = found["examples"][0]
    assert first["texts"] == ["  TRAIN QUESTION 3", "test question 3 again"]
    assert first["label"] == "similar"
    assert first["in_training"]
    assert not found["examples"][1]["in_training"]
    assert first["strategies"] == [
        {"stage": "one", "predictions": ["different"] * 3, "right": 0, "label_probability": 0.0474},
        {"stage": "two", "predictions": ["similar"] * 3, "right": 3, "label_probability": 0.9526},
    ]


def test_every_way_of_differing_comes_before_any_comes_twice(tmp_path: Path) -> None:
    stages = {**STAGES, "three": {"kind": "classify"}}
    classifiers = {"one": wrong_on(list(range(0, 80, 2))), "two": wrong_on([90], sure=0.1), "three": wrong_on([])}
    found = disagreements(Pipeline(tmp_path, classifiers, stages=stages).evidence())
    assert found["rows"] == 41
    assert len(found["examples"]) == ROWS
    rows = [one["id"] - 150 for one in found["examples"]]
    assert rows[:2] == [0, 90]  # the only row on which `two` stands alone, though it is the least sure of all
    assert set(rows) - {90} == set(range(0, 38, 2))


def test_a_single_strategy_shows_its_surest_errors(tmp_path: Path) -> None:
    classifiers = {"one": wrong_on([4, 8], sure=2.0)}
    found = disagreements(Pipeline(tmp_path, classifiers, stages={"one": STAGES["one"]}).evidence())
    assert (found["kind"], found["rows"]) == ("errors", 2)
    assert [one["id"] for one in found["examples"]] == [154, 158]


def test_strategies_that_agree_show_nothing(tmp_path: Path) -> None:
    same = dict.fromkeys(STAGES, wrong_on([2]))
    assert disagreements(Pipeline(tmp_path, same, stages=STAGES).evidence())["examples"] == []


def test_long_texts_are_cut_and_their_length_kept(tmp_path: Path) -> None:
    pipeline = Pipeline(
        tmp_path, {"one": wrong_on([0]), "two": wrong_on([])}, stages=STAGES, texts=lambda split, row: f"{row} " * 900
    )
    (one,) = disagreements(pipeline.evidence())["examples"]
    assert [len(text) for text in one["texts"]] == [CHARACTERS, CHARACTERS]
    assert one["characters"][0] == 1800


def test_a_hundred_thousand_rows_take_seconds(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, dict.fromkeys(STAGES, guesses(0.8)), stages=STAGES, test=100_000, seeds=[1])
    found = disagreements(pipeline.evidence())
    assert found["rows"] > 10_000
    assert len(found["examples"]) == ROWS
