"""Report sections on errors: confusion, calibration, figures per label, and example rows."""

from __future__ import annotations

from typing import Any

from ftjobs.reporting.figures.matrices import MOST_MATRICES
from ftjobs.reporting.measures import measure, task_of
from ftjobs.reporting.text.blocks import Examples, Plot, Prose, Section, Table
from ftjobs.reporting.text.phrases import code, quoted, spread


def errors(content: dict[str, Any]) -> Section | None:
    """Confusion matrices and calibration of single classes; None without them."""
    if not content["confusion"]:
        return None
    caption = "Rows are the true class, columns the predicted one: share of the row, and test rows per seed."
    if len(content["confusion"]) > MOST_MATRICES:
        caption += f" The {MOST_MATRICES} most accurate strategies; all are in `report.json`."
    errors = {one["stage"]: one["ece"] for one in content["calibration"]}
    ece = Table(
        ["model", "expected calibration error, %"],
        [[code(name), spread(**one)] for name, one in errors.items()],
        numeric=1,
    )
    calibrated = (
        "A model is calibrated when it is right as often as it is sure. The expected calibration error is the mean "
        "distance from that, over 15 bins (Guo et al. 2017)."
    )
    return Section(
        "Errors and confidence",
        [
            Plot("confusion", "Confusion matrices", caption),
            Prose(calibrated),
            ece,
            Plot(
                "calibration", "How often a model is right, by how sure it is", "Larger dots stand for more test rows."
            ),
        ],
    )


#: Labels in the table; all are in `report.json`.
_MOST = 30


def by_label(content: dict[str, Any]) -> Section | None:
    """F1 of every label under every strategy; None where labels are not several at once."""
    found = content.get("labels")
    if not found or not content["results"]:
        return None
    names = [row["stage"] for row in content["results"]]
    rows = [
        [
            quoted(one["label"]),
            f"{one['rows']['train']:,}",
            f"{one['rows']['test']:,}",
            *(spread(**one["strategies"][name]["f1"]) for name in names),
        ]
        for one in found[:_MOST]
    ]
    text = "F1 of each label in per cent, the most frequent first, with the rows that have it in training and test. "
    text += f"The {_MOST} most frequent; all" if len(found) > _MOST else "Precision and recall"
    text += " are in `report.json`."
    return Section(
        "Labels", [Prose(text), Table(["label", "in training", "in test", *map(code, names)], rows, numeric=1)]
    )


def examples(content: dict[str, Any]) -> Section | None:
    """Test rows on which strategies disagree, or are wrong with confidence; None where there are none."""
    found = content["disagreements"]
    if not found["examples"]:
        return None
    shown = len(found["examples"])
    total = content["data"]["rows"]["test"]
    if measure(content).graded:
        return Section(
            "Where predictions are furthest apart" if found["kind"] == "disagreements" else "Largest errors",
            [Prose(_of_numbers(content)), Examples(found["examples"], content["data"]["text_columns"])],
        )
    if found["kind"] == "errors":
        title = "Errors made with most confidence"
        text = f"Every seed is wrong on {found['rows']:,} of {total:,} test rows; these {shown} with most confidence."
    else:
        title = "Where strategies disagree most"
        text = (
            f"Strategies disagree on {found['rows']:,} of {total:,} test rows. Here are {shown} for somebody who knows "
            "the domain: of every way in which they divide, the rows on which their probabilities differ most."
        )
    if task_of(content).label_sets:
        text = text.replace("on which their probabilities differ most", "on which most labels differ")
        text = text.replace(" with most confidence", " by most labels")
        text += " In brackets: how many of all labels a strategy has right, over its seeds."
    else:
        text += " In brackets: how probable a strategy holds the label, over its seeds."
    return Section(title, [Prose(text), Examples(found["examples"], content["data"]["text_columns"])])


def _of_numbers(content: dict[str, Any]) -> str:
    shown = len(content["disagreements"]["examples"])
    if content["disagreements"]["kind"] == "errors":
        return f"The {shown} test rows whose predictions, over seeds, are furthest from the label."
    return (
        f"The {shown} test rows on which the mean predictions of the strategies are furthest apart, for somebody who "
        "knows the domain. In brackets: how far a strategy is from the label, over its seeds."
    )
