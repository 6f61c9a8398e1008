"""Plots with one panel per strategy: confusion matrices and reliability diagrams."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ftjobs.reporting.figures.drawing import FAINT, INK, PALETTE, WIDTH, new_figure
from ftjobs.reporting.findings.collect import Findings
from ftjobs.reporting.text.phrases import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Panels of a plot, and classes of a matrix; the least frequent of more classes are added up.
MAX_PANELS, MAX_CLASSES = 12, 12
_OTHERS = "others"
#: Opacity of the darkest cell: text on it has enough contrast on white and on black.
_MAX_OPACITY = 0.55


def confusion(findings: Findings) -> Figure:
    """Draw confusion matrices with rows that add up to one."""
    from matplotlib.patches import Rectangle

    classes = findings.data.classes or []
    drawn_stages = _most_accurate(findings)
    results = [matrix for matrix in findings.confusion if matrix.stage in drawn_stages]
    size = min(len(classes), MAX_CLASSES)
    columns = 4 if size <= 3 else 3 if size <= 5 else 2
    figure, panels = _panels(len(results), columns, 1.05 if size <= 5 else 1.15)
    for position, (axes, result) in enumerate(zip(panels, results, strict=True)):
        names, counts = _folded(classes, np.array(result.counts))
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        for row, column in np.ndindex(counts.shape):
            opacity = _MAX_OPACITY * shares[row, column]
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, color=PALETTE[0], alpha=opacity, lw=0))
            text = _cell(float(shares[row, column]), float(counts[row, column]) / len(findings.seeds), size)
            axes.text(column, row, text, ha="center", va="center", fontsize=8 if size <= 5 else 6, color=INK)
        labels = [shortened(" ".join(name.split()), 14) for name in names]
        axes.set_xticks(range(len(names)), labels, fontsize=7.5, rotation=0 if size <= 3 else 90)
        axes.set_yticks(range(len(names)), labels if position % columns == 0 else [""] * len(names), fontsize=7.5)
        axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(names) - 0.5, -0.5), aspect="equal")
        axes.grid(visible=False)
        _title(axes, result.stage)
    figure.supxlabel("predicted", fontsize=9, color=INK)
    figure.supylabel("true", fontsize=9, color=INK)
    return figure


def calibration(findings: Findings) -> Figure:
    """Draw reliability diagrams: accuracy by confidence. Dots on the diagonal are calibrated."""
    drawn_stages = _most_accurate(findings)
    results = [result for result in findings.calibration if result.stage in drawn_stages]
    figure, panels = _panels(len(results), 4, 1.12)
    for position, (axes, result) in enumerate(zip(panels, results, strict=True)):
        confidence, accuracy = 100 * np.array(result.confidence), 100 * np.array(result.accuracy)
        count = np.array(result.count)
        axes.plot([0, 100], [0, 100], color=FAINT, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        axes.plot(confidence, accuracy, color=PALETTE[0], linewidth=1.1, alpha=0.6, zorder=2)
        axes.scatter(confidence, accuracy, s=8 + 130 * count / count.sum(), color=PALETTE[0], linewidths=0, zorder=3)
        axes.set(xlim=(0, 103), ylim=(0, 103), aspect="equal")
        axes.set_xticks((0, 50, 100))
        axes.set_yticks((0, 50, 100))
        axes.tick_params(labelleft=position % 4 == 0, labelsize=7.5)
        axes.text(0.05, 0.95, f"ECE {100 * result.ece.mean:.1f} %", transform=axes.transAxes, va="top", fontsize=8)
        _title(axes, result.stage)
    figure.supxlabel("confidence, %", fontsize=9, color=INK)
    figure.supylabel("accuracy, %", fontsize=9, color=INK)
    return figure


def _panels(number: int, columns: int, ratio: float) -> tuple[Figure, list[Axes]]:
    """Return a figure with `number` panels; `ratio` is the height of a panel by its width."""
    rows = math.ceil(number / columns)
    figure, axes = new_figure(0.45 + rows * ratio * (WIDTH - 0.4) / columns, rows, columns)
    for unused in axes[number:]:
        unused.remove()
    return figure, axes[:number]


def _most_accurate(findings: Findings) -> set[str]:
    """Return the strategies that are drawn."""
    ranked = sorted(findings.results, key=lambda result: -result.score.mean)
    return {result.stage for result in ranked[:MAX_PANELS]}


def _folded(classes: list[str], counts: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Add up the least frequent classes if there are more than `MAX_CLASSES`."""
    if len(classes) <= MAX_CLASSES:
        return classes, counts
    kept = np.sort(np.argsort(-counts.sum(axis=1), kind="stable")[: MAX_CLASSES - 1])
    target = np.full(len(classes), MAX_CLASSES - 1)
    target[kept] = np.arange(len(kept))
    folded = np.zeros((MAX_CLASSES, MAX_CLASSES))
    np.add.at(folded, (target[:, None], target[None, :]), counts)
    return [*(classes[index] for index in kept), _OTHERS], folded


def _cell(share: float, count: float, classes: int) -> str:
    """Format a cell: share and rows, or the share alone in a large matrix."""
    if classes > 5:
        return f"{100 * share:.0f}" if share >= 0.005 else ""
    return f"{100 * share:.0f} %\n{count:,.0f}"


def _title(axes: Axes, stage: str) -> None:
    axes.set_title(shortened(stage, 26), fontsize=8)
