"""Commands that use a trained classifier."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from ftjobs.cli.app import AsJson, app
from ftjobs.cli.tables import aligned, print_table

#: What metrics are called, if not by their names.
_NAMES = {
    "f1": "F1",
    "f1_macro": "F1, mean over labels",
    "mse": "mean squared error",
    "pearson": "Pearson",
    "spearman": "Spearman",
}
Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A model folder, an address that `ls` prints, or s3://….", show_default=False),
]
Input = Annotated[
    str,
    typer.Argument(
        metavar="INPUT", help="csv, tsv, jsonl, parquet or txt; a file, a glob or a folder.", show_default=False
    ),
]
Text = Annotated[
    list[str] | None,
    typer.Option("--text", metavar="COLUMN", help="Text column, if not that of the training; twice for pairs."),
]


@app.command()
def predict(
    model: Model,
    source: Input,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="A new .csv, .jsonl or .parquet file.")],
    text: Text = None,
) -> None:
    """Predict the class of every row of a file, with a probability for each class."""
    from ftjobs.system.progress import log_to_stderr

    log_to_stderr()
    from ftjobs import predicting

    with tempfile.TemporaryDirectory(prefix="ftjobs-") as work:
        classifier = predicting.Classifier.load(model, Path(work))
        rows, cut = predicting.predict(classifier, source, text, out)
    longer = f"; {cut:,} were longer than {classifier.max_length:,} tokens and were cut" if cut else ""
    print(f"{rows:,} rows{longer}", file=sys.stderr)
    print(out)


@app.command()
def evaluate(
    model: Model,
    source: Input,
    text: Text = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="COLUMN", help="Column of the label, if not that of the training."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare a classifier's predictions with the labels of a file: accuracy with its 95 % interval, F1, loss; of
    numbers the mean squared error and correlations."""
    from ftjobs.system.progress import log_to_stderr

    log_to_stderr()
    from ftjobs import predicting

    with tempfile.TemporaryDirectory(prefix="ftjobs-") as work:
        classifier = predicting.Classifier.load(model, Path(work))
        found = predicting.evaluate(classifier, source, text, label)
    if as_json:
        print(json.dumps(found.as_json()))
        return
    interval = f"{found.interval.low:.4f} to {found.interval.high:.4f}"
    rows = [[_NAMES.get(name, name), value, ""] for name, value in found.metrics.items()]
    rows[0][2] = interval
    rows += [["rows", found.rows, ""], ["cut", found.truncated, ""]]
    print_table(aligned(["metric", "value", "95 % interval"], rows))
