"""Plots with one panel per strategy: confusion matrices and reliability diagrams."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ftjobs.reporting.figures.drawing import FAINT, INK, PALETTE, blank
from ftjobs.reporting.text.phrases import softly_cut

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Panels drawn, and classes in one; of more classes the least frequent are counted together.
MOST_MATRICES, MOST_CLASSES = 12, 12
_OTHERS = "others"
#: The darkest shade, on which the page's own text is still easy to read, on white and on black.
_SHADE = 0.55


def confusion(content: dict[str, Any]) -> Figure:
    """Confusion matrices, rows adding up to one."""
    from matplotlib.patches import Rectangle

    classes = content["data"]["classes"]
    chosen = _most_accurate(content, content["confusion"])
    size = min(len(classes), MOST_CLASSES)
    columns = 4 if size <= 3 else 3 if size <= 5 else 2
    figure, panels = _panels(len(chosen), columns, 1.05 if size <= 5 else 1.15)
    for place, (axes, entry) in enumerate(zip(panels, chosen, strict=True)):
        names, counts = _folded(classes, np.array(entry["counts"]))
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        for row, column in np.ndindex(counts.shape):
            shade = Rectangle(
                (column - 0.5, row - 0.5), 1, 1, color=PALETTE[0], alpha=_SHADE * shares[row, column], lw=0
            )
            axes.add_patch(shade)
            text = _cell(float(shares[row, column]), float(counts[row, column]) / len(content["seeds"]), size)
            axes.text(column, row, text, ha="center", va="center", fontsize=8 if size <= 5 else 6, color=INK)
        labels = [softly_cut(" ".join(name.split()), 14) for name in names]
        axes.set_xticks(range(len(names)), labels, fontsize=7.5, rotation=0 if size <= 3 else 90)
        axes.set_yticks(range(len(names)), labels if place % columns == 0 else [""] * len(names), fontsize=7.5)
        axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(names) - 0.5, -0.5), aspect="equal")
        axes.grid(visible=False)
        _title(axes, entry["stage"])
    figure.supxlabel("predicted", fontsize=9, color=INK)
    figure.supylabel("true", fontsize=9, color=INK)
    return figure


def calibration(content: dict[str, Any]) -> Figure:
    """Reliability diagrams: accuracy by confidence; dots on the diagonal are calibrated."""
    chosen = _most_accurate(content, content["calibration"])
    figure, panels = _panels(len(chosen), 4, 1.12)
    for place, (axes, entry) in enumerate(zip(panels, chosen, strict=True)):
        confidence, accuracy = 100 * np.array(entry["confidence"]), 100 * np.array(entry["accuracy"])
        count = np.array(entry["count"])
        axes.plot([0, 100], [0, 100], color=FAINT, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        axes.plot(confidence, accuracy, color=PALETTE[0], linewidth=1.1, alpha=0.6, zorder=2)
        axes.scatter(confidence, accuracy, s=8 + 130 * count / count.sum(), color=PALETTE[0], linewidths=0, zorder=3)
        axes.set(xlim=(0, 103), ylim=(0, 103), aspect="equal")
        axes.set_xticks((0, 50, 100))
        axes.set_yticks((0, 50, 100))
        axes.tick_params(labelleft=place % 4 == 0, labelsize=7.5)
        axes.text(0.05, 0.95, f"ECE {100 * entry['ece']['mean']:.1f} %", transform=axes.transAxes, va="top", fontsize=8)
        _title(axes, entry["stage"])
    figure.supxlabel("how sure, %", fontsize=9, color=INK)
    figure.supylabel("how often right, %", fontsize=9, color=INK)
    return figure


def _panels(number: int, columns: int, ratio: float) -> tuple[Figure, list[Axes]]:
    """A grid with room for `number` panels, those that are left over taken away; `ratio` of height to width."""
    from ftjobs.reporting.figures.drawing import WIDTH

    rows = math.ceil(number / columns)
    figure, axes = blank(0.45 + rows * ratio * (WIDTH - 0.4) / columns, rows, columns)
    for left_over in axes[number:]:
        left_over.remove()
    return figure, axes[:number]


def _most_accurate(content: dict[str, Any], entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entries of as many strategies as are drawn, in the job's order."""
    accuracy = {row["stage"]: row["accuracy"]["mean"] for row in content["results"]}
    kept = sorted(accuracy, key=lambda stage: -accuracy[stage])[:MOST_MATRICES]
    return [entry for entry in entries if entry["stage"] in kept]


def _folded(classes: list[str], counts: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Names and counts with the least frequent classes added up, where there are more than can be drawn."""
    if len(classes) <= MOST_CLASSES:
        return classes, counts
    kept = np.sort(np.argsort(-counts.sum(axis=1), kind="stable")[: MOST_CLASSES - 1])
    target = np.full(len(classes), MOST_CLASSES - 1)
    target[kept] = np.arange(len(kept))
    folded = np.zeros((MOST_CLASSES, MOST_CLASSES))
    np.add.at(folded, (target[:, None], target[None, :]), counts)
    return [*(classes[index] for index in kept), _OTHERS], folded


def _cell(share: float, count: float, classes: int) -> str:
    """What stands in a cell; nothing but the share where there is no room."""
    if classes > 5:
        return f"{100 * share:.0f}" if share >= 0.005 else ""
    return f"{100 * share:.0f} %\n{count:,.0f}"


def _title(axes: Axes, stage: str) -> None:
    axes.set_title(softly_cut(stage, 26), fontsize=8)
