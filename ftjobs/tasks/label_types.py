"""What a label can be, and by which metrics a classifier of it can be chosen."""

from __future__ import annotations

from typing import Literal

LabelType = Literal["class", "float", "multi"]

#: Metrics that `metric_for_best` may name, by type of label. The first is the default; strategies are compared by it.
METRICS: dict[LabelType, tuple[str, ...]] = {
    "class": ("accuracy", "f1", "loss"),
    "float": ("mse", "pearson", "spearman", "loss"),
    "multi": ("accuracy", "f1", "f1_macro", "loss"),
}
#: Of these the lowest is best, of all others the highest.
LOWEST = ("mse", "loss")


def default_metric(label_type: LabelType) -> str:
    """The metric that the best epoch is chosen by where a stage names none."""
    return METRICS[label_type][0]
