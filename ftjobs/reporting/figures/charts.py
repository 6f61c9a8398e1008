"""Charts of the report: intervals per strategy and hypothesis, and curves by epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ftjobs.reporting.figures import matrices
from ftjobs.reporting.figures.drawing import (
    FAINT,
    INK,
    MAX_LINES,
    PALETTE,
    PAPER,
    DrawnPlot,
    FirstUse,
    add_legend,
    draw_in_style,
    label_rows,
    line_style,
    new_figure,
    save,
    set_epoch_axis,
)
from ftjobs.reporting.findings.adaptations import AdaptationResult
from ftjobs.reporting.findings.collect import Findings
from ftjobs.reporting.findings.strategies import StrategyResult
from ftjobs.reporting.findings.training_caveats import ConstantBaseline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ftjobs.reporting.text.blocks import Plot

#: Characters of a row label on one line.
_MAX_LABEL = 42
#: Marker and color of a verdict.
_VERDICTS = {"supported": ("o", PALETTE[0]), "contradicted": ("X", PALETTE[1]), "undecided": ("D", FAINT)}


def draw(plot: Plot, findings: Findings) -> DrawnPlot:
    """Draw a plot of the document."""
    with draw_in_style(plot.name):
        return save(_CHARTS[plot.name](findings), plot.name, plot.title)


def _results(findings: Findings) -> Figure:
    """Draw every strategy's score with its interval, single seeds, the constant baseline, and published results."""
    results, scale = findings.results, findings.measure.scale
    figure, (axes,) = new_figure(1.1 + 0.34 * len(results))
    label = FirstUse()
    for row, result in enumerate(results):
        marker, color, group = (
            ("s", PALETTE[1], "adapted encoder") if result.adapted else ("o", PALETTE[0], "original encoder")
        )
        low, high = (scale * limit for limit in result.score.interval)
        axes.plot([low, high], [row, row], color=color, linewidth=2.2, zorder=2)
        if len(result.seeds) > 1:
            scores = [scale * seed.score for seed in result.seeds.values()]
            axes.plot(scores, [row] * len(scores), "o", color=color, markersize=3.5, alpha=0.45, zorder=3)
        axes.plot(scale * result.score.mean, row, marker, color=color, markersize=7.5, label=label(group), zorder=4)
        if result.published:
            diamond: dict[str, Any] = {"marker": "D", "markerfacecolor": PAPER, "markeredgecolor": INK, "markersize": 6}
            published = 100 * result.published.accuracy
            axes.plot(published, row, label=label("published"), zorder=5, linestyle="", **diamond)
    level, constant = _constant_baseline(findings)
    axes.axvline(scale * level, color=FAINT, linewidth=1, linestyle=(0, (4, 3)), label=constant, zorder=1)
    label_rows(axes, [result.stage for result in results])
    axes.set_xlabel(f"test {findings.measure.axis}")
    add_legend(figure, axes)
    return figure


def _constant_baseline(findings: Findings) -> tuple[float, str]:
    """Return the score of the best constant prediction, and its name."""
    for caveat in findings.caveats:
        if isinstance(caveat.figures, ConstantBaseline):
            return caveat.figures.level, caveat.figures.answer
    counts = findings.data.labels["test"].values()
    return float(max(counts) / sum(counts)), "most frequent class"


def _hypotheses(findings: Findings) -> Figure:
    """Draw the difference of every hypothesis with its interval, in the color and shape of its verdict."""
    entries = [*findings.hypotheses, *(entry for entry in findings.does_adapting_pay if not entry.stated)]
    on_two_lines = any(len(entry.hypothesis) > _MAX_LABEL for entry in entries)
    figure, (axes,) = new_figure(1.1 + (0.42 if on_two_lines else 0.34) * len(entries))
    scale, label = findings.measure.scale, FirstUse()
    for row, entry in enumerate(entries):
        marker, color = _VERDICTS[entry.verdict]
        low, high = (scale * limit for limit in entry.interval)
        axes.plot([low, high], [row, row], color=color, linewidth=2.2, zorder=2)
        axes.plot(
            scale * entry.difference,
            row,
            marker,
            color=color,
            markersize=7.5,
            label=label(entry.verdict),
            zorder=3,
        )
        axes.plot(scale * entry.margin, row, "|", color=INK, markersize=13, markeredgewidth=1.2, zorder=1)
    axes.axvline(0, color=FAINT, linewidth=1, zorder=0)
    label_rows(axes, [_wrapped(entry.hypothesis) for entry in entries])
    axes.set_xlabel(findings.measure.difference_axis)
    add_legend(figure, axes)
    return figure


def _accuracy(findings: Findings) -> Figure:
    """Draw the test score by epoch of every strategy, with the best epochs."""
    figure, (axes,) = new_figure(3.9)
    scale = findings.measure.scale
    for result, label, style in _styled(findings):
        curves = [[scale * score for score in seed.scores_by_epoch] for seed in result.seeds.values()]
        _curve(axes, curves, style, label)
        if style["marker"]:
            epochs = [seed.best_epoch for seed in result.seeds.values()]
            heights = [curve[epoch - 1] for curve, epoch in zip(curves, epochs, strict=True)]
            edge: dict[str, Any] = {"markeredgecolor": PAPER, "markeredgewidth": 0.8, "markersize": 6.5}
            axes.plot(epochs, heights, marker=style["marker"], color=style["color"], zorder=4, linestyle="", **edge)
    axes.set_ylabel(f"test {findings.measure.axis}")
    set_epoch_axis(axes)
    add_legend(figure, axes)
    return figure


