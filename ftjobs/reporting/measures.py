"""What strategies are compared by, and how a reader is told: accuracy, or where labels are numbers squared errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ftjobs.reporting.text import phrases
from ftjobs.reporting.text.phrases import percent, point_interval, points


@dataclass(frozen=True)
class Accuracy:
    """Share of rows that are right; of several labels, of rows with every label right. Higher is better."""

    key: str = "accuracy"
    name: str = "accuracy"
    others: tuple[tuple[str, str], ...] = (("f1", "F1, %"),)
    """Further metrics, each with its column in the table of results."""
    unit: str = ", %"
    axis: str = "accuracy, %"
    difference_axis: str = "difference in test accuracy, points"
    scale: float = 100.0
    """From a figure to what plots show."""
    graded: bool = False

    def figure(self, value: float, digits: int = 2) -> str:
        """`85.05`"""
        return percent(value, digits)

    def other(self, mean: float, sd: float | None) -> str:
        """One of the `others` with its spread."""
        return phrases.spread(mean, sd)

    def spread(self, mean: float, sd: float | None) -> str:
        """`85.05 ± 0.91`"""
        return phrases.spread(mean, sd)

    def interval(self, low: float, high: float) -> str:
        """`79.2 to 89.3`"""
        return phrases.interval(low, high)

    def difference(self, value: float, digits: int = 2) -> str:
        """`+1.40`, how much better the first is."""
        return points(value, digits)

    def difference_interval(self, low: float, high: float) -> str:
        """`-1.0 to +4.3`"""
        return point_interval(low, high)

    def amount(self, value: float) -> str:
        """`2.0 points`"""
        return f"{percent(value, 1)} points"

    def with_unit(self, value: float, digits: int = 2) -> str:
        """`85.05 %`"""
        return f"{percent(value, digits)} %"

    def gain(self, low: float, high: float) -> str:
        """The size of an effect, or the range of several, for a headline."""
        span = points(low, 1) if round(low, 3) == round(high, 3) else f"{points(low, 1)} to {points(high, 1)}"
        return f"{span} points of accuracy"

    def against(self, first: float, second: float, difference: float) -> str:
        """Two strategies side by side."""
        return f"{percent(first)} against {percent(second)} % of the test rows right, {points(difference)} points"

    def level(self, value: float, digits: int = 2) -> str:
        """`right on 85.05 % of the test rows`, behind "is"."""
        return f"is right on {percent(value, digits)} % of the test rows"

    def level_strong(self, value: float, interval: tuple[float, float]) -> str:
        """The same of the model to ship."""
        return (
            f"It is right on **{percent(value)} %** of the test rows (95 % interval {phrases.interval(*interval)} %)."
        )


class SquaredError(Accuracy):
    """Mean squared error, lower is better. Differences are how much lower that of the first is."""

    def figure(self, value: float, digits: int = 2) -> str:
        return f"{value:.4g}"

    def other(self, mean: float, sd: float | None) -> str:
        return f"{mean:.4f}" if sd is None else f"{mean:.4f} ± {sd:.4f}"

    def spread(self, mean: float, sd: float | None) -> str:
        return f"{mean:.4g}" if sd is None else f"{mean:.4g} ± {sd:.2g}"

    def interval(self, low: float, high: float) -> str:
        return f"{low:.3g} to {high:.3g}"

    def difference(self, value: float, digits: int = 2) -> str:
        return f"{value:+.3g}".replace("-", phrases.MINUS)

    def difference_interval(self, low: float, high: float) -> str:
        return f"{self.difference(low)} to {self.difference(high)}"

    def amount(self, value: float) -> str:
        return f"{value:.3g}"

    def with_unit(self, value: float, digits: int = 2) -> str:
        return self.figure(value)

    def gain(self, low: float, high: float) -> str:
        way = "higher" if high < 0 else "lower"
        if high < 0:
            low, high = -high, -low
        span = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
        return f"a mean squared error {way} by {span}".replace("-", phrases.MINUS)

    def against(self, first: float, second: float, difference: float) -> str:
        return (
            f"a mean squared error of {self.figure(first)} against {self.figure(second)} on the test rows, better by "
            f"{self.difference(difference)}"
        )

    def level(self, value: float, digits: int = 2) -> str:
        return f"has a mean squared error of {self.figure(value)} on the test rows"

    def level_strong(self, value: float, interval: tuple[float, float]) -> str:
        return (
            f"Its mean squared error on the test rows is **{self.figure(value)}** (95 % interval "
            f"{self.interval(*interval)})."
        )


_MEASURES: dict[str, Accuracy] = {
    "class": Accuracy(),
    "multi": Accuracy(others=(("f1", "F1 micro, %"), ("f1_macro", "F1 macro, %"))),
    "float": SquaredError(
        key="mse",
        name="mean squared error",
        others=(("pearson", "Pearson"), ("spearman", "Spearman")),
        unit="",
        axis="mean squared error",
        difference_axis="how much lower the mean squared error on test rows is",
        scale=1.0,
        graded=True,
    ),
}


def measure_of(label_type: str) -> Accuracy:
    """The measure that labels of a type are compared by."""
    return _MEASURES[label_type]


def measure(content: dict[str, Any]) -> Accuracy:
    """The measure of a report, from its findings."""
    return _MEASURES[content["data"].get("label_type", "class")]
