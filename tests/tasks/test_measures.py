"""Number format and wording of measures."""

from __future__ import annotations

import pytest

from ftjobs.tasks import all_tasks, get_task
from tests.helpers.messages import mentions

MINUS = "\N{MINUS SIGN}"


def test_measure_is_the_default_metric_and_lists_the_others() -> None:
    for task in all_tasks():
        measure = task.measure
        assert measure.key == task.default_metric.key
        assert {name for name, _ in measure.others} == {metric.key for metric in task.metrics[1:]} - {"loss"}


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0.02, 0.02, "+2.0 points of accuracy"),
        (0.01, 0.02, "+1.0 to +2.0 points of accuracy"),
        (-0.02, -0.02, f"{MINUS}2.0 points of accuracy"),
    ],
)
def test_gains_of_accuracy(low: float, high: float, text: str) -> None:
    assert get_task("class").measure.gain(low, high) == get_task("multi").measure.gain(low, high) == text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0.25, 0.25, "a mean squared error lower by 0.25"),
        (0.1, 0.25, "a mean squared error lower by 0.1 to 0.25"),
        (-0.25, -0.1, "a mean squared error higher by 0.1 to 0.25"),
        (-0.1, 0.25, f"a mean squared error lower by {MINUS}0.1 to 0.25"),
    ],
)
def test_gains_of_squared_errors(low: float, high: float, text: str) -> None:
    assert get_task("float").measure.gain(low, high) == text


def test_squared_errors_are_no_shares() -> None:
    measure = get_task("float").measure
    assert measure.with_unit(1234.5678) == "1235"
    assert measure.interval(0.01, 12.3456) == "0.01 to 12.3"
    assert measure.difference(-0.5) == f"{MINUS}0.5"
    assert measure.against(0.5, 0.75, 0.25).endswith(" by +0.25")
    assert mentions(measure.against(0.5, 0.75, 0.25), "0.5 against 0.75", "better")
    assert "%" not in measure.level_strong(0.5, (0.4, 0.6)).replace("95 %", "")


def test_a_difference_too_small_to_show_has_no_minus() -> None:
    measure = get_task("class").measure
    assert measure.difference(-1e-17) == "+0.00"
    assert measure.difference(-0.014) == f"{MINUS}1.40"
    assert measure.difference_interval(-0.0002, 0.1) == "+0.0 to +10.0"
