"""Commands that use a trained classifier: predict, evaluate."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from ftjobs.cli.app import AsJson, command, make_table, print_table

#: Metric -> its label in the table, where it differs.
_METRIC_LABELS = {
    "f1": "F1",
    "f1_macro": "F1, mean over labels",
    "mse": "mean squared error",
    "pearson": "Pearson",
    "spearman": "Spearman",
}
Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="Model folder, artifact URI (see `ftjobs ls`), or s3:// address.", show_default=False
    ),
]
Input = Annotated[
    str,
    typer.Argument(
        metavar="INPUT", help="File, glob or folder of csv, tsv, jsonl, parquet or txt files.", show_default=False
    ),
]
Text = Annotated[
    list[str] | None,
    typer.Option(
        "--text", metavar="COLUMN", help="Text column, if not named as in training. Repeat it for pairs of texts."
    ),
]


@command("ftjobs predict ./model new.csv --out predictions.csv")
def predict(
    model: Model,
    source: Input,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="New .csv, .jsonl or .parquet file.", show_default=False)
    ],
    text: Text = None,
) -> None:
    """Predict the label of every row of a file. Classes come with their probabilities."""
    from ftjobs.system.progress import log_to_stderr

    log_to_stderr()
    from ftjobs import predicting

    with tempfile.TemporaryDirectory(prefix="ftjobs-") as work:
        classifier = predicting.Classifier.load(model, Path(work))
        rows, truncated = predicting.predict(classifier, source, text, out)
    note = f"; {truncated:,} were longer than {classifier.max_length:,} tokens and were truncated" if truncated else ""
    print(f"{rows:,} rows{note}", file=sys.stderr)
    print(out)


@command("ftjobs evaluate ./model labeled.csv --label topic")
def evaluate(
    model: Model,
    source: Input,
    text: Text = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label", metavar="COLUMN", help="Label column, if not named as in training. Repeat it for several."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a classifier on a labeled file. Reports accuracy with its 95 % interval, F1 and loss; for numeric
    labels, mean squared error and correlations."""
    from ftjobs.system.progress import log_to_stderr

    log_to_stderr()
    from ftjobs import predicting

    with tempfile.TemporaryDirectory(prefix="ftjobs-") as work:
        classifier = predicting.Classifier.load(model, Path(work))
        evaluation = predicting.evaluate(classifier, source, text, label)
    if as_json:
        print(json.dumps(evaluation.as_json()))
        return
    rows = [[_METRIC_LABELS.get(name, name), value, ""] for name, value in evaluation.metrics.items()]
    rows[0][2] = f"{evaluation.interval.low:.4f} to {evaluation.interval.high:.4f}"
    rows += [["rows", evaluation.rows, ""], ["truncated", evaluation.truncated, ""]]
    print_table(make_table(["metric", "value", "95 % interval"], rows))
