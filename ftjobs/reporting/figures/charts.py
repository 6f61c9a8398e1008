"""The plots of the report, each drawn from its findings alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ftjobs.reporting.figures import matrices
from ftjobs.reporting.figures.drawing import (
    FAINT,
    INK,
    MOST_COLOURS,
    PALETTE,
    PAPER,
    Drawn,
    blank,
    finished,
    look,
    style,
)
from ftjobs.reporting.measures import measure
from ftjobs.reporting.text.phrases import softly_cut
from ftjobs.tasks.measures import Measure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ftjobs.reporting.text.blocks import Plot

#: Characters that a label beside a plot may have on one line.
_LONG = 42
_VERDICTS = {"supported": ("o", PALETTE[0]), "contradicted": ("X", PALETTE[1]), "undecided": ("D", FAINT)}


def draw(plot: Plot, content: dict[str, Any]) -> Drawn:
    """One of the plots that the document names."""
    with style(plot.name):
        return finished(_PLOTS[plot.name](content), plot.name, plot.title)


def _results(content: dict[str, Any]) -> Figure:
    """Accuracy of every strategy with its interval; single seeds; the majority class; what was published."""
    rows, by = content["results"], measure(content)
    figure, (axes,) = blank(1.1 + 0.34 * len(rows))
    names = [row["stage"] for row in rows]
    labelled: set[str] = set()

    def once(label: str) -> str:
        fresh = label not in labelled
        labelled.add(label)
        return label if fresh else "_"

    for place, row in enumerate(rows):
        found, colour = row[by.key], PALETTE[1] if row["adapted"] else PALETTE[0]
        what = "on the adapted encoder" if row["adapted"] else "on the encoder as it came"
        low, high = (by.scale * edge for edge in found["interval"])
        axes.plot([low, high], [place, place], color=colour, linewidth=2.2, zorder=2)
        if len(row["seeds"]) > 1:
            seeds = [by.scale * one[by.key] for one in row["seeds"].values()]
            axes.plot(seeds, [place] * len(seeds), "o", color=colour, markersize=3.5, alpha=0.45, zorder=3)
        marker = "s" if row["adapted"] else "o"
        axes.plot(by.scale * found["mean"], place, marker, color=colour, markersize=7.5, label=once(what), zorder=4)
        if row["published"]:
            style: dict[str, Any] = {
                "marker": "D",
                "markerfacecolor": PAPER,
                "markeredgecolor": INK,
                "markersize": 6,
                "linestyle": "",
            }
            axes.plot(100 * row["published"]["accuracy"], place, label=once("published"), zorder=5, **style)
    level, what = _constant(content)
    axes.axvline(by.scale * level, color=FAINT, linewidth=1, linestyle=(0, (4, 3)), label=what, zorder=1)
    _names_on_the_left(axes, names)
    axes.set_xlabel(f"test {by.axis}")
    _legend(figure, axes)
    return figure


def _constant(content: dict[str, Any]) -> tuple[float, str]:
    """What always answering the same would reach, and what that answer is."""
    for one in content["caveats"]:
        if one["kind"] == "constant answer":
            return one["figures"]["level"], one["figures"]["answer"]
    balance = content["data"]["labels"]["test"].values()
    return float(max(balance) / sum(balance)), "most frequent class"


def _hypotheses(content: dict[str, Any]) -> Figure:
    """Difference of every hypothesis with its interval, in the colour and shape of its verdict."""
    entries = [*content["hypotheses"], *(one for one in content["does_adapting_pay"] if not one["stated"])]
    long = any(len(one["hypothesis"]) > _LONG for one in entries)
    figure, (axes,) = blank(1.1 + (0.42 if long else 0.34) * len(entries))
    by = measure(content)
    seen: set[str] = set()
    for place, one in enumerate(entries):
        marker, colour = _VERDICTS[one["verdict"]]
        low, high = (by.scale * edge for edge in one["interval"])
        axes.plot([low, high], [place, place], color=colour, linewidth=2.2, zorder=2)
        label = one["verdict"] if one["verdict"] not in seen else "_"
        seen.add(one["verdict"])
        axes.plot(by.scale * one["difference"], place, marker, color=colour, markersize=7.5, label=label, zorder=3)
        axes.plot(by.scale * one["margin"], place, "|", color=INK, markersize=13, markeredgewidth=1.2, zorder=1)
    axes.axvline(0, color=FAINT, linewidth=1, zorder=0)
    _names_on_the_left(axes, [_on_two_lines(one["hypothesis"]) for one in entries])
    axes.set_xlabel(by.difference_axis)
    _legend(figure, axes)
    return figure


def _accuracy(content: dict[str, Any]) -> Figure:
    """Test accuracy by epoch, every strategy in one plot, with the epochs that were chosen."""
    figure, (axes,) = blank(3.9)
    by = measure(content)
    for row, drawn in _looks(content["results"], by):
        curves = [[by.scale * value for value in one["epochs"][by.key]] for one in row["seeds"].values()]
        _curve(axes, curves, drawn, row["stage"])
        if drawn["marker"]:
            chosen = [one["best_epoch"] for one in row["seeds"].values()]
            heights = [curve[epoch - 1] for curve, epoch in zip(curves, chosen, strict=True)]
            edge: dict[str, Any] = {
                "markeredgecolor": PAPER,
                "markeredgewidth": 0.8,
                "markersize": 6.5,
                "linestyle": "",
            }
            axes.plot(chosen, heights, marker=drawn["marker"], color=drawn["color"], zorder=4, **edge)
    axes.set_ylabel(f"test {by.axis}")
    _by_epoch(figure, axes)
    return figure


def _training_loss(content: dict[str, Any]) -> Figure:
    figure, (axes,) = blank(3.3)
    for row, drawn in _looks(content["results"], measure(content)):
        training = [one["training"] for one in row["seeds"].values()]
        _curve(axes, [one["loss"] for one in training], drawn, row["stage"], [one["epoch"] for one in training])
    axes.set_ylabel("training loss")
    _by_epoch(figure, axes)
    return figure


def _adaptation(content: dict[str, Any]) -> Figure:
    """The loss that is minimized in training and on held-out text, and perplexity, from before the first epoch on."""
    from matplotlib.ticker import LogLocator

    figure, (left, right) = blank(3.2, 1, 2)
    rows = content["adaptation"]
    for place, row in enumerate(rows[:MOST_COLOURS]):
        drawn = look(place)
        held_out, masked = (
            [[row["before"][key], *one["epochs"][key]] for one in row["seeds"].values()]
            for key in ("objective_loss" if "objective_loss" in row["before"] else "loss", "loss")
        )
        training = [one["epochs"]["train_loss"] for one in row["seeds"].values()]
        name = row["stage"] if len(rows) > 1 else ""
        from_0 = [range(len(one)) for one in held_out]
        _curve(left, held_out, drawn, f"{name} held out".strip(), from_0)
        _curve(left, training, {**drawn, "linestyle": (0, (1.5, 1.5)), "alpha": 0.8}, f"{name} training".strip())
        _curve(right, [list(np.exp(np.minimum(one, 700))) for one in masked], drawn, name or "_", from_0)
    left.set_ylabel("loss" if any("objective_loss" in row["before"] for row in rows) else "masked-LM loss")
    right.set_ylabel("perplexity, held out")
    right.set_yscale("log", subs=[])
    right.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=9))
    right.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 10 else f"{value:g}")
    for axes in (left, right):
        _epochs_below(axes)
    _legend(figure, left)
    return figure


def _curve(
    axes: Axes,
    curves: list[list[float]],
    drawn: dict[str, Any],
    label: str,
    epochs: Sequence[Sequence[float]] | None = None,
) -> None:
    """The mean over seeds as a line, lowest to highest as a band; after epochs 1, 2, ... or those given for each."""
    at, values = _side_by_side(curves, epochs or [range(1, 1 + len(curve)) for curve in curves])
    line = {**drawn, "marker": "" if values.shape[1] > 1 else drawn["marker"]}
    axes.plot(at, np.nanmean(values, axis=0), label=label, zorder=3 if drawn["marker"] else 1, **line)
    if len(values) > 1 and drawn["marker"]:
        low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
        axes.fill_between(at, low, high, color=drawn["color"], alpha=0.13, linewidth=0)


def _side_by_side(curves: list[list[float]], epochs: Sequence[Sequence[float]]) -> tuple[Sequence[float], np.ndarray]:
    """Curves of several seeds at the epochs of the longest: (S, P), nan behind the end of one that stopped early."""
    longest = max(epochs, key=lambda one: (one[-1], len(one)))
    if all(list(one) == list(longest) for one in epochs):
        return longest, np.array(curves, dtype=np.float64)
    values = [np.interp(longest, at, curve, right=np.nan) for at, curve in zip(epochs, curves, strict=True)]
    return longest, np.array(values)


def _looks(rows: list[dict[str, Any]], by: Measure) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each strategy with its look. Where there are too many to tell apart, the most accurate get the colours."""
    if len(rows) <= MOST_COLOURS:
        yield from ((row, look(place)) for place, row in enumerate(rows))
        return
    ranked = sorted(rows, key=lambda row: row[by.key]["mean"] * (1 if by.minimize else -1))
    for place, row in enumerate(ranked):
        label = row["stage"] if place < MOST_COLOURS else "_"
        if place == MOST_COLOURS:
            label = f"{len(rows) - MOST_COLOURS} less accurate"
        yield {**row, "stage": label}, look(place)


def _on_two_lines(hypothesis: str) -> str:
    """A hypothesis of long names, broken where its second name begins."""
    first, _, second = hypothesis.partition(" > ")
    return hypothesis if len(hypothesis) <= _LONG else f"{first} >\n{second}"


def _names_on_the_left(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)


def _by_epoch(figure: Figure, axes: Axes) -> None:
    _epochs_below(axes)
    _legend(figure, axes)


def _epochs_below(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))


def _legend(figure: Figure, axes: Axes) -> None:
    """Below the plot, in as many columns as the names leave room for."""
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        return
    longest = max(map(len, labels))
    columns = max(1, min(len(labels), 110 // (longest + 8)))
    shown = [softly_cut(label, 60) for label in labels]
    figure.legend(handles, shown, loc="outside lower left", ncols=columns, handlelength=2.6, columnspacing=1.6)


_PLOTS: dict[str, Callable[[dict[str, Any]], Figure]] = {
    "results": _results,
    "hypotheses": _hypotheses,
    "accuracy": _accuracy,
    "training-loss": _training_loss,
    "adaptation": _adaptation,
    "confusion": matrices.confusion,
    "calibration": matrices.calibration,
}
