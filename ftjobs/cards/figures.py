"""What a classifier reached, and what it is for, by the type of its labels."""

from __future__ import annotations

from ftjobs.cards.made import CardContext
from ftjobs.cards.markdown import code, listed
from ftjobs.statistics import proportion_interval

#: What the best epoch had, by metric.
BEST = {
    "accuracy": "highest accuracy",
    "f1": "highest F1",
    "f1_macro": "highest macro F1",
    "loss": "lowest cross-entropy",
    "mse": "lowest mean squared error",
    "pearson": "highest Pearson correlation",
    "spearman": "highest Spearman correlation",
}


def what_for(made: CardContext) -> str:
    """What it does with which texts."""
    texts = " and ".join(code(column) for column in made.data["text_columns"])
    pairs = "pairs of texts" if len(made.data["text_columns"]) == 2 else "texts"
    if made.label_type == "float":
        return f"regression model that gives {pairs} ({texts}) a number, {code(made.classes[0])}"
    if made.label_type == "multi":
        return (
            f"classifier of {pairs} ({texts}) that gives each any number of {len(made.classes)} labels "
            f"({listed(made.classes)})"
        )
    return f"classifier of {pairs} ({texts}) into {len(made.classes)} classes ({listed(made.classes)})"


def rows(made: CardContext) -> list[list[str]]:
    """Metric, best epoch, interval, last epoch."""
    metrics, last = made.metrics, made.metrics["last"]
    if made.label_type == "float":
        low, high = made.error_interval()
        return [
            ["mean squared error", f"{metrics['mse']:.4g}", f"{low:.4g} to {high:.4g}", f"{last['mse']:.4g}"],
            ["Pearson correlation", f"{metrics['pearson']:.4f}", "", f"{last['pearson']:.4f}"],
            ["Spearman correlation", f"{metrics['spearman']:.4f}", "", f"{last['spearman']:.4f}"],
        ]
    test = made.data["rows"]["test"]
    found = proportion_interval(round(metrics["accuracy"] * test), test)
    interval = f"{percent(found.low)} to {percent(found.high)}"
    f1 = f"F1 of {code(made.classes[1])}" if len(made.classes) == 2 else "F1, mean over classes"
    accuracy, more = "accuracy", []
    if made.label_type == "multi":
        accuracy, f1 = "accuracy, every label right", "F1, micro"
        more = [["F1, macro", percent(metrics["f1_macro"]), "", percent(last["f1_macro"])]]
    return [
        [accuracy, percent(metrics["accuracy"]), interval, percent(last["accuracy"])],
        [f1, percent(metrics["f1"]), "", percent(last["f1"])],
        *more,
        ["cross-entropy", f"{metrics['loss']:.4f}", "", f"{last['loss']:.4f}"],
    ]


def percent(share: float) -> str:
    """`85.05 %`"""
    return f"{100 * share:.2f} %"
