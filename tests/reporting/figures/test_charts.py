"""Curves of seeds with different lengths, and plots of adapt stages."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ftjobs.reporting.figures.charts import align_curves, draw
from ftjobs.reporting.text.blocks import Plot
from tests.helpers.published import Pipeline


def test_curves_are_aligned_at_the_epochs_of_the_longest() -> None:
    epochs, values = align_curves([[4.0, 2.0], [6.0, 5.0, 4.0]], [[1, 2], [1, 2, 3]])
    assert list(epochs) == [1, 2, 3]
    np.testing.assert_array_equal(values, [[4.0, 2.0, np.nan], [6.0, 5.0, 4.0]])


def test_curves_are_interpolated_at_other_positions() -> None:
    _, values = align_curves([[4.0, 2.0], [6.0, 5.0, 4.0]], [[0.5, 1.5], [0.5, 1.0, 2.0]])
    np.testing.assert_array_equal(values, [[4.0, 3.0, np.nan], [6.0, 5.0, 4.0]])


def test_adaptation_plot_shows_every_stage(tmp_path: Path) -> None:
    stages = {"first": {"kind": "adapt"}, "second": {"kind": "adapt"}}
    findings = Pipeline(tmp_path, {}, stages=stages, seeds=[1]).findings()
    svg = draw(Plot("adaptation", "title", "caption"), findings).svg
    assert "first held out" in svg
    assert "second training" in svg
