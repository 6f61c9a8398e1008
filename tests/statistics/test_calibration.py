"""Expected calibration error equals manual computation."""

from __future__ import annotations

import numpy as np
import pytest

from ftjobs.statistics import calibration


def test_error_equals_manual_computation() -> None:
    """Five bins of two classes; top probabilities 0.6 and 0.55 (bin 2), 0.7 and 0.8 (bin 3), 0.9 (bin 4)."""
    probabilities = np.array([[0.6, 0.4], [0.45, 0.55], [0.7, 0.3], [0.2, 0.8], [0.1, 0.9]])
    curve = calibration(probabilities, np.array([0, 0, 1, 1, 1]), bins=5)
    assert curve.count.tolist() == [0, 0, 2, 2, 1]
    assert curve.confidence == pytest.approx([0, 0, 0.575, 0.75, 0.9])
    assert curve.accuracy == pytest.approx([0, 0, 0.5, 0.5, 1])
    assert curve.ece == pytest.approx((2 * 0.075 + 2 * 0.25 + 1 * 0.1) / 5)


def test_bin_includes_its_upper_edge() -> None:
    for bins in (4, 10, 15):
        edges = np.linspace(0, 1, bins + 1)[1:]
        curve = calibration(np.stack([edges, np.zeros(bins)], axis=1), np.zeros(bins, int), bins)
        assert curve.count.tolist() == [1] * bins


def test_full_confidence_has_error_zero_or_one() -> None:
    certain = np.eye(3)[[0, 1, 2, 0]]
    assert calibration(certain, np.array([0, 1, 2, 0])).ece == 0
    assert calibration(certain, np.array([1, 2, 0, 1])).ece == 1


def test_probability_rounded_above_one_is_in_the_last_bin() -> None:
    curve = calibration(np.array([[1.0000001, 0.0]], np.float32), np.array([0]))
    assert curve.count.tolist() == [0] * 14 + [1]


def test_true_probabilities_have_small_error() -> None:
    """Labels drawn from the probabilities: the error of each bin is sampling error."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1, 1, 1], 20_000)
    labels = (probabilities.cumsum(axis=1) < rng.random((20_000, 1))).sum(axis=1)
    assert calibration(probabilities, labels).ece < 0.015
    sharper = probabilities**3 / (probabilities**3).sum(axis=1, keepdims=True)
    assert calibration(sharper, labels).ece > 0.1


def test_empty_and_mismatched_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match="N > 0"):
        calibration(np.zeros((0, 2)), np.zeros(0, int))
    with pytest.raises(ValueError, match=r"\(3, 2\) and \(2,\)"):
        calibration(np.zeros((3, 2)), np.zeros(2, int))