def _training_loss(findings: Findings) -> Figure:
    figure, (axes,) = new_figure(3.3)
    for result, label, style in _styled(findings):
        curves = [seed.training for seed in result.seeds.values()]
        _curve(axes, [curve.loss for curve in curves], style, label, [curve.epoch for curve in curves])
    axes.set_ylabel("training loss")
    set_epoch_axis(axes)
    add_legend(figure, axes)
    return figure


def _adaptation(findings: Findings) -> Figure:
    """Draw training and held-out loss of the objective, and perplexity, starting before the first epoch."""
    from matplotlib.ticker import LogLocator

    figure, (left, right) = new_figure(3.2, 1, 2)
    results = findings.adaptation
    for position, result in enumerate(results[:MAX_LINES]):
        style = line_style(position)
        held_out = _held_out_curves(result, "objective_loss" if "objective_loss" in result.before else "loss")
        masked = _held_out_curves(result, "loss")
        training = [seed.epochs["train_loss"] for seed in result.seeds.values()]
        name = result.stage if len(results) > 1 else ""
        epochs = [range(len(curve)) for curve in held_out]
        _curve(left, held_out, style, f"{name} held out".strip(), epochs)
        _curve(left, training, {**style, "linestyle": (0, (1.5, 1.5)), "alpha": 0.8}, f"{name} training".strip())
        _curve(right, [list(np.exp(np.minimum(curve, 700))) for curve in masked], style, name or "_", epochs)
    left.set_ylabel("loss" if any("objective_loss" in result.before for result in results) else "masked-LM loss")
    right.set_ylabel("perplexity, held out")
    right.set_yscale("log", subs=[])
    right.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=9))
    right.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 10 else f"{value:g}")
    for axes in (left, right):
        set_epoch_axis(axes)
    add_legend(figure, left)
    return figure


def _held_out_curves(result: AdaptationResult, key: str) -> list[list[float]]:
    """Return one curve per seed, starting with the original encoder."""
    return [[result.before[key], *seed.epochs[key]] for seed in result.seeds.values()]


def _curve(
    axes: Axes,
    curves: list[list[float]],
    style: dict[str, Any],
    label: str,
    epochs: Sequence[Sequence[float]] | None = None,
) -> None:
    """Draw the mean over seeds as a line, and the range over seeds as a band.

    Args:
        axes: to draw on
        curves: values of each seed
        style: from `line_style`
        label: in the legend
        epochs: positions of each seed's values; 1, 2, ... by default
    """
    positions, values = align_curves(curves, epochs or [range(1, 1 + len(curve)) for curve in curves])
    line = {**style, "marker": "" if values.shape[1] > 1 else style["marker"]}
    axes.plot(positions, np.nanmean(values, axis=0), label=label, zorder=3 if style["marker"] else 1, **line)
    if len(values) > 1 and style["marker"]:
        low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
        axes.fill_between(positions, low, high, color=style["color"], alpha=0.13, linewidth=0)


def align_curves(curves: list[list[float]], epochs: Sequence[Sequence[float]]) -> tuple[Sequence[float], np.ndarray]:
    """Interpolate the curves of S seeds at the P positions of the longest: (S, P), nan after the end of a curve."""
    longest = max(epochs, key=lambda positions: (positions[-1], len(positions)))
    if all(list(positions) == list(longest) for positions in epochs):
        return longest, np.array(curves, dtype=np.float64)
    values = [
        np.interp(longest, positions, curve, right=np.nan) for positions, curve in zip(epochs, curves, strict=True)
    ]
    return longest, np.array(values)


def _styled(findings: Findings) -> Iterator[tuple[StrategyResult, str, dict[str, Any]]]:
    """Yield every strategy with its label and line style; the best are colored if there are too many for all."""
    results = findings.results
    if len(results) <= MAX_LINES:
        yield from ((result, result.stage, line_style(position)) for position, result in enumerate(results))
        return
    sign = 1 if findings.measure.minimize else -1
    for position, result in enumerate(sorted(results, key=lambda result: sign * result.score.mean)):
        label = result.stage if position < MAX_LINES else "_"
        if position == MAX_LINES:
            label = f"{len(results) - MAX_LINES} less accurate"
        yield result, label, line_style(position)


def _wrapped(hypothesis: str) -> str:
    """Break a long hypothesis before its second strategy."""
    first, _, second = hypothesis.partition(" > ")
    return hypothesis if len(hypothesis) <= _MAX_LABEL else f"{first} >\n{second}"


_CHARTS: dict[str, Callable[[Findings], Figure]] = {
    "results": _results,
    "hypotheses": _hypotheses,
    "accuracy": _accuracy,
    "training-loss": _training_loss,
    "adaptation": _adaptation,
    "confusion": matrices.confusion,
    "calibration": matrices.calibration,
}
