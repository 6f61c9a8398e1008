"""Wording and number format of the metric that compares strategies, for reports and cards."""

from __future__ import annotations

from dataclasses import dataclass

MINUS = "\N{MINUS SIGN}"


def percent(share: float, digits: int = 2) -> str:
    """Format 0.8505 as `85.05`, in per cent without the sign."""
    return f"{100 * share:.{digits}f}"


def points(difference: float, digits: int = 2) -> str:
    """Format 0.014 as `+1.40`, in percentage points."""
    text = f"{100 * difference:+z.{digits}f}"  # z: no minus before a zero
    return text.replace("-", MINUS)


def spread(mean: float, sd: float | None) -> str:
    """Format shares as `85.05`, or `85.05 ± 0.91` with several seeds."""
    return percent(mean) if sd is None else f"{percent(mean)} ± {percent(sd)}"


def interval(low: float, high: float, digits: int = 1) -> str:
    """Format two shares as `79.2 to 89.3`."""
    return f"{percent(low, digits)} to {percent(high, digits)}"


def point_interval(low: float, high: float, digits: int = 1) -> str:
    """Format two differences as `-1.0 to +4.3`, in percentage points."""
    return f"{points(low, digits)} to {points(high, digits)}"


@dataclass(frozen=True)
class Measure:
    """A share of rows, in per cent; higher is better."""

    key: str
    """Metric that strategies are compared by."""
    name: str
    others: tuple[tuple[str, str], ...]
    """Further metrics of the table of results, each with its column header."""
    unit: str = ", %"
    """Suffix of column headers."""
    scale: float = 100.0
    """Factor from metrics to plotted values."""
    graded: bool = False
    """Rows have scores of any size, instead of being right or wrong."""
    minimize: bool = False
    """Lower is better."""

    @property
    def axis(self) -> str:
        """Axis label of values."""
        return f"{self.name}, %"

    @property
    def difference_axis(self) -> str:
        """Axis label of improvements."""
        return f"difference in test {self.name}, points"

    def figure(self, value: float, digits: int = 2) -> str:
        """Format a value: `85.05`."""
        return percent(value, digits)

    def other(self, mean: float, sd: float | None) -> str:
        """Format one of the `others`, with its standard deviation over seeds."""
        return spread(mean, sd)

    def spread(self, mean: float, sd: float | None) -> str:
        """Format mean and standard deviation over seeds: `85.05 ± 0.91`."""
        return spread(mean, sd)

    def interval(self, low: float, high: float) -> str:
        """Format an interval: `79.2 to 89.3`."""
        return interval(low, high)

    def difference(self, value: float, digits: int = 2) -> str:
        """Format an improvement: `+1.40`."""
        return points(value, digits)

    def difference_interval(self, low: float, high: float) -> str:
        """Format the interval of an improvement: `-1.0 to +4.3`."""
        return point_interval(low, high)

    def amount(self, value: float) -> str:
        """Format the size of an improvement, with its unit: `2.0 points`."""
        return f"{percent(value, 1)} points"

    def with_unit(self, value: float, digits: int = 2) -> str:
        """Format a value with its unit: `85.05 %`."""
        return f"{percent(value, digits)} %"

    def gain(self, low: float, high: float) -> str:
        """Return the range of several improvements, for a headline: `+1.4 to +2.0 points of accuracy`."""
        span = points(low, 1) if round(low, 3) == round(high, 3) else f"{points(low, 1)} to {points(high, 1)}"
        return f"{span} points of {self.name}"

    def against(self, first: float, second: float, difference: float) -> str:
        """Return a comparison of two strategies."""
        return f"{percent(first)} against {percent(second)} % of the test rows right, {points(difference)} points"

    def level(self, value: float, digits: int = 2) -> str:
        """Return a predicate for a strategy: `is right on 85.05 % of the test rows`."""
        return f"is right on {percent(value, digits)} % of the test rows"

    def level_strong(self, value: float, interval: tuple[float, float]) -> str:
        """Return a sentence on the recommended model, with its 95 % interval."""
        return f"It is right on **{percent(value)} %** of the test rows (95 % interval {self.interval(*interval)} %)."


@dataclass(frozen=True)
class ErrorMeasure(Measure):
    """A mean error, such as the mean squared error; lower is better. Improvements are positive."""

    unit: str = ""
    scale: float = 1.0
    graded: bool = True
    minimize: bool = True

    @property
    def axis(self) -> str:
        return self.name

    @property
    def difference_axis(self) -> str:
        return f"decrease of the {self.name} on test rows"

    def figure(self, value: float, digits: int = 2) -> str:
        return f"{value:.4g}"

    def other(self, mean: float, sd: float | None) -> str:
        return f"{mean:.4f}" if sd is None else f"{mean:.4f} ± {sd:.4f}"

    def spread(self, mean: float, sd: float | None) -> str:
        return f"{mean:.4g}" if sd is None else f"{mean:.4g} ± {sd:.2g}"

    def interval(self, low: float, high: float) -> str:
        return f"{low:.3g} to {high:.3g}"

    def difference(self, value: float, digits: int = 2) -> str:
        return f"{value:+.3g}".replace("-", MINUS)

    def difference_interval(self, low: float, high: float) -> str:
        return f"{self.difference(low)} to {self.difference(high)}"

    def amount(self, value: float) -> str:
        return f"{value:.3g}"

    def with_unit(self, value: float, digits: int = 2) -> str:
        return self.figure(value)

    def gain(self, low: float, high: float) -> str:
        direction = "higher" if high < 0 else "lower"
        if high < 0:
            low, high = -high, -low
        span = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
        return f"a {self.name} {direction} by {span}".replace("-", MINUS)

    def against(self, first: float, second: float, difference: float) -> str:
        return (
            f"a {self.name} of {self.figure(first)} against {self.figure(second)} on the test rows, better by "
            f"{self.difference(difference)}"
        )

    def level(self, value: float, digits: int = 2) -> str:
        return f"has a {self.name} of {self.figure(value)} on the test rows"

    def level_strong(self, value: float, interval: tuple[float, float]) -> str:
        return (
            f"Its {self.name} on the test rows is **{self.figure(value)}** (95 % interval {self.interval(*interval)})."
        )
